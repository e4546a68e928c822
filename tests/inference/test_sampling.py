import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from llm.config.sampling import SamplingConfig
from llm.inference.sampling import draw, next_probs

LOGITS = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()


def sampling(**changes) -> SamplingConfig:
    return SamplingConfig(
        **({"temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_new_tokens": 1} | changes)
    )


def test_top_k_keeps_the_k_likeliest() -> None:
    torch.testing.assert_close(
        next_probs(LOGITS, sampling(top_k=2)), torch.tensor([[0.625, 0.375, 0.0, 0.0]])
    )


def test_top_p_keeps_the_smallest_set_that_reaches_p() -> None:
    torch.testing.assert_close(
        next_probs(LOGITS, sampling(top_p=0.7)), torch.tensor([[0.625, 0.375, 0.0, 0.0]])
    )
    torch.testing.assert_close(
        next_probs(LOGITS, sampling(top_p=0.4)), torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    )


def test_temperature_two_takes_square_roots() -> None:
    roots = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).sqrt()
    torch.testing.assert_close(next_probs(LOGITS, sampling(temperature=2.0)), roots / roots.sum())


def test_draws_follow_the_probabilities() -> None:
    """20,000 draws: the standard error of a share is at most 0.0035."""
    rows = 20_000
    generators = [np.random.default_rng(i) for i in range(rows)]
    tokens = draw(LOGITS.expand(rows, 4), sampling(), generators)
    shares = torch.bincount(tokens, minlength=4) / rows
    torch.testing.assert_close(shares, torch.tensor([0.5, 0.3, 0.15, 0.05]), atol=0.015, rtol=0)


@given(
    st.lists(st.floats(-20, 20), min_size=2, max_size=20),
    st.floats(0.1, 3),
    st.integers(0, 25),
    st.floats(0.01, 1),
    st.integers(0, 2**31),
)
def test_a_drawn_token_always_has_probability(logits, temperature, top_k, top_p, seed) -> None:
    config = sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    row = torch.tensor([logits])
    [token] = draw(row, config, [np.random.default_rng(seed)]).tolist()
    assert next_probs(row, config)[0, token] > 0

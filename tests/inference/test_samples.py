"""Texts that a model writes while it learns, and that training does not notice."""

import json
from pathlib import Path

import pytest
import torch

from llm.config.sampling import SamplesConfig
from llm.files import read_jsonl
from llm.inference.samples import TABLE, Samples
from llm.model.transformer import LanguageModel, initialise
from llm.tokenizer.load import Tokenizer
from llm.train.distributed import ranks
from llm.train.loop import Job, train
from llm.train.next_token import next_token_loss
from tests.shapes import shape
from tests.train.toy import SAMPLES, Patterns, config

CONFIG = SAMPLES | {"interval": 4, "prompts": ["a", "math."]}
CONFIG["sampling"] = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_new_tokens": 6}


class Killed(Exception):
    """Stands for a process that ends between two steps."""


def learn(tokenizer: Tokenizer, work: Path, log=lambda step, metrics: None, **changes):
    """Ten steps with dropout, checkpoints every 4."""
    network = LanguageModel(shape(dropout=0.2), tokenizer.vocab_size)
    initialise(network, 1)
    recorded: list[str] = []
    samples = Samples(
        SamplesConfig.model_validate(CONFIG | changes),
        network,
        tokenizer,
        work,
        n_steps=10,
        seed=1,
        asked=False,
        record=lambda path: recorded.append(path.read_text()),
    )
    data = Patterns(10, 1, 4)
    job = Job("toy", network, next_token_loss, data, [data.micro_batch(0, 0)], 1, sample=samples)
    with ranks("cpu") as own:
        outcome = train(job, config(), own, work, log)
    return network, outcome, samples, recorded


def test_samples_are_drawn_when_due_and_training_is_as_without_them(
    tokenizer: Tokenizer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    plain, without, none, _ = learn(tokenizer, tmp_path / "a", interval=0)
    assert none.rows() == []
    model, outcome, samples, recorded = learn(tokenizer, tmp_path / "b")
    assert outcome.history == without.history
    for one, other in zip(plain.parameters(), model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert [(row["step"], row["prompt"]) for row in samples.rows()] == [
        (step, prompt) for step in (4, 8, 10) for prompt in ("a", "math.")
    ]
    assert "  math. → " in caplog.text
    table = json.loads(recorded[-1])
    assert table["columns"] == ["step", "prompt", "text"]
    assert table["data"] == [list(row.values()) for row in samples.rows()]
    assert len(recorded) == 3
    assert (tmp_path / "b" / TABLE).is_file()


def test_a_resumed_run_has_the_samples_of_an_undisturbed_one(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    _, _, whole, _ = learn(tokenizer, tmp_path / "a", interval=3)

    def die(step: int, metrics) -> None:
        if step == 7:
            raise Killed

    with pytest.raises(Killed):
        learn(tokenizer, tmp_path / "b", die, interval=3)
    _, _, resumed, _ = learn(tokenizer, tmp_path / "b", interval=3)
    for name, samples in (("a", whole), ("b", resumed)):
        samples.write(tmp_path / f"{name}.jsonl")
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    steps = [row["step"] for row in read_jsonl(tmp_path / "b.jsonl", ("step", "prompt", "text"))]
    assert steps == [3, 3, 6, 6, 9, 9, 10, 10]


def test_other_ranks_draw_and_write_nothing(tokenizer: Tokenizer, tmp_path: Path) -> None:
    network = LanguageModel(shape(), tokenizer.vocab_size).train()
    settings = SamplesConfig.model_validate(CONFIG | {"interval": 1})
    samples = Samples(
        *(settings, network, tokenizer, tmp_path),
        n_steps=2,
        seed=1,
        asked=True,
        record=lambda path: pytest.fail("only the first rank records"),
    )
    samples(1, is_first=False)
    assert list(tmp_path.iterdir()) == []
    assert network.training

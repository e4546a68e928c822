"""One dial: `model.depth` sets everything that has a best value for a size of network.

| it sets | to | after |
|---|---|---|
| `n_layer` | depth | |
| `n_embd` | 64 x depth, in whole heads | GPT-2's smallest; Kaplan et al. 2020, section 3.1: the ratio hardly matters |
| `n_head`, `n_kv_head` | heads of 64 up to depth 12, then of 128 | GPT-2; Llama |
| `n_inner` | 4 x width; swiglu: 8/3 x width | Vaswani et al. 2017; Shazeer 2020, section 3 |
| `pretrain.max_tokens` | 20 x parameters | Hoffmann et al. 2022 |
| `pretrain.batch_tokens` | 0.2920 C^0.3271 | DeepSeek LLM (Bi et al. 2024, section 3.1) |
| `pretrain.optim.lr` | 0.3118 C^-0.1250 | the same |
| `pretrain.optim.muon_lr` | 0.02 | Jordan et al. 2024: an orthogonal update is as large at every width |
| `sft.optim.lr` | 2e-5 x 4096 / width | Llama 2 7B (Touvron et al. 2023, section 3.1) |
| `reward.optim.lr` | 1e-5 x 4096 / width | Llama 2 7B (section 3.2.2), whose 70B of twice the width has 5e-6 |
| `dpo.optim.lr` | 5e-7 x 4096 / width | Zephyr 7B (Tunstall et al. 2023) |

C is the FLOPs of the whole pretraining without embedding and output projection. Rates over
width are muP's for the matrices under Adam (Yang et al. 2022, table 3). A batch is a power of two where the ranks and
micro-batches allow, the tokens whole batches, a rate has two digits. The
vocabulary is `tokenizer.vocab_size`.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from llm.config.base import validate, value_at
from llm.config.model import ModelConfig
from llm.config.sizes import block_flops_per_token, parameter_count
from llm.config.tokenizer import TokenizerConfig
from llm.config.train import LaunchConfig, PretrainConfig
from llm.errors import ConfigError

WIDTH_PER_LAYER = 64
DEEPEST_OF_SMALL_HEADS = 12
TOKENS_PER_PARAMETER = 20
MUON_LR = 0.02
TUNED_WIDTH = 4096
ALIGNMENT_LR = {"sft": 2e-5, "reward": 1e-5, "dpo": 5e-7}  # at TUNED_WIDTH
SHOWN = 3  # keys that a refusal names


def derived(values: Mapping[str, Any], depth: int) -> dict[str, Any]:
    """What a depth sets in params.yaml's `values`, by dotted key.

    The parts of the network, block size, vocabulary, micro-batch and ranks are those of
    `values`. ConfigError where these are not valid.
    """
    config = network(values, depth)
    tokenizer = validate(TokenizerConfig, values["tokenizer"], "tokenizer")
    launch = validate(LaunchConfig, values["launch"], "launch")
    pretrain = validate(PretrainConfig, values["pretrain"], "pretrain")
    tokens = TOKENS_PER_PARAMETER * parameter_count(config, tokenizer.vocab_size)
    flops = block_flops_per_token(config) * tokens
    unit = launch.data_ranks * pretrain.micro_batch_size * config.block_size
    batch = batch_tokens(flops, unit)
    sizes = shape(depth, config.feed_forward)
    return {
        **{f"model.{key}": size for key, size in sizes.items()},
        "pretrain.optim.lr": peak_lr(flops),
        "pretrain.optim.muon_lr": MUON_LR,
        "pretrain.batch_tokens": batch,
        "pretrain.max_tokens": max(1, round(tokens / batch)) * batch,
        **{f"{stage}.optim.lr": alignment_lr(stage, config.n_embd) for stage in ALIGNMENT_LR},
    }


def network(values: Mapping[str, Any], depth: int) -> ModelConfig:
    """Section `model` of params.yaml's `values`, at another depth."""
    sizes = shape(depth, value_at(values, "model.feed_forward"))
    return validate(ModelConfig, {**values["model"], **sizes, "depth": depth}, "model")


def shape(depth: int, feed_forward: str) -> dict[str, int]:
    """The keys of section `model` that a depth sets."""
    head = 64 if depth <= DEEPEST_OF_SMALL_HEADS else 128
    n_head = math.ceil(WIDTH_PER_LAYER * depth / head)
    width = n_head * head
    inner = 64 * math.ceil(8 * width / 3 / 64) if feed_forward == "swiglu" else 4 * width
    heads = {"n_head": n_head, "n_kv_head": n_head, "head_dim": 0}
    return {"n_layer": depth, **heads, "n_embd": width, "n_inner": inner}


def peak_lr(flops: float) -> float:
    """Peak learning rate of a pretraining of so many FLOPs (Bi et al. 2024, section 3.1)."""
    return _two_digits(0.3118 * flops**-0.1250)


def batch_tokens(flops: float, unit: int) -> int:
    """Tokens per step (Bi et al. 2024, section 3.1): the nearest power of two, in whole units."""
    best = 2 ** round(math.log2(0.2920 * flops**0.3271))
    return max(1, round(best / unit)) * unit


def alignment_lr(stage: str, width: int) -> float:
    """Peak learning rate of sft, reward or dpo: the published one, times its width over ours."""
    return _two_digits(ALIGNMENT_LR[stage] * TUNED_WIDTH / width)


def set_by_depth(
    before: Mapping[str, Any], given: Mapping[str, Any], after: Mapping[str, Any]
) -> dict[str, Any]:
    """What the depth of params.yaml sets when `given` values make `after` of `before`.

    A key that is itself among the given ones is left to them. Nothing where the values did not
    agree with their depth before: what a person wrote is refused, never overwritten.
    """
    depth = value_at(after, "model.depth")
    if type(depth) is not int or depth < 1:
        return {}
    try:
        if value_at(given, "model.depth") is None and any(disagreements(before)):
            return {}
        found = derived(after, depth)
    except ConfigError:  # not valid even without the depth, and about to be refused for that
        return {}
    return {key: value for key, value in found.items() if value_at(given, key) is None}


def disagreements(values: Mapping[str, Any]) -> Iterator[str]:
    """`key=expected (here value)` for each value that is not the one that the depth sets."""
    depth = value_at(values, "model.depth")
    if depth is not None:
        for key, expected in derived(values, depth).items():
            if value_at(values, key) != expected:
                yield f"{key}={expected} (here {value_at(values, key)})"


def refusal(values: Mapping[str, Any]) -> str | None:
    """In one line what disagrees with the depth, and what to do; None where nothing does."""
    wrong = list(disagreements(values))
    if not wrong:
        return None
    depth = value_at(values, "model.depth")
    more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
    return (
        f"model.depth={depth} sets {', '.join(wrong[:SHOWN])}{more}; `llm depth {depth}` writes "
        "what it sets, `llm depth off` keeps what there is"
    )


def _two_digits(value: float) -> float:
    return float(f"{value:.1e}")

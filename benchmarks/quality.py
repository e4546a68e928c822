"""Quality per time: bits per byte after so many minutes, ours beside nanoGPT; and what each part buys.

    dvc repro tokenize
    python -m benchmarks.quality race --nanogpt ../nanoGPT
    python -m benchmarks.quality ablation --tokens 1228800

Networks of 2.6 million parameters on the project's own token shards and validation text. Ours is
stage `pretrain` as params.yaml has it, the network's size and bf16 apart; nanoGPT is its model and recipe
(AdamW, cosine, random windows, batches of 16 x 256) at 4e-3, in bf16. `race` first measures a
trainer's speed on two short runs, so that its schedule ends with its time, or up to some 15 % beside it.
A time is that of the whole run: building, compiling where params say so, training, and validating on everything.
`ablation` undoes one part of the recipe at a time, at equal tokens.
"""

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

from llm.config.base import parse_yaml, validate
from llm.config.params import PARAMS, Params, load_params
from llm.config.paths import Paths
from llm.config.presets import apply_overrides
from llm.data.blocks import Blocks, ValidationBlocks
from llm.data.shards import TokenShards
from llm.files import read_json
from llm.process import Context
from llm.stages import pretrain
from llm.tokenizer.load import Tokenizer

Result = TypeVar("Result")
BLOCK = 256
OURS = {
    "model.block_size": BLOCK,
    "model.n_layer": 5,
    "model.n_embd": 192,
    "model.n_head": 6,
    "model.n_kv_head": 6,
    "model.n_inner": 512,
    "pretrain.precision": "bf16",
}
# The stage's own record of the run, which costs a peer nothing.
UNWATCHED = {
    "pretrain.eval_interval": 1_000_000,
    "pretrain.grad_norm_interval": 0,
    "pretrain.samples.prompts": [],
}
UNDONE: dict[str, dict[str, Any]] = {
    "the recipe": {},
    "AdamW for all weights": {"pretrain.optim.optimizer": "adamw", "pretrain.optim.lr": 4e-3},
    "cosine to a tenth": {"pretrain.optim.schedule": "cosine", "pretrain.optim.min_lr_frac": 0.1},
    "outputs start as GPT-2's": {"pretrain.zero_outputs": False},
    "no QK-norm": {"model.qk_norm": False},
    "steps of 4,096 tokens": {"pretrain.batch_tokens": 4096},
    "GELU, two matrices": {"model.feed_forward": "gelu", "model.n_inner": 768},
    "learned positions": {"model.positions": "learned"},
    "fp32": {"pretrain.precision": "fp32"},
}
PROBE_TOKENS = (122_880, 614_400)
NANOGPT = {"n_layer": 5, "n_head": 6, "n_embd": 192, "dropout": 0.0, "bias": False}
NANOGPT_LR, NANOGPT_SEQUENCES, NANOGPT_WARM_UP_STEPS = 4e-3, 16, 100


class Run(NamedTuple):
    """What a training run came to."""

    parameters: int
    tokens: int
    seconds: float  # of the whole run
    bpb: float


def train_ours(overrides: Mapping[str, Any], tokens: int) -> Run:
    """Stage `pretrain` with other values of params.yaml."""
    values = {**OURS, **UNWATCHED, **overrides, "pretrain.max_tokens": tokens}
    text = apply_overrides(PARAMS.read_text(), values)
    params = validate(Params, parse_yaml(text, str(PARAMS)), "")
    with tempfile.TemporaryDirectory() as scratch:
        own = {key: f"{scratch}/{key}" for key in ("models", "metrics", "timings", "plots", "work")}
        ctx = Context("pretrain", params.paths.model_copy(update=own), Path(scratch) / "work")
        started = time.perf_counter()
        found = pretrain.run(
            ctx, launch=params.launch, model=params.model, pretrain=params.pretrain
        )
        seconds = time.perf_counter() - started
    return Run(found["parameters"], found["tokens"], seconds, found["val/bpb"])


def train_nanogpt(paths: Paths, checkout: Path, tokens: int) -> Run:
    """nanoGPT's model, optimizer, schedule and sampling of windows (its train.py), in bf16."""
    sys.path.insert(0, str(checkout))
    from model import GPT, GPTConfig  # type: ignore[import-not-found]

    tokenizer = Tokenizer.load(paths.stage("tokenizer"))
    shards = TokenShards(paths.stage("tokenize") / "train", tokenizer.hash)
    stream = shards[0 : len(shards)]
    n_steps = tokens // (NANOGPT_SEQUENCES * BLOCK)
    torch.manual_seed(1337)
    started = time.perf_counter()
    model = GPT(GPTConfig(block_size=BLOCK, vocab_size=tokenizer.vocab_size, **NANOGPT))
    optimizer = model.configure_optimizers(0.1, NANOGPT_LR, (0.9, 0.95), "cpu")
    for step in range(n_steps):
        for group in optimizer.param_groups:
            group["lr"] = nanogpt_rate(step, n_steps)
        firsts = torch.randint(len(stream) - BLOCK, (NANOGPT_SEQUENCES,)).tolist()
        rows = np.stack([stream[first : first + BLOCK + 1] for first in firsts]).astype(np.int64)
        ids = torch.from_numpy(rows)
        with torch.autocast("cpu", torch.bfloat16):
            _, loss = model(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    bpb = nanogpt_bits_per_byte(model, paths, tokenizer)
    seconds = time.perf_counter() - started
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Run(parameters, n_steps * NANOGPT_SEQUENCES * BLOCK, seconds, bpb)


def nanogpt_rate(step: int, n_steps: int) -> float:
    """Warm-up, then a cosine to a tenth."""
    if step < NANOGPT_WARM_UP_STEPS:
        return NANOGPT_LR * (step + 1) / (NANOGPT_WARM_UP_STEPS + 1)
    done = (step - NANOGPT_WARM_UP_STEPS) / max(1, n_steps - NANOGPT_WARM_UP_STEPS)
    return NANOGPT_LR * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * done)))


@torch.no_grad()
def nanogpt_bits_per_byte(model: Any, paths: Paths, tokenizer: Tokenizer) -> float:
    """On the blocks that stage `pretrain` validates on."""
    folder = paths.stage("tokenize")
    blocks = ValidationBlocks(Blocks(TokenShards(folder / "val", tokenizer.hash), BLOCK), 16)
    model.eval()
    nats, units = 0.0, 0
    for number in range(len(blocks)):
        batch = blocks[number]
        with torch.autocast("cpu", torch.bfloat16):
            _, loss = model(batch.inputs["ids"], batch.inputs["targets"])
        nats, units = nats + loss.item() * batch.units, units + batch.units
    size = read_json(folder / "val.json")
    return nats / units * size["tokens"] / size["bytes"] / math.log(2)


def alone(run: Callable[[int], Result], size: int) -> Result:
    """A run of so many tokens or steps, in a process of its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(run, size).result()


def race(train: Callable[[int], Run], minutes: Sequence[float]) -> Iterator[Run]:
    """Runs that take so long: each of as many tokens as the speed of two short ones promises."""
    short, longer = (alone(train, tokens) for tokens in PROBE_TOKENS)
    tokens_per_s = (longer.tokens - short.tokens) / (longer.seconds - short.seconds)
    fixed_s = short.seconds - short.tokens / tokens_per_s
    for each in minutes:
        yield alone(train, int(tokens_per_s * (60 * each - fixed_s)))


def row(name: str, run: Run) -> None:
    """A line of the table."""
    print(  # noqa: T201
        f"| {name} | {run.parameters:,} | {run.tokens:,} | {run.seconds / 60:.2f} | "
        f"{run.tokens / run.seconds:,.0f} | {run.bpb:.3f} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    racing = commands.add_parser("race", help="ours and nanoGPT, so many minutes each")
    racing.add_argument("--minutes", type=float, nargs="+", default=[3.0, 8.0], help="of ours")
    racing.add_argument("--peer-minutes", type=float, nargs="+", default=[3.0, 8.0, 10.0])
    racing.add_argument(
        "--nanogpt", type=Path, required=True, help="a checkout of karpathy/nanoGPT"
    )
    undoing = commands.add_parser("ablation", help="the recipe without one of its parts")
    undoing.add_argument("--tokens", type=int, required=True)
    undoing.add_argument("--only", nargs="+", choices=list(UNDONE), default=list(UNDONE))
    given = parser.parse_args()
    print("| run | parameters | tokens | minutes | tokens/s | bits per byte |")  # noqa: T201
    print("|---|---:|---:|---:|---:|---:|")  # noqa: T201
    if given.command == "ablation":
        for name in given.only:
            row(name, alone(partial(train_ours, UNDONE[name]), given.tokens))
        return
    nanogpt = partial(train_nanogpt, load_params(PARAMS).paths, given.nanogpt.resolve())
    for run in race(partial(train_ours, {}), given.minutes):
        row("ours", run)
    for run in race(nanogpt, given.peer_minutes):
        row("nanoGPT", run)


if __name__ == "__main__":
    main()

"""Training throughput and peak memory of ours beside named peers, in one run, as ratios.

    pip install -c requirements.lock -e '.[bench]' && pip install --no-deps litgpt==0.5.13
    python -m benchmarks.training --nanogpt ../nanoGPT --nanochat ../nanochat

One small GPT-2 (6 layers of 6 heads, width 384, block 256, vocabulary 8192) on batches of 16
sequences: ours and Hugging Face's Trainer start from the very same weights, so that their losses
must agree; nanoGPT is the same architecture from its own initialisation; litgpt and nanochat have
their own parts at the same sizes. Every trainer runs alone in a process of its own, its steps timed
after two that warm it up (with --compile, after compilation), in turns: --rounds times each, the
median step counts. On a busy machine tokens per CPU second with --threads 1 are the fair measure
(threads that wait for each other count as well). MFU is against the best matrix product seen in the same run.

nanoGPT and nanochat are no packages: give the folders of their checkouts, and they are imported
from there; without, they are left out.
"""

import argparse
import json
import logging
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.shapes import GPT2_SHAPE, N_SEQUENCES, VOCAB_SIZE, gpt2_weights
from llm.model.flops import flops_per_token
from llm.model.transformer import LanguageModel
from llm.train.precision import DTYPES, computing
from llm.train.throughput import matmul_flops

BLOCK = GPT2_SHAPE.block_size
N_TOKENS = N_SEQUENCES * BLOCK
LR = 1e-3
DECAY = 0.1
WARM_UP_STEPS = 2

logger = logging.getLogger("benchmark")


@dataclass(frozen=True)
class Result:
    """What one trainer did in one round."""

    step_s: list[float]
    cpu_s: list[float]  # of each step, all threads
    losses: list[float]
    peak_mib: float


def batches(n_steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The same walks through the vocabulary for every trainer: inputs and next tokens."""
    for step in range(n_steps):
        draws = np.random.Generator(np.random.PCG64([7, step]))
        strides = draws.integers(1, 4, size=(N_SEQUENCES, BLOCK + 1)).cumsum(1)
        ids = torch.from_numpy(strides + draws.integers(VOCAB_SIZE, size=(N_SEQUENCES, 1)))
        ids %= VOCAB_SIZE
        yield ids[:, :-1].contiguous(), ids[:, 1:].contiguous()


def run_loop(model: nn.Module, loss_of: Callable[[Tensor, Tensor], Tensor], n_steps: int) -> Result:
    """A plain loop with the optimizer that nanoGPT uses: fused AdamW, gradients clipped to 1."""
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    rest = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.95), fused=True)
    step_s, cpu_s, losses = [], [], []
    for inputs, targets in batches(n_steps):
        started, cpu_started = time.perf_counter(), time.process_time()
        loss = loss_of(inputs, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        step_s.append(time.perf_counter() - started)
        cpu_s.append(time.process_time() - cpu_started)
    return Result(step_s, cpu_s, losses, _peak_mib())


def train_ours(precision: str, compiled: bool, n_steps: int, checkout: Path) -> Result:
    """Our network and loss with the arithmetic of `precision`."""
    model = LanguageModel(GPT2_SHAPE, VOCAB_SIZE)
    model.load_state_dict(gpt2_weights())
    stepped: Any = torch.compile(model) if compiled else model

    def loss(inputs: Tensor, targets: Tensor) -> Tensor:
        return stepped(inputs, targets=targets)["loss"] / N_TOKENS

    with computing(model, precision):
        return run_loop(model, loss, n_steps)


def train_hugging_face(precision: str, compiled: bool, n_steps: int, checkout: Path) -> Result:
    """Hugging Face's Trainer on its own GPT-2, from our weights."""
    from benchmarks.hugging_face import train

    step_s, cpu_s, losses = train(
        list(batches(n_steps)), precision=precision, compiled=compiled, lr=LR, weight_decay=DECAY
    )
    return Result(step_s, cpu_s, losses, _peak_mib())


def train_nanogpt(precision: str, compiled: bool, n_steps: int, checkout: Path) -> Result:
    """nanoGPT's model as its train.py runs it: under autocast, with biases, without dropout."""
    sys.path.insert(0, str(checkout))
    from model import GPT, GPTConfig  # type: ignore[import-not-found]

    shape = {"n_layer": GPT2_SHAPE.n_layer, "n_head": GPT2_SHAPE.n_head}
    config = GPTConfig(
        block_size=BLOCK,
        vocab_size=VOCAB_SIZE,
        n_embd=GPT2_SHAPE.n_embd,
        dropout=0.0,
        bias=True,
        **shape,
    )
    model = GPT(config)
    stepped: Any = torch.compile(model) if compiled else model

    def loss(inputs: Tensor, targets: Tensor) -> Tensor:
        with _autocast(precision):
            return stepped(inputs, targets)[1]

    return run_loop(model, loss, n_steps)


def train_litgpt(precision: str, compiled: bool, n_steps: int, checkout: Path) -> Result:
    """litgpt's GPT (rotary, GELU, LayerNorm, biases) with its chunked loss, under autocast."""
    from litgpt.config import Config  # type: ignore[import-not-found]
    from litgpt.model import GPT  # type: ignore[import-not-found]
    from litgpt.utils import chunked_cross_entropy  # type: ignore[import-not-found]

    config = Config(
        block_size=BLOCK,
        padded_vocab_size=VOCAB_SIZE,
        n_layer=GPT2_SHAPE.n_layer,
        n_head=GPT2_SHAPE.n_head,
        n_embd=GPT2_SHAPE.n_embd,
    )
    torch.manual_seed(1)
    model = GPT(config)
    stepped: Any = torch.compile(model) if compiled else model

    def loss(inputs: Tensor, targets: Tensor) -> Tensor:
        with _autocast(precision):
            return chunked_cross_entropy(stepped(inputs), targets, chunk_size=0)

    return run_loop(model, loss, n_steps)


def train_nanochat(precision: str, compiled: bool, n_steps: int, checkout: Path) -> Result:
    """nanochat's GPT (ReLU², QK-norm, untied) in its own precision, with AdamW as the others."""
    os.environ["NANOCHAT_DTYPE"] = {"bf16": "bfloat16", "fp32": "float32"}[precision]
    sys.path.insert(0, str(checkout))
    from nanochat.gpt import GPT, GPTConfig  # type: ignore[import-not-found]

    shape = {"n_layer": GPT2_SHAPE.n_layer, "n_head": GPT2_SHAPE.n_head}
    kv_heads = {"n_kv_head": GPT2_SHAPE.n_kv_head, "window_pattern": "L"}
    sizes = {"sequence_len": BLOCK, "vocab_size": VOCAB_SIZE, "n_embd": GPT2_SHAPE.n_embd}
    model = GPT(GPTConfig(**sizes, **shape, **kv_heads))
    model.init_weights()
    stepped: Any = torch.compile(model) if compiled else model
    return run_loop(model, lambda inputs, targets: stepped(inputs, targets), n_steps)


TRAINERS = {
    "ours": train_ours,
    "Hugging Face Trainer": train_hugging_face,
    "nanoGPT": train_nanogpt,
    "litgpt": train_litgpt,
    "nanochat": train_nanochat,
}


def _autocast(precision: str) -> Any:
    return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run_alone(name: str, args: argparse.Namespace, checkout: Path | None) -> Result | str:
    """One round of a trainer in a process of its own; why not, where it cannot run."""
    command = [sys.executable, "-m", "benchmarks.training", "--only", name]
    command += ["--precision", args.precision, "--steps", str(args.steps)]
    command += ["--threads", str(args.threads)]
    command += ["--compile"] * args.compile + ["--checkout", str(checkout or "")]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
    return Result(**json.loads(done.stdout.strip().splitlines()[-1]))


def compare(args: argparse.Namespace) -> None:
    """Every trainer in turns; the table."""
    checkouts = {"nanoGPT": args.nanogpt, "nanochat": args.nanochat}
    names = [name for name in TRAINERS if checkouts.get(name, Path()) is not None]
    rounds: dict[str, list[Result]] = {}
    peak = 0.0
    for _ in range(args.rounds):
        for name in names:
            peak = max(peak, matmul_flops(torch.device("cpu"), DTYPES[args.precision]))
            result = run_alone(name, args, checkouts.get(name))
            if isinstance(result, str):
                logger.warning("%s did not run: %s", name, result)
                continue
            rounds.setdefault(name, []).append(result)
    mode = "compiled" if args.compile else "eager"
    logger.info(
        "%s %s, torch %s, %d threads, matmul peak %.0f GFLOPS",
        *(args.precision, mode, torch.__version__, torch.get_num_threads(), peak / 1e9),
    )
    report(rounds, peak)


def report(rounds: dict[str, list[Result]], peak: float) -> None:
    """A row per trainer; ratios are to the fastest peer."""
    speed = {
        name: N_TOKENS / _median([each.step_s for each in results])
        for name, results in rounds.items()
    }
    per_cpu_s = {
        name: N_TOKENS / _median([each.cpu_s for each in results])
        for name, results in rounds.items()
    }
    best, best_per_cpu_s = (
        max((rate for name, rate in rates.items() if name != "ours"), default=1.0)
        for rates in (speed, per_cpu_s)
    )
    flops = flops_per_token(LanguageModel(GPT2_SHAPE, VOCAB_SIZE), BLOCK)
    logger.info(
        "| trainer | tokens/s | MFU | ratio | tokens per CPU second | ratio | peak MiB "
        "| first, last loss |"
    )
    logger.info("|---|---:|---:|---:|---:|---:|---:|---:|")
    for name, results in rounds.items():
        memory = max(result.peak_mib for result in results)
        losses = results[0].losses
        logger.info(
            "| %s | %.0f | %.0f%% | %.2f | %.0f | %.2f | %.0f | %.4f, %.4f |",
            *(name, speed[name], 100 * speed[name] * flops / peak, speed[name] / best),
            *(per_cpu_s[name], per_cpu_s[name] / best_per_cpu_s),
            *(memory, losses[0], losses[-1]),
        )


def _median(rounds: list[list[float]]) -> float:
    """Of all steps after the warm-up."""
    return statistics.median(seconds for each in rounds for seconds in each[WARM_UP_STEPS:])


def main() -> None:
    """Compare, or be one of the compared."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--steps", type=int, default=8, help="of each round, warm-up included")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--nanogpt", type=Path, help="checkout of karpathy/nanoGPT")
    parser.add_argument("--nanochat", type=Path, help="checkout of karpathy/nanochat")
    parser.add_argument("--only", choices=list(TRAINERS), help=argparse.SUPPRESS)
    parser.add_argument("--checkout", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(args.threads)
    if args.only is None:
        compare(args)
        return
    result = TRAINERS[args.only](args.precision, args.compile, args.steps, args.checkout)
    sys.stdout.write(f"\n{json.dumps(asdict(result))}\n")


if __name__ == "__main__":
    main()

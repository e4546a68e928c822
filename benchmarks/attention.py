"""Training with attention to fewer tokens beside full attention: tokens/s and peak memory on a CPU.

    python -m benchmarks.attention                     # bf16
    python -m benchmarks.attention --precision fp32
    python -m benchmarks.attention --before ../before  # and the same by another checkout of this project

The small GPT-2 of `benchmarks.training` with blocks of 1,024, 4 sequences a step, forward, backward and
AdamW: every token sees all earlier ones; the newest 128; the newest 128 and every 128th; or those of its
document, of 300 tokens each. Every row runs alone in a process of its own, in turns, --rounds times
each; the fastest step counts, for what else the machine does only takes time away. On a busy machine
tokens per CPU second with --threads 1 are the fair measure.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks.shapes import GPT2_SHAPE, VOCAB_SIZE
from llm.model.mask import document_mask
from llm.model.transformer import LanguageModel, initialise
from llm.resident import own_peak_mib
from llm.train.precision import computing

BLOCK, N_SEQUENCES, WINDOW, DOCUMENT = 1024, 4, 128, 300
KINDS = {
    "full": {},
    "sliding window of 128": {"attention": "sliding_window", "window": WINDOW},
    "strided by 128": {"attention": "strided", "window": WINDOW},
    "documents of 300": {},
}

logger = logging.getLogger("benchmark")


def measure(kind: str, precision: str, n_steps: int) -> list[float]:
    """Seconds of the fastest step by the clock and by the CPU, and the peak of the process in MiB."""
    model = LanguageModel(
        GPT2_SHAPE.model_copy(update={"block_size": BLOCK} | KINDS[kind]), VOCAB_SIZE
    )
    initialise(model, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    ids = torch.randint(
        VOCAB_SIZE, (N_SEQUENCES, BLOCK), generator=torch.Generator().manual_seed(1)
    )
    places = torch.arange(BLOCK).remainder(DOCUMENT).expand_as(ids)
    positions = places if kind.startswith("documents") else None
    step_s, cpu_s = [], []
    for _ in range(n_steps):
        started, cpu_started = time.perf_counter(), time.process_time()
        mask = None if positions is None else document_mask(positions)
        with computing(model, precision):
            loss = model(ids, positions=positions, mask=mask, targets=ids)["loss"] / ids.numel()
            loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step_s.append(time.perf_counter() - started)
        cpu_s.append(time.process_time() - cpu_started)
    return [min(step_s), min(cpu_s), own_peak_mib()]


def run_alone(kind: str, args: argparse.Namespace, checkout: Path) -> list[float]:
    """A round of a row, by the code in `checkout`, in a process of its own."""
    command = [sys.executable, "-P", __file__, "--only", kind, "--precision", args.precision]
    command += ["--steps", str(args.steps), "--threads", str(args.threads)]
    env = os.environ | {"PYTHONPATH": str(checkout.resolve())}
    done = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def compare(args: argparse.Namespace) -> None:
    """Every row in turns; the table, whose ratios are those of CPU seconds to full attention here."""
    checkouts = {"": Path(__file__).parent.parent} | (
        {", before": args.before} if args.before else {}
    )
    rounds: dict[str, list[list[float]]] = {}
    for _ in range(args.rounds):
        for kind in KINDS:
            for label, checkout in checkouts.items():
                rounds.setdefault(kind + label, []).append(run_alone(kind, args, checkout))
    logger.info("%s, torch %s, %d threads", args.precision, torch.__version__, args.threads)
    logger.info("| attention | tokens/s | tokens per CPU second | ratio | peak MiB |")
    logger.info("|---|---:|---:|---:|---:|")
    full = min(cpu_s for _, cpu_s, _ in rounds["full"])
    tokens = N_SEQUENCES * BLOCK
    for row, results in rounds.items():
        step_s, cpu_s, peak = ([*column] for column in zip(*results, strict=True))
        rates = (tokens / min(step_s), tokens / min(cpu_s), full / min(cpu_s))
        logger.info("| %s | %.0f | %.0f | %.2f | %.0f |", row, *rates, max(peak))


def main() -> None:
    """Compare, or be one of the compared."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--steps", type=int, default=5, help="of each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--before", type=Path, help="another checkout of this project")
    parser.add_argument("--only", choices=list(KINDS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(args.threads)
    if args.only is None:
        compare(args)
    else:
        sys.stdout.write(json.dumps(measure(args.only, args.precision, args.steps)))


if __name__ == "__main__":
    main()

"""Packing and prefetch: what is cut, what is padded, and tokens per second.

    python -m benchmarks.packing data

The folder is the pipeline's own: tokenizer, tokenize and instructions. The network and the
steps are those of params.yaml; padding is the share of the places that the network computes.
The variants take turns, a few steps each, and the median of the rounds counts, so that other
work on the machine meets all of them alike. Tokens are real ones: padding is none.
"""

import argparse
import logging
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from llm.align.sft import encode_conversations
from llm.config.model import ModelConfig
from llm.config.params import PARAMS, Params, load_params
from llm.config.train import TrainConfig
from llm.data.batch import Batch, Batches
from llm.data.blocks import TrainingBlocks
from llm.data.conversations import read_conversations
from llm.data.packed_blocks import document_bounds
from llm.data.shards import TokenShards
from llm.model.transformer import LanguageModel, initialise
from llm.stages.pretrain import training_blocks
from llm.stages.sft import training_batches
from llm.tokenizer.load import Tokenizer
from llm.train.distributed import Ranks
from llm.train.feed import feed
from llm.train.guard import StepGuard
from llm.train.masters import MasterWeights
from llm.train.next_token import next_token_loss
from llm.train.optimizer import build_optimizer
from llm.train.precision import loss_scaler
from llm.train.state import State
from llm.train.step import train_step

ROUNDS, SECONDS = 7, 5.0  # per variant and round
OWN = Ranks(0, 1, torch.device("cpu"))

logger = logging.getLogger("benchmark")


def main(folder: Path) -> None:
    """Print a table per question."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    params = load_params(PARAMS)
    tokenizer = Tokenizer.load(folder / "tokenizer")
    compare_pretraining(folder, params, tokenizer)
    compare_sft(folder, params, tokenizer)


def compare_pretraining(folder: Path, params: Params, tokenizer: Tokenizer) -> None:
    """Documents that are cut although they fit a block, padding, speed; and the thread."""
    shards = TokenShards(folder / "tokenize" / "train", tokenizer.hash)
    size = params.model.block_size
    variants, cut, padding = {}, {}, {}
    for packing in ("concatenate", "best_fit"):
        for masked in (False, True):
            values = {"packing": packing, "document_mask": masked}
            section = params.pretrain.model_copy(update=values)
            started = time.perf_counter()
            blocks = training_blocks(shards, tokenizer, params.model, section)
            took = time.perf_counter() - started
            name = f"{packing}{', documents masked' if masked else ''}"
            logger.info("%s: %d blocks, laid out in %.2f s", name, len(blocks), took)
            variants[name] = TrainingBlocks(
                blocks, section.micro_batch_size, section.batch_tokens, 10**9, section.seed
            )
            cut[name] = 0.0 if packing == "best_fit" else needlessly_cut(shards, tokenizer, size)
            padding[name] = padding_frac(variants[name])
    rates = measure({name: Loop(each, params, params.pretrain) for name, each in variants.items()})
    table("pretrain", rates, {"cut though they fit": cut, "padding": padding})
    plain = variants["concatenate"]
    loops = {
        "prepared in the step": Loop(plain, params, params.pretrain, ahead=False),
        "prepared by the thread": Loop(plain, params, params.pretrain),
    }
    table("prefetch, on the CPU", measure(loops), {})
    batch_s = seconds(lambda: plain.micro_batch(0, 0))
    logger.info("a micro-batch is prepared in %.2f ms", 1000 * batch_s)


def compare_sft(folder: Path, params: Params, tokenizer: Tokenizer) -> None:
    """One conversation a row, or several."""
    conversations = read_conversations(folder / "instructions" / "train.jsonl")
    items = encode_conversations(conversations, tokenizer, params.model.block_size)
    variants = {}
    for packing, rows in (("pad", 16), ("best_fit", 4)):
        values = {"packing": packing, "micro_batch_size": rows, "batch_sequences": rows}
        section = params.sft.model_copy(update=values | {"epochs": 40})
        name = f"{packing}, {rows} rows"
        variants[name] = training_batches(items, params.model.block_size, section)
    padding = {name: padding_frac(each) for name, each in variants.items()}
    rates = measure({name: Loop(each, params, params.sft) for name, each in variants.items()})
    table("sft", rates, {"padding": padding})


@dataclass
class Loop:
    """A variant's own network and optimizer, trained on and on."""

    data: Batches
    params: Params
    config: TrainConfig
    ahead: bool = True  # by the thread

    def __post_init__(self) -> None:
        network = build(self.params.model, self.params.tokenizer.vocab_size)
        optimizer = build_optimizer(network, self.config.optim)
        scaler = loss_scaler(self.config.precision, OWN.device)
        masters = MasterWeights(network, in_bf16=False)
        self.state = State(network, masters, optimizer, scaler, StepGuard(self.config.optim))

    def rate(self) -> float:
        """Real tokens per second over SECONDS."""
        if self.ahead:
            with feed(self.data, OWN, self.state.step) as steps:
                return self._rate(steps)
        return self._rate(self._direct())

    def _direct(self) -> Iterator[list[Batch]]:
        for step in range(self.state.step, self.data.n_steps):
            yield [self.data.micro_batch(step, i) for i in range(self.data.micros_per_step)]

    def _rate(self, steps: Iterator[list[Batch]]) -> float:
        started, tokens = time.perf_counter(), 0
        while time.perf_counter() - started < SECONDS:
            batches = next(steps)
            train_step(self.state.model, batches, next_token_loss, self.state, self.config, OWN)
            self.state.step += 1
            tokens += sum(batch.tokens for batch in batches)
        return tokens / (time.perf_counter() - started)


def build(config: ModelConfig, vocab_size: int) -> LanguageModel:
    """The network with its first weights."""
    network = LanguageModel(config, vocab_size)
    initialise(network, 1)
    return network.train()


def measure(loops: Mapping[str, Loop]) -> dict[str, float]:
    """Median tokens per second of each, after a round to warm up."""
    rates: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(ROUNDS + 1):
        for name, loop in loops.items():
            rate = loop.rate()
            if number:
                rates[name].append(rate)
    return {name: statistics.median(found) for name, found in rates.items()}


def needlessly_cut(shards: TokenShards, tokenizer: Tokenizer, block_size: int) -> float:
    """Share of the documents that fit a block and yet lie in two, when the stream is cut."""
    bounds = document_bounds(shards, tokenizer.bos_id)
    fit = np.diff(bounds) <= block_size
    cut = bounds[:-1] // block_size != (bounds[1:] - 1) // block_size
    return float((fit & cut).sum() / fit.sum())


def padding_frac(data: Batches) -> float:
    """Share of the first 200 steps' places that hold no token."""
    batches = [
        data.micro_batch(step, index)
        for step in range(min(200, data.n_steps))
        for index in range(data.micros_per_step)
    ]
    return 1 - sum(b.tokens for b in batches) / sum(b.inputs["ids"].numel() for b in batches)


def seconds(call: Callable[[], object]) -> float:
    """The least of many calls."""
    found = []
    for _ in range(200):
        started = time.perf_counter()
        call()
        found.append(time.perf_counter() - started)
    return min(found)


def table(
    title: str, rates: Mapping[str, float], shares: Mapping[str, Mapping[str, float]]
) -> None:
    """A Markdown table; the ratio is to the first row."""
    logger.info("\n| %s | %s | ratio |", title, " | ".join([*shares, "tokens/s"]))
    logger.info("|---|%s", "---:|" * (len(shares) + 2))
    first = next(iter(rates.values()))
    for name, rate in rates.items():
        cells = [f"{100 * column[name]:.2f} %" for column in shares.values()]
        cells += [f"{rate:,.0f}", f"{rate / first:.2f}"]
        logger.info("| %s | %s |", name, " | ".join(cells))
    logger.info("")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    main(parser.parse_args().folder)

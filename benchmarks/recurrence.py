"""What attention buys: an LSTM beside the transformer, at equal parameters and tokens.

    dvc repro tokenize
    python -m benchmarks.recurrence --tokens 1228800 --lr 2.5e-3 5e-3 --layers 1 2

Both train on the project's token shards by stage `pretrain` as params.yaml has it, but by AdamW alone, one after
the other in processes of their own; the LSTM's width is the one whose parameters come
nearest to the transformer's, and it gets every rate and every number of layers, the
transformer every rate.
"""

import argparse
import logging
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch

from llm.config.model import ModelConfig
from llm.config.params import PARAMS, Params, load_params
from llm.files import read_json
from llm.model.flops import parameter_count
from llm.model.transformer import LanguageModel
from llm.process import Context
from llm.stages import pretrain
from llm.tokenizer.load import Tokenizer


class Trial(NamedTuple):
    """One training run."""

    name: str
    model: ModelConfig
    lr: float


def trials(
    params: Params, vocab_size: int, rates: list[float], layers: list[int]
) -> Iterator[Trial]:
    """The transformer of params.yaml, then LSTMs of its size."""
    transformer = params.model.model_copy(update={"kind": "transformer"})
    size = on_meta(transformer, vocab_size)
    for lr in rates:
        yield Trial("transformer", transformer, lr)
        for n_layer in layers:
            yield Trial(
                f"lstm, {n_layer} layers", same_size(transformer, n_layer, vocab_size, size), lr
            )


def same_size(model: ModelConfig, n_layer: int, vocab_size: int, parameters: int) -> ModelConfig:
    """The LSTM whose width, a multiple of 4, gives the nearest number of parameters."""

    def lstm(width: int) -> ModelConfig:
        return model.model_copy(update={"kind": "lstm", "n_layer": n_layer, "n_embd": width})

    return min(
        map(lstm, range(4, 4 * model.n_embd, 4)),
        key=lambda config: abs(on_meta(config, vocab_size) - parameters),
    )


def on_meta(config: ModelConfig, vocab_size: int) -> int:
    with torch.device("meta"):
        return parameter_count(LanguageModel(config, vocab_size))


def train(trial: Trial, params: Params, max_tokens: int) -> dict[str, Any]:
    """Metrics and timings of stage `pretrain` with the trial's network and rate."""
    logging.basicConfig(level=logging.WARNING)
    optim = params.pretrain.optim.model_copy(update={"optimizer": "adamw", "lr": trial.lr})
    config = params.pretrain.model_copy(update={"optim": optim, "max_tokens": max_tokens})
    with tempfile.TemporaryDirectory() as scratch:
        own = {key: f"{scratch}/{key}" for key in ("models", "metrics", "timings", "plots", "work")}
        ctx = Context("pretrain", params.paths.model_copy(update=own), Path(scratch) / "work")
        metrics = pretrain.run(ctx, launch=params.launch, model=trial.model, pretrain=config)
    return metrics | ctx.timings


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--lr", type=float, nargs="+", required=True)
    parser.add_argument("--layers", type=int, nargs="+", required=True)
    given = parser.parse_args()
    params = load_params(PARAMS)
    vocab_size = Tokenizer.load(params.paths.stage("tokenizer")).vocab_size
    order2 = read_json(params.paths.metric("tokenize"))["order2_bpb"]
    print(f"order-2 byte model: {order2:.3f} bits per byte\n")  # noqa: T201
    print("| network | width | parameters | tokens | lr | bits per byte | tokens/s |")  # noqa: T201
    print("|---|---:|---:|---:|---:|---:|---:|")  # noqa: T201
    for trial in trials(params, vocab_size, given.lr, given.layers):
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            found = process.submit(train, trial, params, given.tokens).result()
        print(  # noqa: T201
            f"| {trial.name} | {trial.model.n_embd} | {found['parameters']:,} | {found['tokens']:,} | "
            f"{trial.lr:g} | {found['val/bpb']:.3f} | {found['tokens_per_s']:,.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()

"""What attention buys: LSTMs beside the transformer, at equal parameters and tokens.

    dvc repro tokenize
    python -m benchmarks.recurrence --tokens 1228800 --layers 1 2 --muon 0.02 --adamw 4e-3

All train on the project's token shards by stage `pretrain` as params.yaml has it but for the
optimizer and its rate, one after the other in processes of their own. An LSTM's width is the one
whose parameters come nearest to the transformer's. Every network gets every optimizer and rate:
Muon's is that of the blocks' matrices, the rest keeps `pretrain.optim.lr`.
"""

import argparse
import logging
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from llm.config.model import ModelConfig
from llm.config.params import PARAMS, Params, load_params
from llm.config.sizes import parameter_count
from llm.files import read_json
from llm.process import Context
from llm.stages import pretrain
from llm.tokenizer.load import Tokenizer

RATES = {"muon": "muon_lr", "adamw": "lr"}  # the key of each optimizer's rate


class Trial(NamedTuple):
    """One training run."""

    name: str
    model: ModelConfig
    optimizer: str
    lr: float

    @property
    def optim(self) -> dict[str, Any]:
        """What it changes in `pretrain.optim`."""
        return {"optimizer": self.optimizer, RATES[self.optimizer]: self.lr}


def networks(model: ModelConfig, vocab_size: int, layers: list[int]) -> dict[str, ModelConfig]:
    """The transformer of params.yaml, and LSTMs of its size."""
    transformer = model.model_copy(update={"kind": "transformer"})
    size = parameter_count(transformer, vocab_size)
    lstms = {f"LSTM, layers: {n}": same_size(transformer, n, vocab_size, size) for n in layers}
    return {f"transformer, layers: {model.n_layer}": transformer} | lstms


def same_size(model: ModelConfig, n_layer: int, vocab_size: int, parameters: int) -> ModelConfig:
    """The LSTM whose width, a multiple of 4, gives the nearest number of parameters."""

    def lstm(width: int) -> ModelConfig:
        return model.model_copy(update={"kind": "lstm", "n_layer": n_layer, "n_embd": width})

    return min(
        map(lstm, range(4, 4 * model.n_embd, 4)),
        key=lambda config: abs(parameter_count(config, vocab_size) - parameters),
    )


def train(trial: Trial, params: Params, max_tokens: int) -> dict[str, Any]:
    """Metrics and timings of stage `pretrain` with the trial's network, optimizer and rate."""
    logging.basicConfig(level=logging.ERROR)
    optim = params.pretrain.optim.model_copy(update=trial.optim)
    config = params.pretrain.model_copy(update={"optim": optim, "max_tokens": max_tokens})
    with tempfile.TemporaryDirectory() as scratch:
        own = {key: f"{scratch}/{key}" for key in ("models", "metrics", "timings", "plots", "work")}
        ctx = Context("pretrain", params.paths.model_copy(update=own), Path(scratch) / "work")
        metrics = pretrain.run(ctx, launch=params.launch, model=trial.model, pretrain=config)
    return metrics | ctx.timings


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tokens", type=int, required=True, help="of every run")
    parser.add_argument("--layers", type=int, nargs="+", required=True, help="of the LSTMs")
    for optimizer in RATES:
        parser.add_argument(f"--{optimizer}", type=float, nargs="+", default=[], metavar="RATE")
    given = parser.parse_args()
    rates = [(optimizer, lr) for optimizer in RATES for lr in getattr(given, optimizer)]
    if not rates:
        parser.error("give a rate: --muon 0.02, --adamw 4e-3, or both")
    params = load_params(PARAMS)
    vocab_size = Tokenizer.load(params.paths.stage("tokenizer")).vocab_size
    order2 = read_json(params.paths.metric("tokenize"))["order2_bpb"]
    print(f"order-2 byte model: {order2:.3f} bits per byte\n")  # noqa: T201
    print(  # noqa: T201
        "| network | width | parameters | tokens | optimizer | rate | bits per byte | tokens/s |\n"
        "|---|---:|---:|---:|---|---:|---:|---:|"
    )
    compared = networks(params.model, vocab_size, given.layers)
    for name, model in compared.items():
        for optimizer, lr in rates:
            trial = Trial(name, model, optimizer, lr)
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                found = process.submit(train, trial, params, given.tokens).result()
            print(  # noqa: T201
                f"| {name} | {model.n_embd} | {found['parameters']:,} | {found['tokens']:,} | "
                f"{optimizer} | {lr:g} | {found['val/bpb']:.3f} | {found['tokens_per_s']:,.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()

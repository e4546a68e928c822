"""nanoGPT's published example, shakespeare_char: its shape, data and split by our stages and recipe.

    python -m benchmarks.shakespeare ../shared/data/text/tinyshakespeare.txt

6 layers of 6 heads, width 384, blocks of 256 characters, dropout 0.2, the first nine tenths of the
file to train on; nanoGPT publishes a validation loss of 1.4697 nats per character, the best in 5,000
steps of 16,384 characters. The tokenizer is the pipeline's with no merges: a byte is a token. The loss is that of
the last step on all of the last tenth, in blocks, never the best of several.
"""

import argparse
import logging
import sys
import time
from pathlib import Path

import numpy as np

from llm.config.base import parse_yaml, validate
from llm.config.params import PARAMS, Params
from llm.config.paths import Paths
from llm.config.presets import apply_overrides
from llm.config.tokenizer import TokenizerConfig
from llm.data.shards import ShardWriter
from llm.files import write_json
from llm.process import Context
from llm.stages import pretrain
from llm.tokenizer.folder import save_tokenizer
from llm.tokenizer.load import Tokenizer
from llm.tokenizer.train import train_tokenizer

BYTES = TokenizerConfig(
    init_from="",
    vocab_size=262,
    sample_bytes=1_000_000,
    min_frequency=2,
    max_digits=1,
    white_space="single",
)
TRAIN_FRAC = 0.9
STEPS = 2000
RECIPE = {
    "model.block_size": 256,
    "model.n_layer": 6,
    "model.n_embd": 384,
    "model.n_head": 6,
    "model.n_kv_head": 6,
    "model.n_inner": 1024,
    "model.dropout": 0.2,
    "pretrain.precision": "bf16",
    "pretrain.batch_tokens": 4096,
    "pretrain.micro_batch_size": 16,
    "pretrain.eval_interval": 100,
    "pretrain.eval_batches": 4,
    "pretrain.samples.prompts": ["ROMEO:"],
    "pretrain.checkpoint.minutes": 2.0,
}


def write_corpus(text: str, paths: Paths) -> None:
    """What the tokenizer and tokenize stages would have left of the text."""
    save_tokenizer(paths.stage("tokenizer"), train_tokenizer(iter([text]), BYTES))
    tokenizer = Tokenizer.load(paths.stage("tokenizer"))
    cut = int(len(text) * TRAIN_FRAC)
    for split, part in (("train", text[:cut]), ("val", text[cut:])):
        folder = paths.stage("tokenize") / split
        with ShardWriter(folder, shard_tokens=10**9, tokenizer=tokenizer) as shards:
            shards.write(np.array(tokenizer.encode(part)))
    sizes = {"bytes": len(text[cut:].encode()), "tokens": len(text[cut:])}
    write_json(paths.stage("tokenize") / "val.json", sizes)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("text", type=Path)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--folder", type=Path, default=Path(".llm/shakespeare"))
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="other params")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    others = {}
    for each in given.set:
        key, _, value = each.partition("=")
        others |= {key: parse_yaml(f"v: {value}", each)["v"]}
    values = RECIPE | others
    values["pretrain.max_tokens"] = given.steps * values["pretrain.batch_tokens"]
    text = apply_overrides(PARAMS.read_text(), values)
    params = validate(Params, parse_yaml(text, str(PARAMS)), "")
    kinds = ("data", "models", "metrics", "timings", "plots", "work")
    own = {kind: str(given.folder / kind) for kind in kinds}
    paths = params.paths.model_copy(update=own)
    write_corpus(given.text.read_text(encoding="utf-8"), paths)
    ctx = Context("pretrain", paths, given.folder / "work")
    ctx.work.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    found = pretrain.run(ctx, launch=params.launch, model=params.model, pretrain=params.pretrain)
    minutes = (time.perf_counter() - started) / 60
    print(  # noqa: T201
        f"\n{found['steps']:,} steps, {found['tokens']:,} characters, {found['parameters']:,} "
        f"parameters, {minutes:.1f} minutes: validation loss {found['val/loss']:.4f} "
        f"(nanoGPT publishes 1.4697)"
    )


if __name__ == "__main__":
    main()

"""Stages pretrain and sft from published folders, and pretraining on packed documents."""

import math
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from llm.config.align import SftConfig
from llm.config.base import validate
from llm.config.paths import Paths
from llm.config.tokenizer import TokenizeConfig, TokenizerConfig
from llm.config.train import LaunchConfig, PretrainConfig
from llm.data.conversations import Conversation, write_conversations
from llm.errors import CheckpointError, ConfigError
from llm.files import read_json
from llm.model.folder import load_language_model
from llm.stages import pretrain, sft, tokenize, tokenizer
from llm.tokenizer.load import Tokenizer
from tests.hub import publish
from tests.shapes import GPT2, shape
from tests.stages.corpus_inputs import context, function_row, put
from tests.train.toy import SAMPLES, config

LAUNCH = LaunchConfig(parallel="ddp", nodes=1, nproc_per_node=1, group_ranks=1, recompute="none")
SIZES = {"val_frac": 0.2, "shard_tokens": 10_000, "weights": [], "seed": 1, "megatron": False}
TOKENIZER = {"init_from": "", "vocab_size": 320, "sample_bytes": 10**6}
TOKENIZER |= {"min_frequency": 2, "max_digits": 1, "white_space": "runs"}


def pretraining(**changes: Any) -> PretrainConfig:
    values = config(eval_interval=100, micro_batch_size=2).model_dump()
    own = {
        "zero_outputs": False,
        "z_loss": 0.0,
        "document_mask": False,
        "packing": "concatenate",
        "packing_window": 30,
        "samples": SAMPLES,
        "batch_tokens": 128,
        "max_tokens": 512,
    }
    return validate(PretrainConfig, values | own | changes, "")


def make_shards(paths: Paths, init_from: str) -> None:
    """The stages before pretraining, on a hundred documents."""
    put(paths.stage("decontaminate") / "kept", [function_row(n) for n in range(100)])
    put(paths.stage("decontaminate") / "heldout", [function_row(n) for n in range(100, 105)])
    own = TokenizerConfig.model_validate(TOKENIZER | {"init_from": init_from})
    tokenizer.run(context("tokenizer", paths), tokenizer=own)
    sizes = TokenizeConfig.model_validate(SIZES)
    tokenize.run(context("tokenize", paths), tokenize=sizes)


def run(paths: Paths, model, section: PretrainConfig) -> dict[str, Any]:
    ctx = context("pretrain", paths)
    shutil.rmtree(ctx.work, ignore_errors=True)  # of other params
    return pretrain.run(ctx, launch=LAUNCH, model=model, pretrain=section)


def test_pretraining_goes_on_from_published_weights_and_their_tokenizer(
    paths: Paths, tmp_path: Path
) -> None:
    theirs = publish("gpt2", tmp_path / "hub")
    hub = str(tmp_path / "hub")
    make_shards(paths, hub)
    model = shape(**GPT2, block_size=32)
    still = {"lr": 1e-12, "weight_decay": 0.0}
    optim = pretraining().optim.model_dump() | still
    metrics = run(paths, model, pretraining(init_from=hub, optim=optim))
    values = read_json(paths.model("base") / "config.json")
    assert values["architectures"] == ["GPT2LMHeadModel"]
    saved = load_language_model(paths.model("base")).backbone.embed.weight
    torch.testing.assert_close(
        saved[: theirs.config.vocab_size], theirs.transformer.wte.weight, atol=1e-6, rtol=0
    )
    assert Tokenizer.load(paths.model("base")).hash == Tokenizer.adopt(Path(hub)).hash
    assert metrics["steps"] == 4


def test_shards_of_another_tokenizer_are_refused(paths: Paths, tmp_path: Path) -> None:
    publish("gpt2", tmp_path / "hub")
    make_shards(paths, "")
    with pytest.raises(ConfigError, match=r"set tokenizer.init_from to the same folder"):
        run(paths, shape(**GPT2), pretraining(init_from=str(tmp_path / "hub")))


def test_packed_documents_train_with_and_without_a_mask(paths: Paths) -> None:
    make_shards(paths, "")
    packed = run(paths, shape(), pretraining())
    shutil.rmtree(context("pretrain", paths).work)
    masked = run(paths, shape(), pretraining(document_mask=True))
    whole = run(paths, shape(), pretraining(packing="best_fit"))
    both = run(paths, shape(), pretraining(packing="best_fit", document_mask=True))
    losses = [metrics["val/loss"] for metrics in (packed, masked, whole, both)]
    assert len(set(losses)) == 4
    for metrics in (packed, masked, whole, both):
        assert 0 < metrics["val/loss"] < math.log(320) + 0.5


def test_a_resumed_run_refuses_other_data_and_another_tokenizer(paths: Paths) -> None:
    make_shards(paths, "")
    ctx, model = context("pretrain", paths), shape()
    resume = partial(pretrain.run, ctx, launch=LAUNCH, model=model, pretrain=pretraining())
    resume()  # its last checkpoint stays: only a process removes it
    more = TokenizeConfig.model_validate(SIZES | {"val_frac": 0.1})
    tokenize.run(context("tokenize", paths), tokenize=more)
    with pytest.raises(
        CheckpointError, match=r"is of another run: data is '\w+', was '\w+'; delete"
    ):
        resume()
    other = TokenizerConfig.model_validate(TOKENIZER | {"vocab_size": 330})
    tokenizer.run(context("tokenizer", paths), tokenizer=other)
    tokenize.run(context("tokenize", paths), tokenize=more)
    with pytest.raises(CheckpointError, match=r"tokenizer is '\w+', was '\w+'; delete"):
        resume()


def test_sft_starts_from_a_published_folder(paths: Paths, tmp_path: Path) -> None:
    publish("qwen3", tmp_path / "hub")
    messages = [{"role": "user", "content": "math?"}, {"role": "assistant", "content": "hypot"}]
    rows = [Conversation(str(n), "chat", "test", messages) for n in range(8)]
    for split in ("train", "test"):
        write_conversations(paths.stage("instructions") / f"{split}.jsonl", rows)
    values = config(init_from=str(tmp_path / "hub"), eval_interval=100).model_dump()
    own = {
        "z_loss": 0.0,
        "epochs": 2,
        "batch_sequences": 4,
        "packing_window": 100,
        "samples": SAMPLES,
    }
    steps = {}
    for packing in ("best_fit", "pad"):
        section = validate(SftConfig, values | own | {"packing": packing}, "")
        shutil.rmtree(context("sft", paths).work, ignore_errors=True)
        metrics = sft.run(context("sft", paths), launch=LAUNCH, sft=section)
        assert metrics["conversations"] == 8
        steps[packing] = metrics["steps"]
    assert steps == {"pad": 4, "best_fit": 2}
    folder = paths.model("sft")
    assert read_json(folder / "config.json")["architectures"] == ["Qwen3ForCausalLM"]
    tokenizer_of_sft = Tokenizer.load(folder)
    assert tokenizer_of_sft.hash == Tokenizer.adopt(tmp_path / "hub").hash

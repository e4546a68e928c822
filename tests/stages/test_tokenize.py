"""Stage tokenize: every document's ids, once, in one split."""

from pathlib import Path

import pytest

from llm.config.paths import Paths
from llm.config.tokenizer import TokenizeConfig
from llm.data.byte_model import ByteModel
from llm.data.shards import TokenShards
from llm.errors import DataError
from llm.files import read_json
from llm.stages.tokenize import run
from llm.tokenizer.load import Tokenizer
from tests.stages.corpus_inputs import assert_same_outs, context, function_row, put

CONFIG = TokenizeConfig(val_frac=0.2, shard_tokens=1_000)
ROWS = [function_row(n) for n in range(100)]


@pytest.fixture
def corpus(paths: Paths, tokenizer: Tokenizer) -> Paths:
    put(paths.stage("decontaminate") / "kept", ROWS)
    tokenizer.save(paths.stage("tokenizer"), 64)
    return paths


def documents(folder: Path, tokenizer: Tokenizer) -> list[str]:
    shards = TokenShards(folder, tokenizer.hash)
    ids = shards[0 : len(shards)].tolist()
    assert ids[0] == tokenizer.bos_id
    return tokenizer.decode(ids, keep_specials=True).split("<|endoftext|>")[1:]


def test_the_splits_hold_every_document_once_after_a_separator(corpus: Paths, tokenizer: Tokenizer):
    metrics = assert_same_outs("tokenize", corpus, run, tokenize=CONFIG)
    out = corpus.stage("tokenize")
    train, val = (documents(out / name, tokenizer) for name in ("train", "val"))
    assert sorted(train + val) == sorted(row["text"] for row in ROWS)
    assert 5 < len(val) < 40
    for name, texts in (("train", train), ("val", val)):
        assert metrics[name] == {
            "tokens": len(TokenShards(out / name, tokenizer.hash)),
            "documents": len(texts),
            "bytes": sum(len(text.encode()) for text in texts),
        }
    assert read_json(out / "val.json") == {k: metrics["val"][k] for k in ("bytes", "tokens")}


def test_the_baseline_learns_from_train_and_is_measured_on_val(corpus: Paths, tokenizer: Tokenizer):
    metrics = run(context("tokenize", corpus), tokenize=CONFIG)
    out = corpus.stage("tokenize")
    model = ByteModel()
    model.update(documents(out / "train", tokenizer))
    bits = model.bits(documents(out / "val", tokenizer))
    assert metrics["order2_bpb"] == pytest.approx(bits / metrics["val"]["bytes"], abs=1e-4)
    assert 0.5 < metrics["order2_bpb"] < 4


def test_an_empty_split_is_one_error(corpus: Paths):
    config = CONFIG.model_copy(update={"val_frac": 1e-9})
    with pytest.raises(DataError, match=r"val_frac=1e-09 leaves no document for val"):
        run(context("tokenize", corpus), tokenize=config)
    assert not corpus.stage("tokenize").exists()

"""Stage tokenize: every document's ids, once, in one split."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from llm.config.paths import Paths
from llm.config.tokenizer import SourceWeight, TokenizeConfig
from llm.corpus.documents import read_documents
from llm.data.byte_model import ByteModel, count_triples
from llm.data.shards import TokenShards
from llm.errors import DataError
from llm.files import read_json
from llm.stages.tokenize import run
from llm.tokenizer.load import Tokenizer
from tests.stages.corpus_inputs import (
    assert_same_outs,
    context,
    function_row,
    prose,
    put,
    text_row,
)

CONFIG = TokenizeConfig(val_frac=0.2, shard_tokens=1_000, weights=[], seed=1, megatron=False)
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
    model.add(count_triples(documents(out / "train", tokenizer)))
    bits = model.bits(count_triples(documents(out / "val", tokenizer)))
    assert metrics["order2_bpb"] == pytest.approx(bits / metrics["val"]["bytes"], abs=1e-4)
    assert 0.5 < metrics["order2_bpb"] < 4


def test_an_empty_split_is_one_error(corpus: Paths):
    config = CONFIG.model_copy(update={"val_frac": 1e-9})
    with pytest.raises(DataError, match=r"val_frac=1e-09 leaves no document for val"):
        run(context("tokenize", corpus), tokenize=config)
    assert not corpus.stage("tokenize").exists()


def test_every_document_is_listed_with_its_split_and_size(corpus: Paths, tokenizer: Tokenizer):
    metrics = run(context("tokenize", corpus), tokenize=CONFIG)
    out = corpus.stage("tokenize")
    listed = list(read_documents(out / "documents"))
    assert sorted(row["id"] for row in listed) == sorted(row["id"] for row in ROWS)
    assert not list(read_documents(out / "left_out"))
    texts = {row["id"]: row["text"] for row in ROWS}
    for split in ("train", "val"):
        ours = [row for row in listed if row["split"] == split]
        assert [texts[row["id"]] for row in ours] == documents(out / split, tokenizer)
        assert metrics[split]["tokens"] == sum(int(row["tokens"]) for row in ours)
        for row in ours:
            assert row["tokens"] == len(tokenizer.encode(texts[row["id"]])) + 1
            assert row["bytes"] == len(texts[row["id"]].encode())


NOTES = [text_row(f"{n}.txt", prose(n + 500)) for n in range(60)]


def test_weights_repeat_and_thin_sources_and_leave_val_alone(paths: Paths, tokenizer: Tokenizer):
    put(paths.stage("decontaminate") / "kept", [*ROWS, *NOTES])
    tokenizer.save(paths.stage("tokenizer"), 64)
    run(context("tokenize", paths), tokenize=CONFIG)
    out = paths.stage("tokenize")
    val, plain = documents(out / "val", tokenizer), documents(out / "train", tokenizer)
    docs, notes = ({row["text"] for row in rows} & set(plain) for rows in (ROWS, NOTES))

    weights = [SourceWeight(source="docs", weight=2.5), SourceWeight(source="notes", weight=0.4)]
    mixed = CONFIG.model_copy(update={"weights": weights})
    metrics = assert_same_outs("tokenize", paths, run, tokenize=mixed)
    train = documents(out / "train", tokenizer)
    assert documents(out / "val", tokenizer) == val
    counts = Counter(train)
    assert {counts[text] for text in docs} == {2, 3}
    assert 0.3 < sum(counts[text] == 3 for text in docs) / len(docs) < 0.7
    assert {counts[text] for text in notes} == {0, 1}
    assert 0.2 < sum(counts[text] for text in notes) / len(notes) < 0.6
    firsts = len(docs) + sum(counts[text] for text in notes)
    assert len(set(train[:firsts])) == firsts  # no copy before everything was read once
    assert set(train[firsts : firsts + len(docs)]) == docs

    listed = [*read_documents(out / "documents"), *read_documents(out / "left_out")]
    assert sorted(row["id"] for row in listed) == sorted(row["id"] for row in [*ROWS, *NOTES])
    assert len(list(read_documents(out / "left_out"))) == sum(not counts[text] for text in notes)
    sources = metrics["by_source"]
    assert sum(each["documents"] for each in sources.values()) == metrics["train"]["documents"]
    assert sum(each["share"] for each in sources.values()) == pytest.approx(1, abs=1e-5)
    assert sources["docs"]["tokens"] == sum(
        (len(tokenizer.encode(text)) + 1) * counts[text] for text in docs
    )


def test_another_seed_draws_other_documents(paths: Paths, tokenizer: Tokenizer):
    put(paths.stage("decontaminate") / "kept", ROWS)
    tokenizer.save(paths.stage("tokenizer"), 64)
    half = CONFIG.model_copy(update={"weights": [SourceWeight(source="docs", weight=0.5)]})
    drawn = []
    for seed in (1, 1, 2):
        run(context("tokenize", paths), tokenize=half.model_copy(update={"seed": seed}))
        drawn.append(documents(paths.stage("tokenize") / "train", tokenizer))
    assert drawn[0] == drawn[1] != drawn[2]


def test_megatrons_files_hold_the_same_documents(corpus: Paths, tokenizer: Tokenizer):
    config = CONFIG.model_copy(update={"megatron": True})
    assert_same_outs("tokenize", corpus, run, tokenize=config)
    out = corpus.stage("tokenize")
    for split in ("train", "val"):
        ids = np.fromfile(out / "megatron" / f"{split}.bin", "<u2").tolist()
        texts = tokenizer.decode(ids, keep_specials=True).split("<|endoftext|>")
        assert texts == [*documents(out / split, tokenizer), ""]

"""Stage filter: every document is kept, or rejected by a named rule."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from llm.config.params import load_params
from llm.config.paths import Paths
from llm.corpus.account import Account
from llm.corpus.documents import GATHERED, read_documents, write_shards
from llm.stages.filter import run
from tests.conftest import ROOT
from tests.stages.corpus_inputs import assert_same_outs, context, function_row, put, text_row
from tests.stages.stage_process import StageProcess

CONFIG = load_params(ROOT / "params.yaml").filter


def test_every_document_is_kept_or_rejected_by_a_rule(paths: Paths) -> None:
    good = [function_row(n) for n in range(40)]
    bad = [
        text_row("short.txt", "Too short."),
        text_row("french.txt", "Il y a des mots dans cette phrase.") | {"language": "fr"},
        text_row("lines.txt", "the same line\n" * 20),
    ]
    put(paths.stage("extract"), [*good[:20], *bad, *good[20:]], 4_000)
    metrics = assert_same_outs("filter", paths, run, filter=CONFIG)
    assert list(read_documents(paths.stage("filter") / "kept")) == good
    rejected = pq.read_table(Path(paths.data) / "filter" / "rejected").to_pylist()
    rules = [("gopher.min_words", "2"), ("languages", "fr")]
    rules += [("repetition.max_dup_line_frac", "0.9500")]
    assert rejected == [
        {"id": row["id"], "source": "notes", "rule": rule, "value": value}
        for row, (rule, value) in zip(bad, rules, strict=True)
    ]
    assert metrics["documents_in"] == metrics["documents_kept"] + sum(metrics["dropped"].values())
    assert metrics["by_source"] == {"docs": 40}
    assert metrics["bytes_kept"] == sum(len(row["text"].encode()) for row in good)


def test_lines_are_cut_before_the_rules_and_masks_come_after_them(paths: Paths) -> None:
    lines = CONFIG.c4.lines.model_copy(update={"no_javascript": True})
    config = CONFIG.model_copy(update={"c4": CONFIG.c4.model_copy(update={"lines": lines})})
    text = "Please do write to me@mail.net about all of this.\nIt needs Javascript."
    scripts = "Turn on Javascript in your browser to see all that there is here.\nThanks."
    put(paths.stage("extract"), [text_row("a.txt", text), text_row("b.txt", scripts)])
    metrics = assert_same_outs("filter", paths, run, filter=config)
    (kept,) = read_documents(paths.stage("filter") / "kept")
    assert kept["text"] == "Please do write to <EMAIL> about all of this."
    assert metrics["dropped"]["gopher.min_words"] == 1
    assert metrics["lines_cut"] == 2
    assert metrics["masked"] == {"key": 0, "email": 1, "card": 0, "ip": 0, "phone": 0}


def test_the_account_finds_each_rejection_by_rule_source_and_document(paths: Paths) -> None:
    rows = [function_row(n) for n in range(6)] + [text_row(f"{n}.txt", "Too short") for n in "ab"]
    gathered = [{key: row.get(key, "text/plain") for key in GATHERED} for row in rows]
    write_shards(paths.stage("gather"), gathered, GATHERED, 20_000)
    put(paths.stage("extract"), rows)
    run(context("filter", paths), filter=CONFIG)
    with Account(Path(paths.data)) as account:
        steps = [step for step in account.funnel() if step.stage == "filter"]
        assert [(step.source, step.rule, step.documents) for step in steps] == [
            ("notes", "gopher.min_words", 2),
            ("docs", "", 6),
        ]
        (one,) = account.rejected("gopher.min_words", 1, seed=0)
        assert (one["value"], one["text"]) == ("2", "Too short")
        assert account.trace(one["id"])[-1]["rule"] == "gopher.min_words"
        assert account.trace(rows[0]["id"])[-1]["kept"]["text"] == rows[0]["text"]


def prepared(folder: Path) -> StageProcess:
    """On 2,400 extracted documents."""
    stage = StageProcess("filter", folder)
    rows = [function_row(n) for n in range(2400)]
    stage.prepare(lambda data: put(data / "extract", rows, 20_000))
    return stage


def test_killed_in_the_middle_it_gives_the_same_bytes_when_run_again(tmp_path: Path) -> None:
    stage = prepared(tmp_path / "killed")
    stage.kill_at("data/.filter.partial/rejected/*")
    assert stage.finish() == prepared(tmp_path / "once").finish()


def test_a_full_disk_is_one_error_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    """The data's folder is a file system of its own, a little larger than what the stage reads."""
    prepared(tmp_path / "full").fill_the_disk("data", 65_536)


def test_a_list_that_dvc_does_not_watch_is_named(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.txt").write_text("heck\n")
    config = CONFIG.model_copy(update={"bad_words": "bad.txt"})
    put(paths.stage("extract"), [function_row(n) for n in range(3)])
    Path("dvc.yaml").write_text("stages: {filter: {deps: [bad.txt]}}")
    run(context("filter", paths), filter=config)
    assert "does not see" not in caplog.text
    Path("dvc.yaml").write_text("stages: {filter: {deps: [other]}}")
    run(context("filter", paths), filter=config)
    assert "DVC does not see when bad.txt changes; add it to the deps of filter" in caplog.text

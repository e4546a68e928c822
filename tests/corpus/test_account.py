"""The account of a corpus: every document that a stage loses is named with its rule."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm.corpus.account import Account
from llm.corpus.documents import GATHERED, text_schema, write_rows
from llm.errors import DataError
from tests.corpus_account import IDS, gathered, write_corpus


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_corpus(tmp_path)
    return tmp_path


@pytest.fixture
def account(data: Path) -> Iterator[Account]:
    with Account(data) as opened:
        yield opened


def test_what_is_dropped_and_left_adds_up_stage_by_stage(account: Account):
    steps = account.funnel()
    assert [(s.stage, s.rule, s.documents) for s in steps] == [
        ("gather", "damaged", 2),
        ("gather", "", 8),
        ("extract", "empty", 1),
        ("extract", "", 7),
        ("filter", "min_words", 1),
        ("filter", "", 6),
        ("dedup", "near", 1),
        ("dedup", "", 5),
        ("decontaminate", "contaminated", 1),
        ("decontaminate", "heldout", 1),
        ("decontaminate", "", 3),
        ("tokenize", "weight", 1),
        ("tokenize", "", 2),
    ]
    assert {step.source for step in steps} == {"notes"}


def test_a_rules_rejects_come_with_value_and_text(account: Account):
    (near,) = account.rejected("near", 5, 0)
    assert near["url"] == "file:copy"
    assert near["value"] == "duplicate of file:kept"
    assert near["text"].startswith("The text of copy.")
    (failed,) = account.rejected("empty", 5, 0)
    assert failed["text"] == "raw failed"
    skipped = account.rejected("damaged", 5, 0)
    assert {row["url"] for row in skipped} == {"file:x", "file:y"}
    assert {row["value"] for row in skipped} == {"cut off"}
    assert len(account.rejected("damaged", 1, 0)) == 1
    assert account.rejected("nothing", 5, 0) == []
    assert "min_words" in account.rules()


@pytest.mark.parametrize(
    ("name", "stages", "rule"),
    [
        ("kept", 6, None),
        ("flagged", 6, None),
        ("failed", 2, "empty"),
        ("short", 3, "min_words"),
        ("copy", 4, "near"),
        ("held", 5, "heldout"),
        ("dirty", 5, "contaminated"),
        ("thinned", 6, "weight"),
    ],
)
def test_a_document_is_traced_to_the_stage_that_drops_it(
    account: Account, name: str, stages: int, rule: str | None
):
    steps = account.trace(IDS[name][:12])
    assert len(steps) == stages
    assert [step["kept"] is not None for step in steps] == [True] * (stages - 1) + [rule is None]
    assert steps[-1].get("rule") == rule
    assert account.trace(f"file:{name}") == steps


def test_a_record_that_two_archives_hold_is_counted_twice_and_traced_as_one(data: Path):
    write_rows(data / "gather/90000.parquet", [gathered("kept")], text_schema(*GATHERED))
    again = {"id": IDS["kept"], "kept_id": IDS["kept"], "kind": "exact"}
    copy = {"id": IDS["copy"], "kept_id": IDS["kept"], "kind": "near"}
    write_rows(data / "dedup/clusters.parquet", [copy, again], text_schema(*again))
    with Account(data) as account:
        dropped = {s.rule: s.documents for s in account.funnel() if s.stage == "dedup" and s.rule}
        assert dropped == {"near": 1, "exact": 1}
        assert len(account.trace("file:kept")) == 6


def test_what_was_skipped_while_it_was_gathered_is_traced_by_its_url(account: Account):
    (step,) = account.trace("file:x")
    assert (step["stage"], step["kept"], step["rule"]) == ("gather", None, "damaged")
    assert step["value"] == "cut off"


@pytest.mark.parametrize("file", ["gather/00000.parquet", "filter/rejected/00000.parquet"])
def test_a_damaged_file_is_one_error(data: Path, file: str):
    (data / file).write_text("no parquet")
    with pytest.raises(DataError, match=r"can't be read: .*00000\.parquet.*; `dvc repro`"):
        Account(data).funnel()


def test_an_account_can_be_given_after_any_stage(tmp_path: Path, data: Path):
    for stage in ("extract", "filter", "dedup", "decontaminate", "tokenize"):
        shutil.rmtree(data / stage)
    with Account(data) as account:
        assert [step.stage for step in account.funnel()] == ["gather", "gather"]
        assert len(account.trace(IDS["short"])) == 1
        with pytest.raises(DataError, match="'nope' is the id or url of no document"):
            account.trace("nope")
        with pytest.raises(DataError, match=r"of more than one document \(\w{40}, \w{40}, …\)"):
            account.trace("")
    with pytest.raises(DataError, match="holds no gathered documents; `dvc repro gather`"):
        Account(tmp_path / "gone")

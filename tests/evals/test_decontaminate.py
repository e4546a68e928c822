"""Stage decontaminate: what is held out shares no n-gram with what is trained on."""

import json
from pathlib import Path

import pytest

from evals.decontaminate import run, top_level_object
from llm.config.corpus import DecontaminateConfig
from llm.config.paths import Paths
from llm.config.tasks import TaskNames
from llm.corpus.documents import Row, dump_meta, read_documents, read_shard
from llm.corpus.ngrams import split_words
from llm.errors import ConfigError, DataError, EvaluationError, UnreachableError
from tests.stages.corpus_inputs import assert_same_outs, context, function_row, prose, put, text_row

CONFIG = DecontaminateConfig(
    heldout_frac=0.3, ngram_words=13, max_ngram_documents=3, evaluation_sets=[], drop=True
)
NO_OTHERS = TaskNames(tasks=["docs_bpb", "docs_import"])  # made of what is held out


def member(row: Row, number: int) -> Row:
    """A method of the object of a row."""
    meta = json.loads(row["meta"]) | {"kind": "method"}
    return row | {"id": row["id"][:-1] + "x", "text": prose(number + 1000), "meta": dump_meta(meta)}


def corpus() -> list[Row]:
    rows = [function_row(n) for n in range(60)]
    members = [member(row, n) for n, row in enumerate(rows)]
    leaks = [text_row(f"{n}.txt", f"Before. {prose(n)} After {n}.") for n in range(60)]
    boilerplate = [text_row(f"b{n}.txt", f"{prose(999)} And {n}.") for n in range(30)]
    return [*rows, *members, *leaks, *boilerplate]


def grams(row: Row) -> set[tuple[str, ...]]:
    words = split_words(row["text"])
    return {tuple(words[i : i + 13]) for i in range(len(words) - 12)}


def split(paths: Paths) -> tuple[list[Row], list[Row], list[Row]]:
    folder = paths.stage("decontaminate")
    table = read_shard(folder / "contamination.parquet").to_pylist()
    return list(read_documents(folder / "kept")), list(read_documents(folder / "heldout")), table


def test_every_document_is_kept_held_out_or_dropped(paths: Paths):
    rows = corpus()
    put(paths.stage("dedup") / "kept", rows)
    metrics = assert_same_outs(
        "decontaminate", paths, run, decontaminate=CONFIG, benchmark=NO_OTHERS
    )
    kept, heldout, table = split(paths)
    dropped = {row["document_id"] for row in table}
    everything = [*(r["id"] for r in kept), *(r["id"] for r in heldout), *dropped]
    assert sorted(everything) == sorted(row["id"] for row in rows)
    assert metrics["documents_in"] == len(rows)
    assert metrics["documents_kept"] == len(kept)
    assert metrics["heldout"] == len(heldout)
    assert (
        metrics["contaminated"] == metrics["dropped"] == metrics["hits"]["heldout"] == len(dropped)
    )
    assert 0 < len(dropped) < len(rows) / 2
    assert 0.15 < len(heldout) / len(rows) < 0.45


def test_objects_are_held_out_whole_and_nothing_kept_shares_their_text(paths: Paths):
    put(paths.stage("dedup") / "kept", corpus())
    run(context("decontaminate", paths), decontaminate=CONFIG, benchmark=NO_OTHERS)
    kept, heldout, _ = split(paths)
    assert not {top_level_object(r) for r in kept} & {top_level_object(r) for r in heldout}
    of_functions = [r for r in heldout if not r["url"].startswith("file:b")]
    held = set().union(*(grams(row) for row in of_functions))
    assert not any(grams(row) & held for row in kept)


def test_boilerplate_that_is_held_out_too_is_no_leak(paths: Paths):
    put(paths.stage("dedup") / "kept", corpus())
    run(context("decontaminate", paths), decontaminate=CONFIG, benchmark=NO_OTHERS)
    kept, heldout, _ = split(paths)
    common = [[r for r in part if r["url"].startswith("file:b")] for part in (kept, heldout)]
    assert min(len(part) for part in common) > 0
    assert sum(len(part) for part in common) == 30


def test_evaluation_sets_are_looked_for_and_listed_even_when_nothing_is_dropped(
    paths: Paths, tmp_path: Path
):
    rows = [text_row(f"{n}.txt", prose(n)) for n in range(20)]
    put(paths.stage("dedup") / "kept", rows)
    items = tmp_path / "set.jsonl"
    items.write_text(json.dumps({"question": prose(4), "answer": [prose(5)]}))
    update = {"evaluation_sets": [str(items)], "drop": False, "heldout_frac": 0.1}
    config = CONFIG.model_copy(update=update)
    metrics = run(context("decontaminate", paths), decontaminate=config, benchmark=NO_OTHERS)
    kept, heldout, table = split(paths)
    assert len(kept) + len(heldout) == 20
    assert {row["item_id"] for row in table} == {f"{items}:1"}
    assert {row["document_id"] for row in table} == {rows[4]["id"], rows[5]["id"]}
    assert metrics["hits"] == {"heldout": 0, str(items): 2}
    assert metrics["items"] == {str(items): 1}
    assert metrics["dropped"] == 0


def test_items_of_a_task_that_benchmark_runs_are_kept_out_by_themselves(
    paths: Paths, riddles: Path
):
    """Question, options and answer count, not what the task does not show; both items are told."""
    rows = [text_row(f"{n}.txt", prose(n)) for n in range(20)]
    put(paths.stage("dedup") / "kept", rows)
    config = CONFIG.model_copy(update={"heldout_frac": 0.1})
    items = [
        {"question": prose(4), "options": ["no", prose(5)], "right": 1, "source": prose(6)},
        {"question": prose(4), "options": ["yes", prose(7)], "right": 0, "source": prose(8)},
    ]
    riddles.write_text("\n".join(map(json.dumps, items)))
    names = TaskNames(tasks=["riddles"])
    metrics = run(context("decontaminate", paths), decontaminate=config, benchmark=names)
    kept, heldout, table = split(paths)
    found = {(row["document_id"], row["set"], row["item_id"]) for row in table}
    assert found == {
        (rows[4]["id"], "riddles", "riddles:0"),
        (rows[4]["id"], "riddles", "riddles:1"),
        (rows[5]["id"], "riddles", "riddles:0"),
        (rows[7]["id"], "riddles", "riddles:1"),
    }
    assert len(kept) + len(heldout) + 3 == 20
    assert metrics["items"] == {"riddles": 2}
    assert metrics["hits"] == {"heldout": 0, "riddles": 3}
    looked_for = read_shard(paths.stage("decontaminate") / "items.parquet").to_pylist()
    assert [item["id"] for item in looked_for] == ["riddles:0", "riddles:1"]


def test_items_that_cannot_be_had_stop_the_stage(
    paths: Paths, riddles: Path, monkeypatch: pytest.MonkeyPatch
):
    """Training on what was not looked for would be worse than no training."""
    put(paths.stage("dedup") / "kept", [text_row("a.txt", prose(1))])
    task = riddles.parent / "tasks" / "riddles.yaml"

    def error_of(kind: type[Exception], name: str = "riddles") -> str:
        with pytest.raises(kind) as error:
            run(
                context("decontaminate", paths),
                decontaminate=CONFIG,
                benchmark=TaskNames(tasks=[name]),
            )
        return str(error.value)

    text, rows = task.read_text(), riddles.read_text()
    riddles.write_text("{broken")
    assert "riddles can't be read" in error_of(EvaluationError)
    riddles.unlink()
    assert "riddles can't be read" in error_of(EvaluationError)
    riddles.write_text(rows)
    task.write_text(text.partition("metric_list")[0] + "metric_list: [{metric: mcc}]")
    assert "not scored by any of exact_match" in error_of(ConfigError)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    task.write_text(text.replace("dataset_path: json", "dataset_path: some/where"))
    assert "hub, which does not answer" in error_of(UnreachableError)
    assert "'mmlu' is a group of lm-eval's tasks" in error_of(ConfigError, "mmlu")
    assert not paths.stage("decontaminate").exists()


def test_a_corpus_too_small_to_hold_anything_out_is_one_error(paths: Paths):
    put(paths.stage("dedup") / "kept", [text_row("a.txt", prose(1))])
    config = CONFIG.model_copy(update={"heldout_frac": 1e-9})
    with pytest.raises(DataError, match=r"heldout_frac=1e-09 holds out no document"):
        run(context("decontaminate", paths), decontaminate=config, benchmark=NO_OTHERS)
    assert not paths.stage("decontaminate").exists()

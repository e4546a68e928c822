from typing import Any

from datasets import Dataset

from evals import items
from llm.config.paths import Paths


def values(world: Paths, **changes: Any) -> dict[str, Any]:
    return {
        "heldout": str(world.stage("decontaminate") / "heldout"),
        "conversations": str(world.stage("instructions") / "test.jsonl"),
        "limit": 20,
        "seed": 1,
        "version": 1,  # lm-eval hands over all of a task's metadata
    } | changes


def rows(split: dict[str, Dataset]) -> list[dict[str, Any]]:
    return split["test"].to_list()


def test_the_right_option_is_among_four_different_ones(world: Paths) -> None:
    entries = {
        entry.id: entry for entry in items.read_entries(world.stage("decontaminate") / "heldout")
    }
    for row in rows(items.summary_choice(**values(world))):
        assert len(set(row["choices"])) == items.OPTIONS
        assert row["choices"][row["answer"]] == entries[row["id"]].summary
        assert row["question"] == entries[row["id"]].heading + "\n\n"
    for row in rows(items.name_choice(**values(world))):
        assert len(set(row["choices"])) == items.OPTIONS
        assert row["choices"][row["answer"]].strip() == entries[row["id"]].heading
        assert row["summary"] == entries[row["id"]].summary


def test_the_right_option_stands_at_every_place(world: Paths) -> None:
    drawn = rows(items.summary_choice(**values(world, limit=32)))
    assert {row["answer"] for row in drawn} == set(range(items.OPTIONS))


def test_a_smaller_limit_takes_the_first_of_the_same_items(world: Paths) -> None:
    for build in (items.summary_choice, items.name_choice, items.documents):
        many, few = rows(build(**values(world))), rows(build(**values(world, limit=5)))
        assert len(many) == 20
        assert few == many[:5]
        assert rows(build(**values(world, seed=2))) != many


def test_questions_are_of_one_kind(world: Paths) -> None:
    drawn = rows(items.instructions(**values(world), kind="parameters"))
    assert len(drawn) == 20
    assert all(row["question"].startswith("parameters of ") for row in drawn)


def test_an_answer_is_right_word_for_word_but_for_white_space() -> None:
    item = {"kind": "parameters", "answer": "file, limit"}
    assert items.exact_match(item, [" file,  limit\n"]) == {"exact_match": 1.0}
    assert items.exact_match(item, ["file, limits"]) == {"exact_match": 0.0}

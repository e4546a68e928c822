"""Rows from further files, beside what an evaluation asks."""

from pathlib import Path

from llm.config.corpus import DecontaminateConfig
from llm.corpus.contamination import write_sets
from llm.data.extra import without_contaminated
from llm.data.pairs import Pair
from tests.stages.corpus_inputs import function_row, prose, put

CONFIG = DecontaminateConfig(
    heldout_frac=0.3, ngram_words=13, max_ngram_documents=2, evaluation_sets=[], drop=True
)


def test_both_answers_and_the_prompt_of_a_pair_count(tmp_path: Path):
    put(tmp_path / "heldout", [function_row(1)])
    write_sets(tmp_path, {"riddles": [("riddles:0", prose(2)), ("riddles:1", prose(3))]})

    def pair(question: str, chosen: str, rejected: str) -> Pair:
        return Pair([{"role": "user", "content": question}], chosen, rejected, "more", "chat")

    clean = pair("Why?", prose(5), prose(6))
    rows = [
        pair(prose(1), "a", "b"),
        clean,
        pair("Why?", prose(2), "b"),
        pair("Why?", "a", prose(3)),
    ]
    found = without_contaminated({"p.jsonl": rows[:2], "q.jsonl": rows[2:]}, tmp_path, CONFIG)
    assert found.rows == [clean]
    assert found.counts == {"read": 4, "contaminated": 3, "dropped": 3}
    assert [(hit.document, hit.set_name, hit.item) for hit in found.hits] == [
        ("p.jsonl:1", "heldout", function_row(1)["id"]),
        ("q.jsonl:1", "riddles", "riddles:0"),
        ("q.jsonl:2", "riddles", "riddles:1"),
    ]

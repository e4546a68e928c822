"""The quality rules, one document each."""

import pyarrow as pa
import pytest

from llm.config.corpus import FilterConfig
from llm.corpus.filters import judge, rules

CONFIG = FilterConfig(
    languages=["en", "de"],
    min_words=4,
    max_words=12,
    min_mean_word_length=2.0,
    max_mean_word_length=8.0,
    max_symbol_ratio=0.2,
    min_alphabetic_word_ratio=0.5,
    max_duplicate_line_ratio=0.3,
    max_digit_ratio=0.25,
)
GOOD = "Return the größte value of x."


def judged(*texts: str, language: str = "en") -> list[tuple[str | None, str | None]]:
    columns = {
        "id": [str(n) for n in range(len(texts))],
        "text": list(texts),
        "language": [language] * len(texts),
    }
    rows = judge(pa.table(columns), CONFIG).to_pylist()
    return [(row["rule"], row["value"]) for row in rows]


def test_a_good_document_passes():
    assert judged(GOOD) == [(None, None)]


@pytest.mark.parametrize(
    ("text", "rule", "value"),
    [
        ("Three\u00a0words only", "min_words", "3"),
        ("", "min_words", "0"),
        ("word " * 13, "max_words", "13"),
        ("a b c d", "min_mean_word_length", "1.0000"),
        ("Donaudampfschiff Kapitänsmütze Eierschale Sollbruch", "max_mean_word_length", "12.0000"),
        ("one == two || <three> ~~~~", "symbol_ratio", "0.3846"),
        ("one two (3) (4) (5)", "alphabetic_word_ratio", "0.4000"),
        ("same line\n same line\n\nsame line \nother line", "duplicate_line_ratio", "0.5000"),
        ("abc1234 defg567 hi j8", "digit_ratio", "0.3810"),
    ],
)
def test_each_rule_gives_its_name_and_the_measured_value(text: str, rule: str, value: str):
    assert judged(text) == [(rule, value)]


def test_the_language_is_tried_first():
    assert judged("a b", language="fr") == [("language", "fr")]
    assert judged(GOOD, language="de") == [(None, None)]


def test_verdicts_keep_the_order_of_the_documents():
    texts = [GOOD if n % 3 else "few words" for n in range(5000)]
    expected = [(None, None) if n % 3 else ("min_words", "2") for n in range(5000)]
    assert judged(*texts) == expected


def test_names_of_rules_differ_and_quotes_in_a_language_are_harmless():
    names = [rule.name for rule in rules(CONFIG)]
    assert len(set(names)) == len(names)
    odd = CONFIG.model_copy(update={"languages": ["e'n"]})
    table = pa.table({"id": ["1"], "text": [GOOD], "language": ["e'n"]})
    assert judge(table, odd)["rule"].to_pylist() == [None]

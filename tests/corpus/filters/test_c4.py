"""C4's rules for lines: what fails is cut, and nothing else changes."""

from typing import Any

import pyarrow as pa

from llm.config.filter import C4LinesConfig
from llm.corpus.filters.c4 import clean_lines

OFF: dict[str, Any] = {
    "terminal_punctuation": False,
    "min_words": None,
    "max_word_characters": None,
    "no_javascript": False,
    "no_policies": False,
    "no_citation_marks": False,
}


def cleaned(*texts: str, **rules: Any) -> tuple[list[str], int]:
    table = pa.table({"id": [str(n) for n in range(len(texts))], "text": list(texts)})
    cleaned, cut = clean_lines(table, C4LinesConfig(**OFF | rules))
    assert cleaned.drop_columns("text").equals(table.drop_columns("text"))
    return cleaned["text"].to_pylist(), cut


def test_without_rules_the_texts_are_as_they_were() -> None:
    assert cleaned("  a\n\nb ", "") == (["  a\n\nb ", ""], 0)


def test_each_rule_cuts_the_lines_that_fail_it() -> None:
    text = 'One.\nTwo\nThree!\n"Four"\nFive...\n\nsix?  '
    assert cleaned(text, terminal_punctuation=True) == (['One.\nThree!\n"Four"\nsix?  '], 2)
    assert cleaned("a b c\n a  b\n\n c d\te f", min_words=3) == (["a b c\n c d\te f"], 1)
    assert cleaned("abc\nabcd e\nab cd", max_word_characters=3) == (["abc\nab cd"], 1)
    assert cleaned("x\nPlease enable JavaScript.\ny", no_javascript=True) == (["x\ny"], 1)
    assert cleaned("This site uses Cookies.\nx", no_policies=True) == (["x"], 1)
    marks = "So[1] it is[citation needed][edit] [x]"
    assert cleaned(marks, no_citation_marks=True) == (["So it is [x]"], 0)


def test_a_text_of_which_nothing_is_left_is_empty_and_order_is_kept() -> None:
    texts = [f"line {n} is kept." if n % 2 else "cut" for n in range(3000)]
    left, cut = cleaned(*texts, min_words=2)
    assert left == [text if text != "cut" else "" for text in texts]
    assert cut == 1500

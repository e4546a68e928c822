"""The quality rules: each by its name, its measure and its limit."""

import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.config.base import parse_yaml, read_yaml
from llm.config.filter import FilterConfig
from llm.config.presets import apply_preset
from llm.corpus.filters.judge import judge
from llm.corpus.filters.lists import read_blocklist
from llm.corpus.filters.rules import RULES, limits
from llm.errors import ConfigError
from tests.conftest import ROOT

GOOD = "Return the größte value of x."


def config(**values: Any) -> FilterConfig:
    """Every rule off but those with a limit here, by name; `gopher__min_words` is in `gopher`."""
    section = _off(read_yaml(ROOT / "params.yaml")["filter"])
    for name, limit in values.items():
        *path, key = name.split("__")
        target = section
        for part in path:
            target = target[part]
        target[key] = limit
    return FilterConfig.model_validate(section)


def _off(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: _off(value) for key, value in values.items()}
    if isinstance(values, bool):
        return False
    return values if isinstance(values, list) and "the" in values else None


def table(*texts: str, **columns: str) -> pa.Table:
    one = {"language": "en", "language_score": "0.9000", "url": "https://a.org/b"} | columns
    rows = {name: [value] * len(texts) for name, value in one.items()}
    return pa.table({"id": [str(n) for n in range(len(texts))], "text": list(texts)} | rows)


def judged(
    limits: FilterConfig, *texts: str, **columns: str
) -> list[tuple[str | None, str | None]]:
    rows = judge(table(*texts, **columns), limits).to_pylist()
    return [(row["rule"], row["value"]) for row in rows]


LONG = " ".join(f"word{n}" for n in range(40))
RULE_CASES = [
    ("gopher__min_words", 4, "Three\u00a0words only", "3"),
    ("gopher__min_words", 1, "", "0"),
    ("gopher__max_words", 12, "word " * 13, "13"),
    ("gopher__min_mean_word_length", 2.0, "a b c d", "1.0000"),
    ("gopher__max_mean_word_length", 8.0, "Kapitän Kapitänsmütze", "10.0000"),
    ("gopher__max_hashes_per_word", 0.1, "# one two #", "0.5000"),
    ("gopher__max_ellipses_per_word", 0.1, "one... two… three.... four ......", "1.0000"),
    ("gopher__max_bullet_line_frac", 0.9, "- one\n  * two\n\n• three", "1.0000"),
    ("gopher__max_ellipsis_line_frac", 0.3, "one...\ntwo…\nthree.\n...", "0.7500"),
    ("gopher__min_alphabetic_word_frac", 0.5, "one two (3) (4) (5)", "0.4000"),
    ("gopher__min_stop_words", 2, "The thing: the other, (the third)", "1"),
    ("max_symbol_frac", 0.2, "one == two || <three> ~~~~", "0.3846"),
    ("max_digit_frac", 0.25, "abc1234 defg567 hi j8", "0.3810"),
    (
        "repetition__max_dup_line_frac",
        0.3,
        "same line\n same line\n\nsame line \nother line",
        "0.5000",
    ),
    ("repetition__max_dup_paragraph_frac", 0.1, "a\nb\n\na\nb\n\nc\n\na\n\nb", "0.2000"),
    ("repetition__max_dup_line_char_frac", 0.2, "abcd\nabcd\nxy", "0.3333"),
    ("repetition__max_dup_paragraph_char_frac", 0.2, "ab\ncd\n\nab\ncd", "0.4167"),
    ("repetition__max_top_2gram_char_frac", 0.2, "a b x a b y a b", "0.6000"),
    ("repetition__max_top_3gram_char_frac", 0.2, f"to be or to be or {'z' * 14}", "0.5000"),
    ("repetition__max_top_4gram_char_frac", 0.2, "a b c d a b c d", "0.9333"),
    ("repetition__max_dup_5gram_char_frac", 0.1, "a b c d e f a b c d e g", "0.2174"),
    ("repetition__max_dup_10gram_char_frac", 0.1, f"{LONG} {LONG}", "0.4267"),
    ("c4__no_lorem_ipsum", True, "Here is Lorem Ipsum dolor", "Lorem Ipsum"),
    ("c4__no_curly_bracket", True, "if (x) { y }", "8"),
    ("c4__min_sentences", 5, 'One. "Two?" he asks\nA heading', "4"),
    ("fineweb__min_punctuated_line_frac", 0.6, "One.\nTwo\n\nThree!\nFour", "0.5000"),
    ("fineweb__max_short_line_frac", 0.6, f"{'x' * 30}\n{'y' * 31}\n\nz", "0.6667"),
    ("fineweb__max_dup_line_char_frac", 0.1, "abcd\nabcd\nxy", "0.4000"),
    ("fineweb__max_line_feeds_per_word", 0.3, "one two\nthree\n\nfour", "0.7500"),
    ("min_language_score", 0.95, GOOD, "0.9"),
    ("languages", ["de", "fr"], GOOD, "en"),
]


@pytest.mark.parametrize(("key", "limit", "text", "value"), RULE_CASES)
def test_each_rule_gives_its_name_and_the_measured_value(
    key: str, limit: Any, text: str, value: str
) -> None:
    name = key.replace("__", ".")
    assert judged(config(**{key: limit}), text) == [(name, value)]


def test_a_good_document_passes_and_without_rules_everything_does() -> None:
    assert judged(config(gopher__min_words=4, languages=["en"]), GOOD) == [(None, None)]
    assert judged(config(), "", "x", language="xx") == [(None, None)] * 2


def test_every_rule_can_be_switched_off_and_has_a_source() -> None:
    assert limits(config()) == {}
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names)
    assert all(rule.source for rule in RULES)
    text = apply_preset((ROOT / "params.yaml").read_text(), "web", ROOT / "presets")
    web = parse_yaml(text, "web")
    tried = limits(FilterConfig.model_validate(web["filter"]))
    ours = {rule.name for rule in RULES if rule.source == "ours"}
    assert set(names) - set(tried) == {"url_blocklist", "bad_words"} | ours


def test_the_first_rule_that_fails_is_named() -> None:
    both = config(languages=["en"], gopher__min_words=3, max_digit_frac=0.1)
    assert judged(both, "1 2", language="fr") == [("languages", "fr")]
    assert judged(both, "1 2") == [("gopher.min_words", "2")]
    assert judged(both, "1 2 3") == [("max_digit_frac", "0.6000")]


def test_verdicts_keep_the_order_of_the_documents() -> None:
    texts = [GOOD if n % 3 else "few words" for n in range(5000)]
    expected = [(None, None) if n % 3 else ("gopher.min_words", "2") for n in range(5000)]
    assert judged(config(gopher__min_words=4), *texts) == expected


def test_a_quote_in_a_language_is_harmless() -> None:
    assert judged(config(languages=["e'n"]), GOOD, language="e'n") == [(None, None)]


def test_no_text_holds_a_word_of_the_list(tmp_path: Path) -> None:
    path = tmp_path / "bad.txt"
    path.write_text("# mine\nheck\nson of a gun\nc++'\nGRÖßE\n\n")
    listed = config(bad_words=str(path))
    bad = ["What the HECK, man", "A son of a gun!", "in c++'", "Ihre Größe.", "heck"]
    assert judged(listed, *bad) == [
        ("bad_words", word) for word in ("HECK", "son of a gun", "c++'", "Größe", "heck")
    ]
    assert judged(listed, "checks hecker", "son of gun", "Größen", "") == [(None, None)] * 4


def test_no_document_is_from_a_place_of_the_list(tmp_path: Path) -> None:
    path = tmp_path / "urls.txt"
    path.write_text("bad.org\n.worse.net\ngood.org/Ads/\n")
    listed = config(url_blocklist=str(path))
    for url, entry in (
        ("https://bad.org/x", "bad.org"),
        ("http://me@WWW.bad.ORG:80/x?y", "bad.org"),
        ("https://a.b.worse.net./", "worse.net"),
        ("https://good.org/ads/1", "good.org/ads/"),
        ("https://notbad.org/", None),
        ("https://good.org/bad.org", None),
        ("python:bad.org#x", None),
        ("https://[broken/", None),
    ):
        verdict = ("url_blocklist", entry) if entry else (None, None)
        assert judged(listed, GOOD, url=url) == [verdict], url


@given(st.lists(st.text("aB/.", min_size=2, max_size=6), min_size=1), st.text("Ab/.", max_size=20))
def test_an_entry_with_a_slash_is_found_wherever_it_is_in_a_url(entries: list[str], path: str):
    parts = [f"{entry}/" for entry in entries]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(parts))
        file.flush()
        found = read_blocklist(Path(file.name)).match(f"x:{path}")
    read_blocklist.cache_clear()
    held = {part.lower() for part in parts if part.lower() in f"x:{path}".lower()}
    assert found in held if held else found is None


def test_a_list_that_is_missing_or_empty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no list .*name a file, or null"):
        judged(config(bad_words=str(tmp_path / "none")), GOOD)
    (tmp_path / "empty").write_text("# nothing\n")
    with pytest.raises(ConfigError, match="has no entries"):
        judged(config(url_blocklist=str(tmp_path / "empty")), GOOD)

"""The quality rules: each a named measure in SQL, how it fails, and where it is from.

Rules are tried in this order; the first that fails names the rejection. A rule's name is
the key of its limit in params.yaml's section `filter`; without a limit it is not tried.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from llm.config.base import value_at
from llm.config.filter import FilterConfig
from llm.corpus.filters.lists import bad_words_pattern
from llm.corpus.filters.repetition import DUPLICATE, TOP

QUALITY = "Gopher (Rae et al. 2021), section A1.1"
TABLE_A1 = "Gopher (Rae et al. 2021), table A1"
C4 = "C4 (Raffel et al. 2020), section 2.2"
FINEWEB = "FineWeb (Penedo et al. 2024), section 3.6"
FINEWEB_BASE = "FineWeb (Penedo et al. 2024), section 3.3"
OURS = "ours"
APART = r"[^\p{L}\p{N}_]"  # what may stand beside a bad word


@dataclass(frozen=True)
class Rule:
    """A text fails when its measure does; where there is nothing to measure it is NULL and passes."""

    name: str
    measure: str  # SQL over a document's columns and its counts; {limit} is the limit in it
    fails: Literal["<", ">", "not in", "found"]
    source: str

    def condition(self, column: str, limit: Any) -> str:
        """SQL that holds when `column`, the measure, fails."""
        if self.fails == "found":
            return f"{column} IS NOT NULL"
        if self.fails == "not in":
            return f"{column} NOT IN ({', '.join(map(_quoted, limit))})"
        return f"{column} {self.fails} {limit}"

    def shown(self, column: str) -> str:
        """SQL of the measure as text: a ratio with four decimals, anything else as it is."""
        if "/" in self.measure:
            return f"printf('%.4f', {column})"
        return f"CAST({column} AS VARCHAR)"


RULES = (
    Rule("url_blocklist", "blocked_by", "found", FINEWEB_BASE),
    Rule("languages", "language", "not in", FINEWEB_BASE),
    Rule("min_language_score", "CAST(language_score AS DOUBLE)", "<", FINEWEB_BASE),
    Rule("gopher.min_words", "words", "<", QUALITY),
    Rule("gopher.max_words", "words", ">", QUALITY),
    Rule("gopher.min_mean_word_length", "letters / nullif(words, 0)", "<", QUALITY),
    Rule("gopher.max_mean_word_length", "letters / nullif(words, 0)", ">", QUALITY),
    Rule("gopher.max_hashes_per_word", "hashes / nullif(words, 0)", ">", QUALITY),
    Rule("gopher.max_ellipses_per_word", "ellipses / nullif(words, 0)", ">", QUALITY),
    Rule("gopher.max_bullet_line_frac", "bullet_lines / nullif(lines, 0)", ">", QUALITY),
    Rule("gopher.max_ellipsis_line_frac", "ellipsis_lines / nullif(lines, 0)", ">", QUALITY),
    Rule("max_symbol_frac", "symbols / nullif(characters, 0)", ">", OURS),
    Rule("gopher.min_alphabetic_word_frac", "alphabetic_words / nullif(words, 0)", "<", QUALITY),
    Rule("gopher.min_stop_words", "stop_words", "<", QUALITY),
    Rule("max_digit_frac", "digits / nullif(characters, 0)", ">", OURS),
    Rule("repetition.max_dup_line_frac", "dup_lines / nullif(lines, 0)", ">", TABLE_A1),
    Rule(
        "repetition.max_dup_paragraph_frac", "dup_paragraphs / nullif(paragraphs, 0)", ">", TABLE_A1
    ),
    Rule(
        "repetition.max_dup_line_char_frac",
        "dup_line_characters / nullif(characters, 0)",
        ">",
        TABLE_A1,
    ),
    Rule(
        "repetition.max_dup_paragraph_char_frac",
        "dup_paragraph_characters / nullif(characters, 0)",
        ">",
        TABLE_A1,
    ),
    *(
        Rule(
            f"repetition.max_{kind}_{n}gram_char_frac",
            f"{kind}_{n}gram / nullif(characters, 0)",
            ">",
            TABLE_A1,
        )
        for kind, sizes in (("top", TOP), ("dup", DUPLICATE))
        for n in sizes
    ),
    Rule("c4.no_lorem_ipsum", "nullif(regexp_extract(text, '(?i)lorem ipsum'), '')", "found", C4),
    Rule("c4.no_curly_bracket", "nullif(strpos(text, '{'), 0)", "found", C4),
    Rule("c4.min_sentences", "sentences", "<", C4),
    Rule("fineweb.min_punctuated_line_frac", "punctuated_lines / nullif(lines, 0)", "<", FINEWEB),
    Rule("fineweb.max_short_line_frac", "short_lines / nullif(lines, 0)", ">", FINEWEB),
    Rule(
        "fineweb.max_dup_line_char_frac",
        "dup_line_characters / nullif(characters - line_feeds, 0)",
        ">",
        FINEWEB,
    ),
    Rule("fineweb.max_line_feeds_per_word", "line_feeds / nullif(words, 0)", ">", FINEWEB),
    Rule(
        "bad_words",
        f"nullif(regexp_extract(text, '(?i)(?:^|{APART})({{limit}})(?:$|{APART})', 1), '')",
        "found",
        C4,
    ),
)


def limits(config: FilterConfig) -> dict[str, Any]:
    """The limit of each rule that is not switched off, in the order of the rules."""
    values = config.model_dump()
    found = {rule.name: value_at(values, rule.name) for rule in RULES}
    return {name: limit for name, limit in found.items() if limit not in (None, False)}


def measures(tried: dict[str, Any]) -> dict[str, str]:
    """SQL of the measure of each rule that has a limit."""
    literals = dict(tried)
    if "bad_words" in tried:
        literals["bad_words"] = bad_words_pattern(Path(tried["bad_words"])).replace("'", "''")
    return {
        rule.name: rule.measure.replace("{limit}", str(literals[rule.name]))
        for rule in RULES
        if rule.name in tried
    }


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"

"""C4's rules for lines (Raffel et al. 2020, section 2.2, and its code), in SQL over a shard."""

import pyarrow as pa

from llm.config.filter import C4LinesConfig
from llm.corpus.filters.query import query

POLICIES = (
    "terms of use|privacy policy|cookie policy|uses cookies|use of cookies|use cookies"  # C4's code
)
CITATION_MARKS = r"\[\d*\]|\[edit\]|\[citation needed\]"


def clean_lines(documents: pa.Table, config: C4LinesConfig) -> tuple[pa.Table, int]:
    """The documents, in order, without the lines that fail a rule; and how many those were.

    Empty lines go with the lines around them only where a rule asks for words.
    """
    tests = _tests(config)
    if not tests and not config.no_citation_marks:
        return documents, 0
    line = f"regexp_replace(line, '{CITATION_MARKS}', '', 'g')"
    sql = f"""
        WITH numbered AS (SELECT text, row_number() OVER () AS document FROM documents),
        lines AS (
            SELECT document, unnest(string_split(text, chr(10))) AS line,
                generate_subscripts(string_split(text, chr(10)), 1) AS number
            FROM numbered
        ),
        marked AS (
            SELECT document, number, {line if config.no_citation_marks else "line"} AS line
            FROM lines
        ),
        judged AS (SELECT *, {" AND ".join(tests) or "true"} AS kept FROM marked),
        cleaned AS (
            SELECT document, string_agg(line, chr(10) ORDER BY number) FILTER (kept) AS text,
                count(*) FILTER (NOT kept AND line <> '') AS cut
            FROM judged GROUP BY document
        )
        SELECT coalesce(trim(text, chr(10)), '') AS text, cut FROM cleaned ORDER BY document
    """
    cleaned = query(sql, documents.select(["text"]))
    column = documents.column_names.index("text")
    return (
        documents.set_column(column, "text", cleaned["text"]),
        sum(cleaned["cut"].to_pylist()),
    )


def _tests(config: C4LinesConfig) -> list[str]:
    """SQL conditions of a line that stays."""
    tests = []
    if config.terminal_punctuation:
        tests.append(
            r"""regexp_matches(line, '[.?!"''''][ \t]*$') AND NOT regexp_matches(line, '\.\.\.[ \t]*$')"""
        )
    if config.min_words is not None:
        tests.append(rf"regexp_matches(line, '\S(?:.*?\s\S){{{config.min_words - 1}}}')")
    if config.max_word_characters is not None:
        tests.append(rf"NOT regexp_matches(line, '\S{{{config.max_word_characters}}}\S')")
    if config.no_javascript:
        tests.append("NOT regexp_matches(line, '(?i)javascript')")
    if config.no_policies:
        tests.append(f"NOT regexp_matches(line, '(?i){POLICIES}')")
    return tests

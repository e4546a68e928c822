"""Heuristic quality rules as SQL: one measure and one limit per named rule.

The rules and their limits follow Gopher (Rae et al. 2021, table A1), loosened for
documentation, which holds more code than web pages do.
"""

from dataclasses import dataclass

import duckdb
import pyarrow as pa

from llm.config.corpus import FilterConfig

# A measure that divides by no words is NULL and passes: min_words comes before it.
PREPARED = r"""
    SELECT *,
        list_filter(regexp_split_to_array(text, '[\s\p{Z}]+'), lambda w: w <> '') AS words,
        list_filter(
            list_transform(string_split(text, chr(10)), lambda l: trim(l)), lambda l: l <> ''
        ) AS lines
    FROM documents
"""
LETTERS = r"length(regexp_replace(text, '[\s\p{Z}]+', '', 'g'))"
SYMBOLS = r"""length(regexp_replace(text, '[\p{L}\p{N}\s\p{Z}.,;:''"()]+', '', 'g'))"""
DIGITS = r"length(regexp_replace(text, '\P{Nd}+', '', 'g'))"
ALPHABETIC = r"len(list_filter(words, lambda w: regexp_matches(w, '\p{L}')))"


@dataclass(frozen=True)
class Rule:
    """A document fails when `fails` holds of `measure`."""

    name: str
    measure: str  # SQL over the columns of PREPARED
    fails: str  # SQL condition with {} for the measure


def rules(config: FilterConfig) -> list[Rule]:
    """The rules in the order they are tried; the first that fails names the rejection."""
    languages = ", ".join("'" + code.replace("'", "''") + "'" for code in config.languages)
    mean_word_length = f"{LETTERS} / nullif(len(words), 0)"
    return [
        Rule("language", "language", f"{{}} NOT IN ({languages})"),
        Rule("min_words", "len(words)", f"{{}} < {config.min_words}"),
        Rule("max_words", "len(words)", f"{{}} > {config.max_words}"),
        Rule("min_mean_word_length", mean_word_length, f"{{}} < {config.min_mean_word_length}"),
        Rule("max_mean_word_length", mean_word_length, f"{{}} > {config.max_mean_word_length}"),
        Rule("symbol_ratio", f"{SYMBOLS} / length(text)", f"{{}} > {config.max_symbol_ratio}"),
        Rule(
            "alphabetic_word_ratio",
            f"{ALPHABETIC} / nullif(len(words), 0)",
            f"{{}} < {config.min_alphabetic_word_ratio}",
        ),
        Rule(
            "duplicate_line_ratio",
            "1 - len(list_distinct(lines)) / nullif(len(lines), 0)",
            f"{{}} > {config.max_duplicate_line_ratio}",
        ),
        Rule("digit_ratio", f"{DIGITS} / length(text)", f"{{}} > {config.max_digit_ratio}"),
    ]


def judge(documents: pa.Table, config: FilterConfig) -> pa.Table:
    """Per document, in order: `rule`, the first rule it fails or NULL, and the measured `value`."""
    tried = rules(config)
    measures = ", ".join(f"{rule.measure} AS m{n}" for n, rule in enumerate(tried))
    fails = [f"WHEN {rule.fails.format(f'm{n}')} THEN" for n, rule in enumerate(tried)]
    rule_case = " ".join(f"{when} '{tried[n].name}'" for n, when in enumerate(fails))
    value_case = " ".join(f"{when} {_shown(tried[n], n)}" for n, when in enumerate(fails))
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("SET enable_progress_bar = false")
        connection.register("documents", documents)
        query = f"""
            WITH prepared AS MATERIALIZED ({PREPARED}),
                measured AS MATERIALIZED (SELECT id, {measures} FROM prepared)
            SELECT id, CASE {rule_case} END AS rule, CASE {value_case} END AS value FROM measured
        """
        verdicts = connection.sql(query).to_arrow_table()
    assert verdicts["id"].equals(documents["id"]), "one thread keeps the order"
    return verdicts.drop_columns("id")


def _shown(rule: Rule, number: int) -> str:
    """The measure as text: a ratio or mean with four decimals, a count or code as it is."""
    if "/" in rule.measure:
        return f"printf('%.4f', m{number})"
    return f"CAST(m{number} AS VARCHAR)"

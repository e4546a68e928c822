"""Documents against the rules: one query over all documents of a shard and their counts."""

from pathlib import Path

import pyarrow as pa

from llm.config.filter import FilterConfig
from llm.corpus.columns import text_column
from llm.corpus.filters.lists import read_blocklist
from llm.corpus.filters.measures import measure
from llm.corpus.filters.query import query
from llm.corpus.filters.rules import RULES, limits, measures

# What the counts do not hold; `text` is looked through as a whole.
PREPARED = """
    SELECT *,
        length(text) - length(replace(text, '#', '')) AS hashes,
        (length(text) - length(replace(text, '...', ''))) // 3
            + length(text) - length(replace(text, '…', '')) AS ellipses
    FROM documents
"""


def judge(documents: pa.Table, config: FilterConfig) -> pa.Table:
    """Per document, in order: `rule`, the first rule it fails or NULL, and the measured `value`."""
    tried = limits(config)
    active = [rule for rule in RULES if rule.name in tried]
    whens = [f"WHEN {rule.condition(f'm{n}', tried[rule.name])}" for n, rule in enumerate(active)]
    names = [f"{when} THEN '{active[n].name}'" for n, when in enumerate(whens)]
    shown = [f"{when} THEN {active[n].shown(f'm{n}')}" for n, when in enumerate(whens)]
    verdicts = _query(
        documents, config, f"SELECT {_first(names)} AS rule, {_first(shown)} AS value"
    )
    assert verdicts["id"].equals(documents["id"]), "one thread keeps the order"
    return verdicts.drop_columns("id")


def measured(documents: pa.Table, config: FilterConfig) -> pa.Table:
    """Per document, in order: the measure of each rule that is tried, in a column of its name."""
    columns = ", ".join(f'm{n} AS "{name}"' for n, name in enumerate(limits(config)))
    return _query(documents, config, f"SELECT {columns}").drop_columns("id")


def _first(whens: list[str]) -> str:
    """The value of the first condition that holds, or NULL."""
    return f"CASE {' '.join(whens)} ELSE NULL END" if whens else "NULL::VARCHAR"


def _query(documents: pa.Table, config: FilterConfig, select: str) -> pa.Table:
    """The rows of `select` over the measures m0, m1 and so on, and the documents' ids."""
    found = [f", {sql} AS m{n}" for n, sql in enumerate(measures(limits(config)).values())]
    sql = (
        f"WITH prepared AS ({PREPARED}), "
        f"measured AS MATERIALIZED (SELECT id{''.join(found)} FROM prepared) "
        f"{select}, id FROM measured"
    )
    return query(sql, _with_counts(documents, config))


def _with_counts(documents: pa.Table, config: FilterConfig) -> pa.Table:
    """Documents beside their counts, and beside the entry of the block list that forbids them."""
    counts = measure(documents["text"].to_pylist(), config.gopher.stop_words)
    table = documents
    for name in counts.column_names:
        table = table.append_column(name, counts[name])
    if config.url_blocklist:
        blocklist = read_blocklist(Path(config.url_blocklist))
        blocked = [blocklist.match(url) for url in documents["url"].to_pylist()]
        table = table.append_column("blocked_by", text_column(blocked))
    return table

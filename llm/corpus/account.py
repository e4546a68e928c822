"""What became of every document of a checkout, as one table over the stages' own records.

Each stage writes what it leaves out and why; here those files are one view, `losses`:
stage, source, rule, id, url, value. Only files that are there are read, so that an account
can be given after any stage.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import duckdb

from llm.errors import DataError

STAGES = ("gather", "extract", "filter", "dedup", "decontaminate", "tokenize")
KEPT = {  # the shards of what each stage leaves
    "gather": "gather/[0-9]*.parquet",
    "extract": "extract/[0-9]*.parquet",
    "filter": "filter/kept/*.parquet",
    "dedup": "dedup/kept/*.parquet",
    "decontaminate": "decontaminate/kept/*.parquet",
    "tokenize": "tokenize/documents/*.parquet",
}
LOSSES = {  # file to its rows: stage, source, rule, id, url, value
    "gather/skipped/*.parquet": "SELECT 'gather' AS stage, source, reason AS rule, NULL AS id, "
    "url, detail AS value FROM read_parquet(?)",
    "extract/failed.parquet": "SELECT 'extract', source, reason, id, NULL, NULL FROM read_parquet(?)",
    "filter/rejected/*.parquet": "SELECT 'filter', source, rule, id, NULL, value FROM read_parquet(?)",
    "dedup/clusters.parquet": "SELECT 'dedup', NULL, kind, id, NULL, kept_id FROM read_parquet(?)",
    "decontaminate/heldout/*.parquet": "SELECT 'decontaminate', source, 'heldout', id, NULL, NULL "
    "FROM read_parquet(?)",
    "decontaminate/contamination.parquet": "SELECT 'decontaminate', NULL, 'contaminated', "
    "document_id, NULL, min(ngram) FROM read_parquet(?) WHERE document_id NOT IN (SELECT id FROM kept) "
    "GROUP BY document_id",
    "tokenize/left_out/*.parquet": "SELECT 'tokenize', source, 'weight', id, NULL, NULL "
    "FROM read_parquet(?)",
}
SHOWN_CHARACTERS = 200


@dataclass(frozen=True)
class Step:
    """One line of the waterfall."""

    stage: str
    source: str
    rule: str  # empty: what the stage leaves
    documents: int


class Account:
    """The account of a folder of data; close it, or use it in a `with`."""

    def __init__(self, data: Path) -> None:
        self._data = data
        if not self._files(KEPT["gather"]):
            raise DataError(f"{data} holds no gathered documents; `dvc repro gather` makes them")
        self._db = duckdb.connect()
        self._db.execute("SET enable_progress_bar = false")
        self._prepare()

    def _prepare(self) -> None:
        """The views `gathered`, `kept` and `losses`."""
        gathered = _literal(self._files(KEPT["gather"]))
        self._execute(
            f"CREATE VIEW gathered AS SELECT id, source, url FROM read_parquet({gathered})"
        )
        kept = self._files(KEPT["decontaminate"])
        self._execute(
            f"CREATE VIEW kept AS SELECT id FROM read_parquet({_literal(kept)})"
            if kept
            else "CREATE VIEW kept AS SELECT NULL::VARCHAR AS id WHERE false"
        )
        selects = [
            select.replace("?", _literal(files))
            for pattern, select in LOSSES.items()
            if (files := self._files(pattern))
        ]
        empty = "SELECT ''::VARCHAR AS stage, '' AS source, '' AS rule, '' AS id, '' AS url, '' AS value"
        self._execute(
            f"CREATE TEMP TABLE lost AS {' UNION ALL '.join([f'{empty} WHERE false', *selects])}"
        )
        self._execute(
            "CREATE VIEW losses AS SELECT stage, coalesce(lost.source, g.source) AS source, rule, "
            "lost.id AS id, coalesce(lost.url, g.url) AS url, "
            "coalesce('duplicate of ' || k.url, value) AS value FROM lost "
            f"LEFT JOIN ({_named('id')}) g ON lost.id = g.id "
            f"LEFT JOIN ({_named('value')}) k ON stage = 'dedup' AND value = k.id"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._db.close()

    def funnel(self) -> list[Step]:
        """The waterfall: per stage and source what each rule drops, then what is left."""
        dropped = self._rows(
            "SELECT stage, source, rule, count(*) AS documents FROM losses GROUP BY ALL "
            "ORDER BY source, documents DESC, rule"
        )
        steps = []
        for stage in STAGES:
            files = self._files(KEPT[stage])
            if not files:
                break
            left = self._rows(
                f"SELECT source, count(*) AS documents FROM read_parquet({_literal(files)}) "
                "GROUP BY source ORDER BY source"
            )
            steps += [Step(**row) for row in dropped if row["stage"] == stage]
            steps += [Step(stage, row["source"], "", row["documents"]) for row in left]
        return steps

    def rules(self) -> list[str]:
        """The rules that dropped something."""
        return [row["rule"] for row in self._rows("SELECT DISTINCT rule FROM losses ORDER BY rule")]

    def rejected(self, rule: str, sample: int, seed: int) -> list[dict[str, Any]]:
        """A sample of what a rule dropped, the same for the same seed, with the text's beginning."""
        rows = self._rows(
            "SELECT * FROM losses WHERE rule = ? ORDER BY md5(concat(coalesce(id, url), ?)) LIMIT ?",
            [rule, str(seed), sample],
        )
        texts = self._texts([row["id"] for row in rows if row["id"]])
        return [row | {"text": texts.get(row["id"], "")} for row in rows]

    def trace(self, document_id: str) -> list[dict[str, Any]]:
        """What each stage did to a document, up to the one that dropped it; DataError if there is none.

        `kept` is the document as the stage leaves it; a stage that drops it gives `rule` and
        `value`. The id may be cut off as long as it means one document. What was skipped while it
        was gathered has no id, and is found by its url.
        """
        found = self._rows(
            "SELECT DISTINCT * FROM gathered WHERE starts_with(id, ?) OR url = ? ORDER BY id LIMIT 3",
            [document_id, document_id],
        )
        if not found and (skipped := self._skipped(document_id)):
            return skipped
        if len(found) != 1:
            ids = ", ".join(row["id"] for row in found[:2])
            count = f"more than one document ({ids}, …)" if found else "no document"
            raise DataError(f"{document_id!r} is the id or url of {count} in {self._data}")
        (document,) = found
        lost = {
            row["stage"]: row
            for row in self._rows("SELECT * FROM losses WHERE id = ?", [document["id"]])
        }
        steps = []
        for stage in STAGES:
            if not (files := self._files(KEPT[stage])):
                break
            here = f"SELECT * FROM read_parquet({_literal(files)}) WHERE id = ?"
            row = next(iter(self._rows(here, [document["id"]])), None)
            loss = lost.get(stage) if row is None else None
            verdict = {"rule": loss["rule"], "value": loss["value"]} if loss else {}
            steps.append({**document, "stage": stage, "kept": row, **verdict})
            if row is None:
                break
        return steps

    def _skipped(self, url: str) -> list[dict[str, Any]]:
        """A trace of what gather did not make a document of; empty when there is none at the url."""
        return self._rows(
            "SELECT DISTINCT stage, source, id, url, NULL AS kept, rule, value FROM losses "
            "WHERE stage = 'gather' AND url = ? ORDER BY rule, value",
            [url],
        )

    def _texts(self, ids: list[str]) -> dict[str, str]:
        """The beginning of the documents' text, extracted if it was, else as it was gathered."""
        texts: dict[str, str] = {}
        for stage, column in (("gather", "content"), ("extract", "text")):
            if files := self._files(KEPT[stage]):
                rows = self._rows(
                    f"SELECT id, left({column}, {SHOWN_CHARACTERS}) AS text "
                    f"FROM read_parquet({_literal(files)}) WHERE list_contains(?, id)",
                    [ids],
                )
                texts |= {row["id"]: row["text"] for row in rows}
        return texts

    def _files(self, pattern: str) -> list[str]:
        return [str(path) for path in sorted(self._data.glob(pattern))]

    def _rows(self, query: str, values: list[Any] | None = None) -> list[dict[str, Any]]:
        with self._readable():
            return self._db.sql(query, params=values).to_arrow_table().to_pylist()

    def _execute(self, statement: str) -> None:
        with self._readable():
            self._db.execute(statement)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """DataError for what DuckDB can't read."""
        try:
            yield
        except duckdb.Error as error:
            why = str(error).splitlines()[0]
            raise DataError(f"{self._data} can't be read: {why}; `dvc repro` makes it") from None


def _named(column: str) -> str:
    """SQL of the gathered documents that a column of `lost` names, each once: a page that two
    archives hold has the same id in both."""
    return (
        "SELECT id, any_value(source) AS source, any_value(url) AS url FROM gathered "
        f"WHERE id IN (SELECT {column} FROM lost) GROUP BY id"
    )


def _literal(files: list[str]) -> str:
    """A list of file names in SQL."""
    quoted = ["'" + file.replace("'", "''") + "'" for file in files]
    return f"[{', '.join(quoted)}]"

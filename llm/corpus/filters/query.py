"""SQL over the documents of a shard; the database is kept for the next one."""

from functools import cache

import duckdb
import pyarrow as pa


def query(sql: str, documents: pa.Table) -> pa.Table:
    """The rows of `sql`, in which the table is called `documents`, in its order: one thread keeps it."""
    with _database().cursor() as connection:  # its own, should a cluster's worker have two threads
        connection.execute("SET enable_progress_bar = false")
        connection.register("documents", documents)
        return connection.sql(sql).to_arrow_table()


@cache
def _database() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(config={"threads": 1})

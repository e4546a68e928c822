"""SQL over the documents of a shard; the connection is kept for the next one."""

from functools import cache

import duckdb
import pyarrow as pa


def query(sql: str, documents: pa.Table) -> pa.Table:
    """The rows of `sql`, in which the table is called `documents`, in its order: one thread keeps it."""
    connection = _connection()
    connection.register("documents", documents)
    try:
        return connection.sql(sql).to_arrow_table()
    finally:
        connection.unregister("documents")


@cache
def _connection() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(config={"threads": 1})
    connection.execute("SET enable_progress_bar = false")
    return connection

"""Queries that stand in no file, though they say that they do."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from db import Database, Query

UNTIL = datetime(2026, 1, 13, 12, tzinfo=timezone.utc)  # the end of the sample data
SINCE = UNTIL - timedelta(days=7)


def query(sql: str) -> Query:
    """A query without keys."""
    return Query("some_query", sql, Path("queries.sql"), 7, {}, {})


def run(
    database: Database, sql: str, since: datetime = SINCE, until: datetime = UNTIL
) -> Iterator[tuple[Any, ...]]:
    """The rows of a query, for a window."""
    _, rows = database.rows(query(sql), since, until)
    return rows


def create(path: Path, script: str = "CREATE TABLE t (a); INSERT INTO t VALUES (1), (2)") -> str:
    """Makes a SQLite database and returns its URL."""
    connection = sqlite3.connect(path)
    connection.executescript(script)
    connection.close()
    return f"sqlite:///{path}"

"""Puts rows of any values where a run finds them: into SQLite, or behind another driver."""

from __future__ import annotations

import pickle
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.project import Project
from tests.runs import other_database

Rows = Sequence[Sequence[Any]]


def store_behind_a_driver(project: Project, columns: Sequence[str], rows: Rows) -> None:
    """Makes every query of the project return these rows, as they are."""
    path = project.directory / other_database.ROWS
    path.write_bytes(pickle.dumps((columns, rows)))
    project.program = Path(other_database.__file__)


def store_in_sqlite(project: Project, columns: Sequence[str], rows: Rows) -> None:
    """Makes them the table `rows`; broken text can only come as bytes."""
    with sqlite3.connect(project.database) as connection:
        connection.execute(f"CREATE TABLE rows ({', '.join(columns)})")
        for row in rows:
            places = []
            cells = []
            for cell in row:
                if isinstance(cell, str):
                    places.append("CAST(? AS TEXT)")
                    cells.append(cell.encode("utf-8", "surrogateescape"))
                else:
                    places.append("?")
                    cells.append(cell)
            connection.execute(f"INSERT INTO rows VALUES ({', '.join(places)})", cells)  # noqa: S608
    connection.close()

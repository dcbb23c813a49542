"""Tables of odd rows, and what became of each of their rows."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Sequence
from typing import Any

import pytest

from tests.project import Finished, Json, Project

BOTH_MODES = pytest.mark.parametrize("mode", ["single", "bulk"])
RISKY = tuple(
    "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"
)  # what a spreadsheet takes for the start of a formula
NUMBER = re.compile(r"-(\d+(\.\d+)?(e[+-]?\d+)?|inf|Infinity)", re.IGNORECASE)


def make_table(project: Project, keys: str, columns: str, rows: Sequence[Sequence[Any]]) -> None:
    """Makes a table of rows, and a query of all of them, `q`, below these keys."""
    lines = "".join(f"-- {key}\n" for key in keys.splitlines())
    project.queries(f"-- name: q\n{lines}SELECT * FROM odd ORDER BY rowid")  # noqa: S608
    places = ", ".join("?" * len(rows[0]))
    with sqlite3.connect(project.database) as connection:
        connection.execute(f"CREATE TABLE odd ({columns})")
        connection.executemany(f"INSERT INTO odd VALUES ({places})", rows)  # noqa: S608
    connection.close()


def codes(done: Finished, call: str) -> list[str]:
    """The code of the answer to a call of each row, in the order of the rows."""
    records = done.results["records"]
    assert [record["row"] for record in records] == list(range(1, len(records) + 1))
    found = [str(record[call]["response"]["code"]) for record in records]
    successes = [record[call]["success"] for record in records]
    assert successes == [code == "Success" for code in found]
    return found


def canonical(payloads: Sequence[Json]) -> list[str]:
    """What tells payloads apart, in any order; unlike ==, it knows 1 from 1.0 and true."""
    return sorted(json.dumps(payload, sort_keys=True) for payload in payloads)


def undefused(cell: str) -> str:
    """A cell of the CSV without the apostrophe that defuses it; none is left undefused."""
    if cell.startswith(RISKY):
        assert NUMBER.fullmatch(cell), cell
    if cell.startswith("'") and cell[1:].startswith(RISKY):
        return cell[1:]
    return cell


def cells_of(done: Finished) -> list[list[str]]:
    """The lines of the CSV as they were meant."""
    return [[undefused(cell) for cell in line] for line in done.rows]

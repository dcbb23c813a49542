"""SQLite's files as they are found: locked, read-only, attached; and what errors may say."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from db import (
    DatabaseError,
    connect,
    spool,
)
from tests.alarm import alarm
from tests.databases.queries import create, query, run
from tests.locks import locked

UTC = ZoneInfo("UTC")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return create(tmp_path / "test.db")


@pytest.mark.parametrize("place", ["{}/new.db", "{}/other.db", "file:{}/new.db?mode=rwc"])
def test_a_query_cannot_open_or_make_another_file(tmp_path: Path, url: str, place: str) -> None:
    create(tmp_path / "other.db")
    before = sorted(tmp_path.iterdir())
    name = place.format(tmp_path)
    for sql in (f"ATTACH '{name}' AS x", f"VACUUM INTO '{name}'"):
        with connect(url, UTC) as database, pytest.raises(DatabaseError, match=r"ATTACH|VACUUM"):
            run(database, sql)
    assert sorted(tmp_path.iterdir()) == before


@contextmanager
def without_privileges() -> Iterator[None]:
    """As a user whom permissions hold back, which they do not hold root."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("has_log", [True, False])
def test_a_file_in_wal_mode_in_a_directory_that_is_read_only_is_told_with_what_helps(
    tmp_path: Path, has_log: bool
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        path = Path(name, "a.db")
        original = tmp_path / "a.db"
        writer = sqlite3.connect(original)
        writer.executescript("PRAGMA journal_mode = WAL; CREATE TABLE t (a)")
        if has_log:
            shutil.copy(f"{original}-wal", name)
        else:
            writer.close()
        shutil.copy(original, name)
        path.parent.chmod(0o555)
        with without_privileges(), pytest.raises(DatabaseError) as caught:
            connect(f"sqlite:///{path}", UTC)
        writer.close()
        path.parent.chmod(0o755)
    assert "a.db cannot be opened: it is in WAL mode, which needs files beside" in str(caught.value)
    assert "read a copy of it elsewhere, or switch it with PRAGMA" in str(caught.value)


def test_a_file_that_another_process_has_locked_is_told_in_a_sentence(
    tmp_path: Path, url: str
) -> None:
    with locked(tmp_path / "test.db"), pytest.raises(DatabaseError) as caught:
        connect(url, UTC, patience=0)
    reason = "another process has locked it. Run again when that is done."
    assert str(caught.value) == f"The SQLite file {tmp_path}/test.db cannot be opened: {reason}"


def test_a_lock_that_ends_in_time_does_no_harm(tmp_path: Path, url: str) -> None:
    connection = sqlite3.connect(
        tmp_path / "test.db", isolation_level=None, check_same_thread=False
    )
    connection.execute("BEGIN EXCLUSIVE")
    timer = threading.Timer(0.7, connection.close)  # later than SQLite itself waits
    timer.start()
    with connect(url, UTC) as database:
        assert list(run(database, "SELECT a FROM t ORDER BY a")) == [(1,), (2,)]
    timer.join()


def test_a_signal_ends_the_wait_for_a_lock(tmp_path: Path, url: str) -> None:
    with locked(tmp_path / "test.db"), alarm(), pytest.raises(KeyboardInterrupt):
        connect(url, UTC)


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELECT json_extract('{}', 'Jane Doe 555-0100')", r".*JSON path.*\*\*\*"),
        ("SELECT json_extract('{}', 'x@y.z')", r".*JSON path.*\*\*\*"),
        ("SELECT json_extract('{}', 'Jane''s\nx@y.z')", r".*JSON path.*\*\*\*"),
        ("SELECT json_extract('{}', CAST(x'41ff' AS TEXT))", "[^\xff]*"),
        ('SELECT * FROM "x@y.z"', r"no such table: \*\*\*"),
        ('SELECT * FROM "\x1b[31m\r\u2028!\n"', r"no such table: \\x1b\[31m\\r\\u2028!"),
        ("SELECT @@x", 'unrecognized token: "@"'),
    ],
)
def test_an_error_is_one_line_without_values_addresses_and_control_characters(
    url: str, sql: str, reason: str
) -> None:
    with connect(url, UTC) as database, pytest.raises(DatabaseError) as caught:
        list(run(database, sql))
    text = str(caught.value)
    assert re.fullmatch(rf"Query 'some_query' .* failed: {reason}\. Correct the query .*", text)
    assert text.isprintable()
    assert not any(part in text for part in ("Jane", "0100", "x@y.z"))


def test_an_error_of_what_else_happens_to_a_row_is_left_as_it_is() -> None:
    def write(_: object) -> int:
        raise TypeError("not of the row's making")

    with tempfile.TemporaryFile() as file, pytest.raises(TypeError, match="row's making"):
        spool(query(""), [(1,)], file, write)

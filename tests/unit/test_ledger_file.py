"""The ledger's file as it is found: locked, damaged, a link."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from db import Ledger, LedgerError, LedgerLockedError
from tests.alarm import alarm
from tests.locks import locked
from tests.unit.ledgers import deliver

opened: list[Ledger] = []


def open_ledger(
    path: Path, project: str = "p", writable: bool = True, today: int = 20_000
) -> Ledger:
    ledger = Ledger(path / "ledger.sqlite3", project, writable, today)
    opened.append(ledger)
    return ledger


def change(path: Path, sql: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(sql)
    connection.close()


def then(sql: str) -> Callable[[Path], None]:
    """Makes a ledger with an entry, and runs a statement on it."""

    def spoil(path: Path) -> None:
        ledger = Ledger(path, "p")
        deliver(ledger, {"a": 1})
        ledger.close()
        change(path, sql)

    return spoil


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE delivered SET digest = 'sixteen letters!'",
        "UPDATE delivered SET digest = x'0102'",
        "UPDATE delivered SET digest = NULL",
        "UPDATE delivered SET digest = x''",
        "UPDATE delivered SET day = 'monday'",
        "UPDATE delivered SET day = 20000.5",
        "UPDATE delivered SET day = NULL",
        "UPDATE projects SET project = 'p'",
        "DROP TABLE projects",
        "ALTER TABLE delivered RENAME COLUMN day TO days",
    ],
)
def test_a_ledger_with_an_odd_row_or_table_is_refused(tmp_path: Path, sql: str) -> None:
    then(sql)(tmp_path / "ledger.sqlite3")
    with pytest.raises(LedgerError, match=r"ledger\.sqlite3.*everything is sent once more"):
        open_ledger(tmp_path)


def can_be_had_alone(path: Path) -> bool:
    """Whether nobody has the file open: it leaves WAL mode for one who is alone."""
    connection = sqlite3.connect(path, timeout=0)
    [mode] = connection.execute("PRAGMA journal_mode = DELETE").fetchone()
    connection.close()
    return bool(mode == "delete")


def test_a_ledger_that_was_refused_is_not_held_open(tmp_path: Path) -> None:
    then("PRAGMA application_id = 7")(tmp_path / "ledger.sqlite3")
    with pytest.raises(LedgerError) as refused:
        open_ledger(tmp_path)
    assert can_be_had_alone(tmp_path / "ledger.sqlite3"), refused


def put_link(place: Path) -> None:
    place.symlink_to(place.with_name("target"))


@pytest.mark.parametrize("name", ["ledger.sqlite3", "ledger.sqlite3-wal", "ledger.sqlite3-shm"])
@pytest.mark.parametrize("put", [put_link, Path.mkdir, os.mkfifo])
@pytest.mark.parametrize("writable", [True, False])
def test_a_link_a_directory_or_a_pipe_in_the_place_of_a_ledgers_file_is_left_alone(
    tmp_path: Path, name: str, put: Callable[[Path], None], writable: bool
) -> None:
    place = tmp_path / name
    open_ledger(tmp_path).close()
    place.unlink(missing_ok=True)
    put(place)
    with pytest.raises(LedgerError, match=rf"/{name} is a link, a directory, a pipe"):
        open_ledger(tmp_path, writable=writable)
    assert not (tmp_path / "target").exists()


HELD = r"Another process holds the ledger .*ledger\.sqlite3.* run again"


@pytest.mark.parametrize("writable", [True, False])
def test_a_ledger_that_another_process_holds_is_not_opened(tmp_path: Path, writable: bool) -> None:
    open_ledger(tmp_path).close()
    path = tmp_path / "ledger.sqlite3"
    with (
        locked(path, "PRAGMA locking_mode = EXCLUSIVE"),
        pytest.raises(LedgerLockedError, match=HELD),
    ):
        Ledger(path, "p", writable, patience=0)
    Ledger(path, "p", writable, patience=0).close()


def test_a_call_does_not_begin_or_end_while_another_process_holds_the_ledger(
    tmp_path: Path,
) -> None:
    path = tmp_path / "ledger.sqlite3"
    ledger = Ledger(path, "p", today=20_000, patience=0)
    first, second = ledger.mark("a", 1), ledger.mark("a", 2)
    deliver(ledger, {"a": 1})
    with locked(path):
        assert ledger.begin([first]) == [(first[0], ())], "this writes nothing"
        with pytest.raises(LedgerLockedError, match=HELD):
            ledger.begin([second])
        with pytest.raises(LedgerLockedError, match=HELD):
            ledger.end([(second, True)])
    ledger.close()
    assert deliver(open_ledger(tmp_path), {"a": 1}) == [True]


def test_a_ledger_is_closed_though_another_process_keeps_it_from_being_tidied_up(
    tmp_path: Path,
) -> None:
    ledger = open_ledger(tmp_path, today=20_000)
    deliver(ledger, {"a": 1})
    ledger.close()
    ledger = open_ledger(tmp_path, today=21_000)
    with locked(tmp_path / "ledger.sqlite3"):
        ledger.close()
    assert can_be_had_alone(tmp_path / "ledger.sqlite3")
    assert deliver(open_ledger(tmp_path, today=20_000), {"a": 1}) == [True]


def test_a_signal_ends_the_wait_for_a_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    open_ledger(tmp_path).close()
    exclusive = "PRAGMA locking_mode = EXCLUSIVE"
    with locked(path, exclusive), alarm(), pytest.raises(KeyboardInterrupt):
        Ledger(path, "p", patience=60)

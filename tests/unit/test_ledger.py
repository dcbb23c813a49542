"""The ledger by itself: what it remembers of calls, for how long, and for whom."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from db import Ledger, LedgerError, LedgerLockedError
from tests.alarm import alarm
from tests.locks import locked

MARKS = [  # of two calls: to change these would send everything once more
    (-1086782136704404051, bytes.fromhex("1f32a00cdc4f6424bc92de7bdc0fb79f")),
    (7883437637401596839, bytes.fromhex("18070cbbb431cd6d9b96284508940f00")),
]


opened: list[Ledger] = []


@pytest.fixture(autouse=True)
def close_all() -> Iterator[None]:
    """However a test ends, no connection stays open."""
    yield
    while opened:
        opened.pop().close()


def open_ledger(
    path: Path, project: str = "p", writable: bool = True, today: int = 20_000
) -> Ledger:
    ledger = Ledger(path / "ledger.sqlite3", project, writable, today)
    opened.append(ledger)
    return ledger


def deliver(ledger: Ledger, calls: dict[str, Any], accepted: bool = True) -> list[bool]:
    """Begins and ends the calls, by name; tells which of them were delivered before."""
    marks = [ledger.mark(name, payload) for name, payload in calls.items()]
    before = ledger.begin(marks)
    ledger.end(
        (mark, accepted)
        for mark, was_delivered in zip(marks, before, strict=True)
        if not was_delivered
    )
    return before


def test_what_was_accepted_is_known_to_the_next_run_until_another_payload_is_sent(
    tmp_path: Path,
) -> None:
    ledger = open_ledger(tmp_path)
    assert deliver(ledger, {"a": {"n": 1}, "b": {"n": 1}}) == [False, False]
    assert deliver(ledger, {"a": {"n": 2}}) == [False]
    ledger.close()
    ledger = open_ledger(tmp_path)
    assert deliver(ledger, {"a": {"n": 2}, "b": {"n": 1}, "c": {"n": 1}}) == [True, True, False]
    assert deliver(ledger, {"a": {"n": 3}}, accepted=False) == [False]
    assert deliver(ledger, {"a": {"n": 2}, "b": {"n": 1}}) == [False, True]


def test_thousands_of_calls_are_looked_up_at_once(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    calls = {str(number): {"n": number} for number in range(10_000)}
    assert deliver(ledger, calls) == [False] * 10_000
    assert deliver(ledger, {**calls, "7": {"n": 0}}) == [number != 7 for number in range(10_000)]


def test_a_key_has_sixty_four_bits_and_a_digest_is_of_name_payload_and_secret(
    tmp_path: Path,
) -> None:
    ledgers = [open_ledger(tmp_path, secret) for secret in "pq"]
    marks = [ledger.mark(name, {"n": n}) for ledger in ledgers for name in "ab" for n in (1, 2)]
    keys, digests = zip(*marks, strict=True)
    assert (len(set(keys)), len(set(digests))) == (4, 8)
    keys = tuple(ledgers[0].mark(str(number), None)[0] for number in range(1000))
    assert -(2**63) <= min(keys) < -(2**62)
    assert 2**62 < max(keys) < 2**63


def test_keys_and_digests_are_those_of_the_ledgers_that_users_have(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    fields = {"n": 1, "x": 1.5, "ok": True, "no": None, "é": ["東"]}
    payload = {"email": "a@example.com", "dataFields": fields}
    assert [ledger.mark(name, payload) for name in ("a", "é")] == MARKS
    ledger.close()
    with sqlite3.connect(tmp_path / "old.sqlite3") as old:
        old.executescript(f"""
            PRAGMA application_id = 400730910;
            CREATE TABLE delivered (key INTEGER PRIMARY KEY, digest BLOB, day INTEGER);
            CREATE TABLE projects (project BLOB PRIMARY KEY) WITHOUT ROWID;
            INSERT INTO delivered VALUES ({MARKS[0][0]}, x'{MARKS[0][1].hex()}', 19990);
            INSERT INTO projects VALUES (x'e0a026604a43e43e0d0379c458b49a1a')""")  # noqa: S608
    old.close()
    ledger = Ledger(tmp_path / "old.sqlite3", "p", today=20_000)
    assert not ledger.is_new_project
    assert deliver(ledger, {"a": payload, "é": payload}) == [True, False]
    ledger.close()


@pytest.mark.parametrize(("days", "kept"), [(0, True), (89, True), (97, True), (98, False)])
def test_what_was_not_seen_for_ninety_days_is_forgotten(
    tmp_path: Path, days: int, kept: bool
) -> None:
    ledger = open_ledger(tmp_path, today=20_000)
    deliver(ledger, {"a": 1})
    ledger.close()
    open_ledger(tmp_path, today=20_000 + days).close()
    assert deliver(open_ledger(tmp_path, today=20_000 + days), {"a": 1}) == [kept]


def test_what_is_seen_is_kept_and_rewritten_once_a_week_only(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, today=20_000)
    deliver(ledger, {"a": 1})
    ledger.close()
    days = []
    for today in range(20_001, 20_200):
        ledger = open_ledger(tmp_path, today=today)
        assert deliver(ledger, {"a": 1}) == [True]
        ledger.close()
        with sqlite3.connect(tmp_path / "ledger.sqlite3") as connection:
            days.append(connection.execute("SELECT day FROM delivered").fetchone()[0])
        connection.close()
    assert sorted(set(days)) == [20_000, *range(20_007, 20_200, 7)]


def test_another_key_is_noticed_and_a_new_ledger_is_none(tmp_path: Path) -> None:
    found = []
    for secret in "ppqqp":
        unused = open_ledger(tmp_path, secret)  # of a run that ended before it sent anything
        deliver(unused, {"a": 1}, accepted=False)
        unused.close()
        ledger = open_ledger(tmp_path, secret)
        found.append((unused.is_new_project, ledger.is_new_project))
        deliver(ledger, {"a": 1})
        ledger.close()
    assert found == [(False, False), (False, False), (True, True), (False, False), (False, False)]


def test_a_reader_neither_makes_a_ledger_nor_changes_one(tmp_path: Path) -> None:
    open_ledger(tmp_path, writable=False).close()
    assert list(tmp_path.iterdir()) == []
    ledger = open_ledger(tmp_path)
    deliver(ledger, {"a": 1})
    ledger.close()
    before = (tmp_path / "ledger.sqlite3").read_bytes()
    reader = open_ledger(tmp_path, writable=False, today=20_050)
    assert deliver(reader, {"a": 1, "b": 1}, accepted=False) == [True, False]
    assert deliver(reader, {"a": 2}, accepted=False) == [False]
    assert deliver(reader, {"a": 1, "b": 1}, accepted=False) == [False, False], "as in a run"
    reader.close()
    assert (tmp_path / "ledger.sqlite3").read_bytes() == before


def spoil_pages(path: Path) -> None:
    ledger = Ledger(path, "p")
    deliver(ledger, {str(number): number for number in range(5000)})
    ledger.close()
    data = bytearray(path.read_bytes())
    data[4096 * 3 : 4096 * 9] = b"\x07" * 4096 * 6
    path.write_bytes(data)


def make_other(path: Path) -> None:
    change(path, "CREATE TABLE mine (x)")


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
    "spoil",
    [
        spoil_pages,
        make_other,
        lambda path: path.write_text("no database" * 100),
        then("UPDATE delivered SET digest = 'sixteen letters!'"),
        then("UPDATE delivered SET digest = x'0102'"),
        then("UPDATE delivered SET digest = NULL"),
        then("UPDATE delivered SET day = 'monday'"),
        then("UPDATE delivered SET day = 20000.5"),
        then("UPDATE delivered SET day = NULL"),
        then("UPDATE projects SET project = 'p'"),
        then("DROP TABLE projects"),
        then("ALTER TABLE delivered RENAME COLUMN day TO days"),
    ],
)
def test_a_damaged_or_foreign_file_is_refused_with_what_deleting_it_costs(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(tmp_path / "ledger.sqlite3")
    with pytest.raises(
        LedgerError, match=r"ledger\.sqlite3.*delete .*everything is sent once more"
    ):
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


def test_a_ledger_that_cannot_be_opened_is_not_called_damaged(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError, match="unable to open database file"):
        open_ledger(tmp_path / "nowhere")


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


# Another process


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
        assert ledger.begin([first]) == [True], "this writes nothing"
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


def test_a_ledger_that_was_killed_before_it_had_tables_is_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite3").touch()
    assert deliver(open_ledger(tmp_path), {"a": 1}) == [False]


@pytest.mark.parametrize("at_once", [True, False])
def test_what_was_accepted_before_a_later_call_failed_is_not_recorded(
    tmp_path: Path, at_once: bool
) -> None:
    ledger = open_ledger(tmp_path)
    first, second = ledger.mark("a", 1), ledger.mark("a", 2)
    assert ledger.begin([first, second]) == [False, False]
    for ended in (
        [[(first, True), (second, False)]] if at_once else [[(first, True)], [(second, False)]]
    ):
        ledger.end(ended)
    assert deliver(ledger, {"a": 1}, accepted=False) == deliver(ledger, {"a": 2}) == [False]


def test_of_three_calls_the_last_is_sent_though_it_is_like_the_first(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    deliver(ledger, {"a": 1})
    first, second = ledger.mark("a", 1), ledger.mark("a", 2)
    assert ledger.begin([first, second, first]) == [True, False, False]
    assert ledger.begin([first]) == [False], "the others are in flight"
    ledger.end([(second, True), (first, True)])
    assert ledger.begin([first]) == [False]
    ledger.end([(first, True), (first, True)])
    assert deliver(ledger, {"a": 1}) == [True]

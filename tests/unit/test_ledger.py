"""The ledger by itself: what it remembers of calls, for how long, and for whom."""

from __future__ import annotations

import itertools
import random
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from db import Ledger, LedgerError, Mark
from tests.unit.ledgers import deliver

# Keys and digests of ledgers that users have: to change these would send everything once
# more. Of an event "a" of version 0 and 1, and of two fields of version 1.
OLD_EVENT = (-1086782136704404051, bytes.fromhex("1f32a00cdc4f6424bc92de7bdc0fb79f"))
OLD_FIELDS = [
    (1647646200162812528, bytes.fromhex("07ec0a564fe9c5d59f678098cb90286c")),
    (1647646200162722190, bytes.fromhex("f8554562ce294075bc51b5a8222385d0")),
]


def open_ledger(
    path: Path, project: str = "p", writable: bool = True, today: int = 20_000
) -> Ledger:
    return Ledger(path / "ledger.sqlite3", project, writable, today)


def update(ledger: Ledger, fields: dict[str, Any], accepted: bool = True) -> list[str]:
    """Begins and ends an update of a user; tells which fields were sent."""
    mark = ledger.mark_fields("email a@example.com", fields)
    [due] = ledger.begin([mark])
    if due[1]:
        ledger.end([(due, accepted)])
    return names_of(fields, mark, due)


def names_of(fields: Iterable[str], mark: Mark, due: Mark) -> list[str]:
    """The names of the fields of an update that are due."""
    return [name for name, part in zip(fields, mark[1], strict=True) if part in due[1]]


def make_old(path: Path, version: int, *entries: tuple[int, bytes]) -> None:
    """A ledger as programs of before version 2 made it, under the secret p."""
    with sqlite3.connect(path / "ledger.sqlite3") as old:
        old.execute(f"PRAGMA user_version = {version}")
        old.executescript("""
            PRAGMA application_id = 400730910;
            CREATE TABLE delivered (key INTEGER PRIMARY KEY, digest BLOB, day INTEGER);
            CREATE TABLE projects (project BLOB PRIMARY KEY) WITHOUT ROWID;
            INSERT INTO projects VALUES (x'e0a026604a43e43e0d0379c458b49a1a')""")
        old.executemany("INSERT INTO delivered VALUES (?, ?, 19990)", entries)
    old.close()


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


def test_a_key_has_sixty_four_bits_and_a_part_is_of_name_payload_and_secret(
    tmp_path: Path,
) -> None:
    keys, found = set(), set()
    ledger, other = open_ledger(tmp_path, "p"), open_ledger(tmp_path, "q")
    for opened, name, number in itertools.product((ledger, other), "ab", (1, 2)):
        key, parts = opened.mark(name, {"n": number})
        keys.add(key)
        found |= {*parts}
        _, parts = opened.mark_fields(name, {"n": number, "m": number})
        found |= {*parts}
    assert (len(keys), len(found)) == (4, 24)
    for mark in (ledger.mark, ledger.mark_fields):
        many = [mark(str(number), {})[0] for number in range(1000)]
        assert -(2**63) <= min(many) < -(2**62)
        assert 2**62 < max(many) < 2**63


@pytest.mark.parametrize("version", [0, 1])
def test_events_of_the_ledgers_that_users_have_are_known(tmp_path: Path, version: int) -> None:
    fields = {"n": 1, "x": 1.5, "ok": True, "no": None, "é": ["東"]}
    payload = {"email": "a@example.com", "dataFields": fields}
    make_old(tmp_path, version, OLD_EVENT)
    for today in (20_000, 20_050, 20_100):
        ledger = open_ledger(tmp_path, today=today)
        assert not ledger.is_new_project
        assert deliver(ledger, {"a": payload, "é": payload}) == [True, today > 20_000]
        ledger.close()


def take_over(ledger: Ledger, fields: dict[str, Any]) -> None:
    mark = ledger.mark_fields("email a@example.com", fields)
    ledger.take_over([(mark, "query a@example.com", fields)])


def test_fields_of_a_ledger_of_version_1_are_taken_over(tmp_path: Path) -> None:
    make_old(tmp_path, 1, *OLD_FIELDS)
    ledger = open_ledger(tmp_path)
    assert ledger.has_old_entries
    take_over(ledger, {"n": 1, "é": "new"})
    assert update(ledger, {"n": 1, "é": "new", "x": 1}, accepted=False) == ["é", "x"]
    take_over(ledger, {"n": 1, "é": "東"})
    assert update(ledger, {"n": 1, "é": "東"}) == ["é"], "what it was before is forgotten"
    ledger.close()
    ledger = open_ledger(tmp_path, today=20_050)
    assert ledger.has_old_entries
    assert update(ledger, {"n": 1, "é": "東"}) == []
    ledger.close()
    assert not open_ledger(tmp_path, today=20_098).has_old_entries


def test_what_is_known_already_is_not_looked_for_among_old_entries(tmp_path: Path) -> None:
    make_old(tmp_path, 0)
    ledger = open_ledger(tmp_path)
    update(ledger, {"n": 1})
    mark = ledger.mark_fields("email a@example.com", {"n": 1})
    no_payload = object()  # of which a mark cannot be made
    ledger.take_over([(mark, "query a@example.com", no_payload)])
    assert update(ledger, {"n": 1}) == []


def test_a_field_in_flight_is_not_taken_over(tmp_path: Path) -> None:
    make_old(tmp_path, 1, OLD_FIELDS[0])
    ledger = open_ledger(tmp_path)
    other = ledger.mark_fields("email a@example.com", {"n": 2})
    ledger.begin([other])
    take_over(ledger, {"n": 1})
    assert update(ledger, {"n": 1}, accepted=False) == ["n"]


def test_a_users_fields_are_known_one_by_one_whichever_were_sent_together(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    assert update(ledger, {"a": 1, "b": "x"}) == ["a", "b"]
    assert update(ledger, {"b": "x", "c": None}) == ["c"]
    assert update(ledger, {"a": 2, "c": None}, accepted=False) == ["a"]
    ledger.close()
    ledger = open_ledger(tmp_path)
    assert update(ledger, {"a": 1, "b": "x", "c": None}) == ["a"]
    assert update(ledger, {"a": 1, "b": "y", "c": 0}) == ["b", "c"]
    assert update(ledger, {"a": 1, "b": "y", "c": 0}) == []


def test_of_fields_in_flight_the_later_sending_is_what_is_known(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    update(ledger, {"a": 0, "b": 0})
    first = ledger.mark_fields("email a@example.com", {"a": 1, "b": 0})
    second = ledger.mark_fields("email a@example.com", {"a": 0, "b": 1})
    a_alone = (first[0], first[1][:1])
    assert ledger.begin([first, second]) == [a_alone, second]
    ledger.end([(a_alone, True)])
    assert ledger.begin([first]) == [first], "both are in flight"
    ledger.end([(second, True), (first, True)], dropped=["b"])
    assert update(ledger, {"a": 1, "b": 0}, accepted=False) == ["b"]


def test_what_is_sent_in_any_case_is_known_afterwards(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    update(ledger, {"a": 1, "b": 1, "c": 1})
    mark = ledger.mark_fields("email a@example.com", {"a": 1, "b": 2})
    ledger.begin_all([mark])
    assert update(ledger, {"a": 1, "c": 1}, accepted=False) == ["a"]
    ledger.end([(mark, True)], dropped=["a", "of no call"])
    assert update(ledger, {"a": 1, "b": 2, "c": 1}) == ["a"]


def test_a_field_that_the_query_lost_is_forgotten_while_the_others_stay(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, today=20_000)
    update(ledger, {"a": 1, "b": 1})
    ledger.close()
    for today in range(20_001, 20_110):
        ledger = open_ledger(tmp_path, today=today)
        assert update(ledger, {"a": 1}) == []
        ledger.close()
    assert update(open_ledger(tmp_path, today=20_110), {"a": 1, "b": 1}) == ["b"]


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
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()


def make_text(path: Path) -> None:
    path.write_text("no database" * 100)


@pytest.mark.parametrize("spoil", [spoil_pages, make_other, make_text])
def test_a_damaged_or_foreign_file_is_refused_with_what_deleting_it_costs(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(tmp_path / "ledger.sqlite3")
    expected = r"ledger\.sqlite3.*delete .*everything is sent once more"
    with pytest.raises(LedgerError, match=expected):
        open_ledger(tmp_path)


def test_a_ledger_that_was_killed_before_it_had_tables_is_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite3").touch()
    assert deliver(open_ledger(tmp_path), {"a": 1}) == [False]


@pytest.mark.parametrize("at_once", [True, False])
def test_what_was_accepted_before_a_later_call_failed_is_not_recorded(
    tmp_path: Path, at_once: bool
) -> None:
    ledger = open_ledger(tmp_path)
    first, second = ledger.mark("a", 1), ledger.mark("a", 2)
    assert ledger.begin([first, second]) == [first, second]
    if at_once:
        ledger.end([(first, True), (second, False)])
    else:
        ledger.end([(first, True)])
        ledger.end([(second, False)])
    assert deliver(ledger, {"a": 1}, accepted=False) == [False]
    assert deliver(ledger, {"a": 2}) == [False]


def test_of_three_calls_the_last_is_sent_though_it_is_like_the_first(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    deliver(ledger, {"a": 1})
    first, second = ledger.mark("a", 1), ledger.mark("a", 2)
    assert ledger.begin([first, second, first]) == [(first[0], ()), second, first]
    assert ledger.begin([first]) == [first], "the others are in flight"
    ledger.end([(second, True), (first, True)])
    assert ledger.begin([first]) == [first]
    ledger.end([(first, True), (first, True)])
    assert deliver(ledger, {"a": 1}) == [True]


def test_a_user_of_four_fields_and_an_event_take_little_room(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    users = 5000
    for number in range(users):
        event = ledger.mark(f"event {number}", {})
        user = ledger.mark_fields(f"user {number}", {"a": number, "b": 1, "c": "x", "d": None})
        ledger.begin([user, event])
        ledger.end([(user, True), (event, True)])
    ledger.close()
    assert (tmp_path / "ledger.sqlite3").stat().st_size < 150 * users


class Sends:
    """A ledger in use, and Iterable, which holds what arrived there."""

    def __init__(self, path: Path, seed: int) -> None:
        self.path = path
        self.chance = random.Random(seed)
        self.held: dict[tuple[str, str], int] = {}  # by user and field
        self.in_flight: list[tuple[str, Mark, dict[str, int]]] = []
        self.skipped = 0
        self.ledger = open_ledger(path)

    def begin(self) -> None:
        """Plan a batch of updates; what is skipped is what Iterable holds."""
        updates = []
        for _ in range(self.chance.randrange(1, 4)):
            names = self.chance.sample("abc", self.chance.randrange(1, 4))
            fields = {name: self.chance.randrange(2) for name in names}
            updates.append((self.chance.choice("xy"), fields))
        marks = [self.ledger.mark_fields(user, fields) for user, fields in updates]
        if self.chance.random() < 0.2:
            self.ledger.begin_all(marks)
            to_send = marks
        else:
            to_send = self.ledger.begin(marks)
        for (user, fields), mark, due in zip(updates, marks, to_send, strict=True):
            names = names_of(fields, mark, due)
            for name in fields.keys() - set(names):
                assert self.held[user, name] == fields[name]
                self.skipped += 1
            if names:
                self.in_flight.append((user, due, {name: fields[name] for name in names}))

    def end(self) -> None:
        """Let some calls end, one after the other, some of them without a known outcome."""
        self.chance.shuffle(self.in_flight)
        ended = []
        for _ in range(self.chance.randrange(len(self.in_flight) + 1)):
            user, mark, fields = self.in_flight.pop()
            outcome = self.chance.choice(["accepted", "accepted", "lost", "refused"])
            self.arrive(user, fields if outcome != "refused" else {})
            ended.append((mark, outcome == "accepted"))
        self.ledger.end(ended)

    def kill(self) -> None:
        """End the process: what is in flight arrives, or does not."""
        for user, _, fields in self.in_flight:
            self.arrive(user, fields if self.chance.random() < 0.5 else {})
        self.in_flight = []
        self.ledger = open_ledger(self.path)

    def arrive(self, user: str, fields: dict[str, int]) -> None:
        for name, value in fields.items():
            self.held[user, name] = value


@pytest.mark.parametrize("seed", range(10))
def test_after_any_history_nothing_is_skipped_that_iterable_does_not_hold(
    tmp_path: Path, seed: int
) -> None:
    sends = Sends(tmp_path, seed)
    for _ in range(200):
        [step] = sends.chance.choices([sends.begin, sends.end, sends.kill], [3, 5, 1])
        step()
    assert sends.skipped > 10

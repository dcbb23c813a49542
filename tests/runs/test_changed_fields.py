"""Of a user only the fields that changed are sent, whatever ran before."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from db import Ledger
from tests.fake_iterable import FakeIterable
from tests.project import KEY, Project
from tests.runs.rows import BOTH_MODES
from tests.wire import Json, sent_items

ONLY = "--only-changes"
USER = "ada@example.com"
QUERIES = """
-- name: names
-- email: email
-- user fields: first, last
SELECT email, first, last FROM people ORDER BY email;

-- name: plans
-- email: email
-- user fields: plan, last
SELECT email, plan, last FROM people ORDER BY email;
"""
PEOPLE = """
CREATE TABLE people (email TEXT PRIMARY KEY, first, last, plan);
INSERT INTO people VALUES ('ada@example.com', 'Ada', 'Lovelace', 'pro');
INSERT INTO people VALUES ('bob@example.com', 'Bob', NULL, 'free');
"""


@pytest.fixture
def people(project: Project) -> Project:
    """Two people, and two queries that share a field."""
    project.sql(PEOPLE)
    project.queries(QUERIES)
    project.settings["QUERY"] = "names"
    return project


def sent_fields(server: FakeIterable) -> dict[str, Json]:
    """What was sent of each user since the last reset."""
    found: dict[str, Json] = {}
    for update in sent_items(server, "users"):
        found.setdefault(update["email"], {}).update(update["dataFields"])
    return found


def make_old(path: Path) -> None:
    """Give a ledger of whole updates the form of version 0: digests of 16 bytes, no days."""
    with sqlite3.connect(path) as connection:
        connection.executescript("""
            UPDATE delivered SET digest = CAST(substr(digest, 5, 8) || zeroblob(8) AS BLOB);
            PRAGMA user_version = 0""")
    connection.close()


@BOTH_MODES
def test_a_changed_field_is_sent_alone(people: Project, server: FakeIterable, mode: str) -> None:
    people.settings["SEND_MODE"] = mode
    people.run(ONLY)
    server.reset()
    people.sql("UPDATE people SET last = 'King' WHERE first = 'Ada'")
    assert people.run(ONLY).counts == [1, 0, 0, 1, 0]
    assert sent_fields(server) == {USER: {"last": "King"}}
    server.reset()
    assert people.run(ONLY).counts == [0, 0, 0, 2, 0]
    assert server.requests == []


def test_null_is_a_value_and_a_new_field_is_sent_alone(
    people: Project, server: FakeIterable
) -> None:
    people.run(ONLY)
    server.reset()
    people.sql("UPDATE people SET last = NULL WHERE first = 'Ada'")
    people.queries(
        "-- name: names\n-- email: email\n-- user fields: last, plan\n"
        "SELECT email, last, plan FROM people"
    )
    assert people.run(ONLY).code == 0
    assert sent_fields(server) == {
        USER: {"last": None, "plan": "pro"},
        "bob@example.com": {"plan": "free"},
    }


def test_two_queries_that_set_one_field_see_each_others_changes(
    people: Project, server: FakeIterable
) -> None:
    people.run(ONLY)
    server.reset()
    people.run(ONLY, "--query", "plans")
    assert sent_fields(server)[USER] == {"plan": "pro"}, "the last name was sent by the other"
    people.sql("UPDATE people SET last = 'King' WHERE first = 'Ada'")
    people.run(ONLY, "--query", "plans")
    server.reset()
    assert people.run(ONLY).counts == [0, 0, 0, 2, 0]


def test_a_run_without_the_option_keeps_the_ledger_true(
    people: Project, server: FakeIterable
) -> None:
    assert people.run(ONLY).code == 0
    people.sql("UPDATE people SET last = 'King' WHERE first = 'Ada'")
    assert people.run().counts == [2, 0, 0, 0, 0], "it sends everything"
    people.sql("UPDATE people SET last = 'Lovelace' WHERE first = 'Ada'")
    server.reset()
    assert people.run(ONLY).counts == [1, 0, 0, 1, 0]
    assert sent_fields(server) == {USER: {"last": "Lovelace"}}


def test_a_failed_update_sends_its_fields_next_time(people: Project, server: FakeIterable) -> None:
    people.run(ONLY)
    people.sql("UPDATE people SET last = 'King', first = 'A.' WHERE first = 'Ada'")
    server.add_fault("status", status=400, code="BadParams", user=USER)
    assert people.run(ONLY).counts == [0, 0, 1, 1, 0]
    server.set_faults([])
    server.reset()
    people.run(ONLY)
    assert sent_fields(server) == {USER: {"first": "A.", "last": "King"}}


def test_a_field_that_iterable_drops_is_sent_again(people: Project, server: FakeIterable) -> None:
    server.dropped_fields = {"last"}
    people.settings["SEND_MODE"] = "bulk"
    people.run(ONLY)
    server.dropped_fields = set()
    server.reset()
    people.run(ONLY)
    assert sent_fields(server) == {USER: {"last": "Lovelace"}, "bob@example.com": {"last": None}}


def test_a_ledger_of_whole_updates_is_taken_over(people: Project, server: FakeIterable) -> None:
    path = people.output / "delivery_ledger.sqlite3"
    ledger = Ledger(path, f"{server.url} {KEY}")
    of_ada = {"email": USER, "dataFields": {"first": "Ada", "last": "Lovelace"}}
    of_bob = {"email": "bob@example.com", "dataFields": {"first": "Bob", "last": "other"}}
    marks = [ledger.mark(f"names {each['email']}", each) for each in (of_ada, of_bob)]
    ledger.begin(marks)
    ledger.end((mark, True) for mark in marks)
    ledger.close()
    make_old(path)
    assert people.run(ONLY, "--dry-run").counts[3] == 1, "which changes nothing"
    assert people.run(ONLY).counts == [1, 0, 0, 1, 0]
    assert sent_fields(server) == {"bob@example.com": {"first": "Bob", "last": None}}
    people.sql("UPDATE people SET last = 'King' WHERE first = 'Ada'")
    server.reset()
    assert people.run(ONLY).counts == [1, 0, 0, 1, 0]
    assert sent_fields(server) == {USER: {"last": "King"}}


def test_a_ledger_of_a_later_version_is_an_error(people: Project, server: FakeIterable) -> None:
    people.run(ONLY)
    with sqlite3.connect(people.output / "delivery_ledger.sqlite3") as connection:
        connection.execute("PRAGMA user_version = 3")
    connection.close()
    done = people.run(ONLY)
    assert done.code == 2
    assert "later version" in done.err


@pytest.mark.parametrize("seed", range(3))
def test_after_any_history_iterable_holds_what_the_last_run_says(
    people: Project, server: FakeIterable, seed: int
) -> None:
    chance = random.Random(seed)
    names: list[Any] = ["A", "B", None]
    for _ in range(12):
        column = chance.choice(["first", "last", "plan"])
        user = chance.choice([USER, "bob@example.com"])
        value = chance.choice(names)
        literal = "NULL" if value is None else f"'{value}'"
        people.sql(f"UPDATE people SET {column} = {literal} WHERE email = '{user}'")  # noqa: S608
        if chance.random() < 0.2:
            server.add_fault("drop_after", path="users", times=1)
        query = chance.choice(["names", "plans"])
        flags = [ONLY] if chance.random() < 0.7 else []
        mode = chance.choice(["single", "bulk"])
        done = people.run(*flags, "--query", query, SEND_MODE=mode)
        assert done.code == 0
        fields = {"names": ("first", "last"), "plans": ("plan", "last")}[query]
        with sqlite3.connect(people.database) as connection:
            connection.row_factory = sqlite3.Row
            rows = connection.execute("SELECT * FROM people").fetchall()
        connection.close()
        for row in rows:
            held = server.users.get(row["email"], {})
            for name in fields:
                assert held.get(name) == row[name], (query, flags, mode)


def test_of_two_old_entries_that_share_a_field_the_later_sending_stands(
    people: Project, server: FakeIterable
) -> None:
    """What one query has sent since, the other's entry of before does not overwrite."""
    path = people.output / "delivery_ledger.sqlite3"
    ledger = Ledger(path, f"{server.url} {KEY}")
    fields = {"names": {"first": "Ada", "last": "Old"}, "plans": {"plan": "pro", "last": "Old"}}
    for query, of_ada in fields.items():
        mark = ledger.mark(f"{query} {USER}", {"email": USER, "dataFields": of_ada})
        ledger.begin([mark])
        ledger.end([(mark, True)])
    ledger.close()
    make_old(path)
    people.sql("DELETE FROM people WHERE first = 'Bob'")
    people.run(ONLY, "--query", "names")
    assert server.users[USER]["last"] == "Lovelace"
    people.sql("UPDATE people SET last = 'Old'")
    people.run(ONLY, "--query", "plans")
    assert server.users[USER]["last"] == "Old"


def test_an_update_without_fields_makes_the_user(people: Project, server: FakeIterable) -> None:
    people.queries(
        "-- name: names\n-- userId: id\n-- user fields: email\nSELECT 1 AS id, NULL AS email"
    )
    assert people.run(ONLY).counts == [1, 0, 0, 0, 0]
    assert people.run(ONLY).counts == [0, 0, 0, 1, 0]
    assert len(server.requests) == 1


def test_an_address_and_a_user_id_of_one_text_are_two_users(
    people: Project, server: FakeIterable
) -> None:
    people.run(ONLY)
    keys = "-- name: names\n-- userId: id\n-- user fields: first\n"
    people.queries(f"{keys}SELECT '{USER}' AS id, 'Ada' AS first")
    assert people.run(ONLY).counts == [1, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("field", "column"),
    [("home.city", "1 AS 'home.city'"), ("home json", """'{"city": "Rome"}' AS home""")],
)
def test_a_field_of_which_iterable_drops_a_part_is_sent_again(
    people: Project, server: FakeIterable, field: str, column: str
) -> None:
    keys = f"-- name: names\n-- email: email\n-- user fields: {field}\n"
    people.queries(f"{keys}SELECT '{USER}' AS email, {column}")
    people.settings["SEND_MODE"] = "bulk"
    server.dropped_fields = {"home.city"}
    for _ in range(2):
        assert people.run(ONLY).counts == [1, 0, 0, 0, 0]
    server.dropped_fields = set()
    people.run(ONLY)
    assert people.run(ONLY).counts == [0, 0, 0, 1, 0]

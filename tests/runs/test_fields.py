"""What the fields of a query become: types, identities, nested and new ones, warnings."""

from __future__ import annotations

import pytest

from tests.fake_iterable import FakeIterable
from tests.project import Json, Project
from tests.wire import event_id
from tests.wire import sent_items as items

BOTH = pytest.mark.parametrize("mode", ["single", "bulk"])
ROW = """SELECT 'u1' AS id, ' Ada@Example.com ' AS email, 100 AS amount, 1 AS is_verified,
    '{"a": [1]}' AS prefs, '2026-01-28T04:27:41.223515+00:00' AS seen, NULL AS born"""
TYPED = "amount decimal, is_verified boolean, prefs json, seen timestamp, born date"
UNTYPED = "amount, is_verified, prefs, seen, born"
SENT: Json = {
    "amount": 100.0,
    "is_verified": True,
    "prefs": {"a": [1]},
    "seen": "2026-01-28 04:27:41 +00:00",
    "born": None,
}


@BOTH
def test_a_typed_field_is_sent_as_its_type_and_changes_no_event_id(
    project: Project, server: FakeIterable, mode: str
) -> None:
    ids = []
    for fields in (UNTYPED, TYPED):
        server.reset()
        project.queries(
            f"-- name: q\n-- userId: id\n-- user fields: {fields}\n-- event: seen\n"
            f"-- event fields: {fields}\n-- event time: seen\n{ROW}"
        )
        done = project.run(QUERY="q", SEND_MODE=mode)
        assert (done.code, done.results["successful"]) == (0, 1)
        [event] = items(server, "events")
        ids.append(event["id"])
    [update] = items(server, "users")
    assert update["dataFields"] == event["dataFields"] == SENT
    assert type(update["dataFields"]["amount"]) is float
    raw = {
        "amount": 100,
        "is_verified": 1,
        "prefs": '{"a": [1]}',
        "seen": "2026-01-28T04:27:41.223515+00:00",
        "born": None,
    }
    assert ids == [event_id("u1", "seen", 1769574461, raw)] * 2


def test_a_cell_that_does_not_fit_its_type_fails_its_call_alone(
    project: Project, server: FakeIterable
) -> None:
    project.queries(
        "-- name: q\n-- email: email\n-- user fields: amount decimal\n"
        "-- event: seen\n-- event fields: amount\n-- event id: amount\n"
        "SELECT 'a@example.com' AS email, 'much' AS amount"
    )
    done = project.run(QUERY="q")
    [record] = done.results["records"]
    assert record["users_update"]["response"] == {
        "code": "InvalidValue",
        "msg": "column amount: text that is no decimal",
    }
    assert record["events_track"]["success"]


@pytest.mark.parametrize(
    ("keys", "columns", "said"),
    [
        ("user fields: n money", "1 AS n", "'money' is none of the types (decimal, integer"),
        ("user fields: m decimal", "1 AS n", "'m decimal', but the columns are n, email"),
        ("event: e\n-- event id: n integer", "1 AS n", "'event id' takes no types"),
        ("user fields: n\n-- merge nested: maybe", "1 AS n", "'merge nested' must be yes or no"),
        ("event: e\n-- event id: n\n-- merge nested: no", "1 AS n", "needs '-- user fields"),
        ("user fields: n, m, n", "1 AS n, 2 AS m", "line 3, query 'q': 'user fields' names 'n' tw"),
        ("user fields: n decimal, n text", "1 AS n", "'user fields' names 'n' twice"),
        (
            "event: e\n-- event id: n\n-- event fields: n, n",
            "1 AS n",
            "line 5, query 'q': 'event fields' names 'n' twice",
        ),
        ("user fields: n, email", "1 AS n", "'email' cannot be a user field here"),
    ],
)
def test_a_mistake_in_a_field_is_told(
    project: Project, server: FakeIterable, keys: str, columns: str, said: str
) -> None:
    select = f"SELECT {columns}, 'a@example.com' AS email"
    project.queries(f"-- name: q\n-- email: email\n-- {keys}\n{select}")
    done = project.run(QUERY="q")
    assert (done.code, server.requests) == (2, [])
    assert said in done.err


def test_a_column_whose_own_name_ends_in_a_type_is_found_first(
    project: Project, server: FakeIterable
) -> None:
    project.queries(
        "-- name: q\n-- email: email\n-- user fields: birth date\n"
        "-- event: born\n-- event id: birth date\n-- event fields: birth date date\n"
        "SELECT 'a@example.com' AS email, '2026-01-13 08:45' AS \"birth date\""
    )
    assert project.run("--dry-run", QUERY="q").code == 0


@BOTH
@pytest.mark.parametrize(
    ("keys", "fields"),
    [
        ("userId: id\n-- user fields: email, amount", {"amount": 100, "email": "ada@example.com"}),
        ("email: email\n-- user fields: id AS userId", {}),
    ],
)
def test_a_user_may_bring_the_other_identifier(
    project: Project, server: FakeIterable, mode: str, keys: str, fields: Json
) -> None:
    row = ROW
    if not fields:
        keys = "email: email\n-- user fields: userId"
        row = ROW.replace("'u1' AS id", "7 AS userId")
        fields = {"userId": "7"}
    project.queries(f"-- name: q\n-- {keys}\n{row}")
    done = project.run(QUERY="q", SEND_MODE=mode)
    assert done.code == 0, done.out
    [update] = items(server, "users")
    assert update["dataFields"] == fields


def test_a_user_without_the_other_identifier_keeps_what_iterable_knows(
    project: Project, server: FakeIterable
) -> None:
    project.queries(
        "-- name: q\n-- userId: id\n-- user fields: email, n\n"
        "SELECT 1 AS id, NULL AS email, 1 AS n UNION ALL SELECT 2, ' ', 2"
    )
    assert project.run(QUERY="q").code == 0
    sent = {update["userId"]: update["dataFields"] for update in items(server, "users")}
    assert sent == {"1": {"n": 1}, "2": {"n": 2}}


@BOTH
def test_nested_and_new_fields_are_said_only_where_the_query_says_so(
    project: Project, server: FakeIterable, mode: str
) -> None:
    project.queries(
        "-- name: q\n-- email: email\n-- user fields: amount\n-- event: seen\n"
        f"-- event id: amount\n-- merge nested: yes\n-- new fields: no\n{ROW}"
    )
    assert project.run(QUERY="q", SEND_MODE=mode).code == 0
    update, event = (seen.body for seen in server.requests)
    if mode == "bulk":
        assert update.pop("createNewFields") is False
        [item] = update["users"]
        assert item["mergeNestedObjects"] is True
        assert event["events"][0]["createNewFields"] is False
    else:
        assert (update["mergeNestedObjects"], update["createNewFields"]) == (True, False)
        assert event["createNewFields"] is False
        assert "mergeNestedObjects" not in event


def test_a_field_of_two_kinds_is_warned_of_with_the_line_to_write(project: Project) -> None:
    project.queries(
        "-- name: q\n-- email: email\n-- user fields: amount, fixed decimal, emailListIds, big\n"
        "SELECT 'a@example.com' AS email, 0 AS amount, 0 AS fixed, 1 AS emailListIds, '' AS big\n"
        "UNION ALL SELECT 'b@example.com', 9960.31, 9960.31, 1, printf('%40000d', 1)"
    )
    done = project.run("--dry-run", QUERY="q")
    assert done.results["run"]["warnings"] == [
        "Field amount goes out as fraction and integer: write '-- user fields: amount decimal'",
        "Field big has text of over 32,000 characters",
        "Field emailListIds is one that Iterable manages itself",
    ]


@BOTH
def test_an_address_that_is_another_users_fails_its_row_alone(
    project: Project, server: FakeIterable, mode: str
) -> None:
    project.queries(
        "-- name: q\n-- userId: id\n-- user fields: email, n\n"
        "SELECT 1 AS id, 'a@example.com' AS email, 1 AS n UNION ALL\n"
        "SELECT 2, 'a@example.com', 2 UNION ALL SELECT 3, 'c@example.com', 3"
    )
    done = project.run(QUERY="q", SEND_MODE=mode, WORKERS="1")
    assert done.code == 1
    success = [record["overall_success"] for record in done.results["records"]]
    assert sorted(success) == [False, True, True]
    [code] = done.results["failure_reasons"]
    assert code.endswith("AlreadyExists")

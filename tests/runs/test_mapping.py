"""The comment above a query says what is sent, and mistakes in it are told."""

from __future__ import annotations

import pytest

from tests.fake_iterable import FakeIterable
from tests.project import Json, Project
from tests.runs.endings import check_ended_with_a_sentence
from tests.wire import event_id


@pytest.mark.parametrize(
    ("keys", "update", "event"),
    [
        (
            ["userId: id", "user fields: name", "event: seen", "event id: id, n"],
            {"userId": "1", "dataFields": {"name": "Ada"}, "preferUserId": True},
            {
                "userId": "1",
                "eventName": "seen",
                "dataFields": {},
                "id": event_id("1", "seen", 1, 2.5),
            },
        ),
        (
            ["email: email", "user fields: n, name"],
            {"email": "ada@example.com", "dataFields": {"n": 2.5, "name": "Ada"}},
            None,
        ),
        (
            ["email: email", "event: seen", "event fields: name", "event time: at"],
            None,
            {
                "email": "ada@example.com",
                "eventName": "seen",
                "dataFields": {"name": "Ada"},
                "createdAt": 1768293912,
                "id": event_id("ada@example.com", "seen", 1768293912, {"name": "Ada"}),
            },
        ),
    ],
)
def test_the_comment_above_a_query_says_what_is_sent(
    project: Project, server: FakeIterable, keys: list[str], update: Json | None, event: Json | None
) -> None:
    comment = "".join(f"-- {key}\n" for key in keys)
    project.queries(f"""-- name: q\n{comment}
        SELECT 1 AS id, ' ADA@example.com ' AS email, 'Ada' AS name, 2.5 AS n,
            '2026-01-13T08:45:12Z' AS at""")
    done = project.run(QUERY="q")
    calls = [call for call in (update, event) if call]
    assert [seen.body for seen in server.requests] == calls
    assert (done.code, done.results["successful"]) == (0, 1)
    [record] = done.results["records"]
    assert record["overall_success"] is True
    assert (record["users_update"] is None) == (update is None)
    assert (record["events_track"] is None) == (event is None)
    assert record["event_id"] == (event["id"] if event else None)
    kind = keys[0].partition(":")[0]
    assert record[kind] == calls[0][kind]


GOOD = ["email: email", "event: seen", "event id: n"]


@pytest.mark.parametrize(
    ("keys", "line", "texts"),
    [
        (["event: seen", "event id: n"], 1, ["'email'", "'userId'"]),
        (["userId: n", *GOOD], 1, ["'email'", "'userId'"]),
        (["email: email"], 1, ["user fields", "event"]),
        (["email: mail", "user fields: n"], 2, ["'mail'", "n, email"]),
        ([*GOOD[:2], "event id: n, m"], 4, ["'m'", "event id"]),
        ([*GOOD, "event fields: x"], 5, ["'x'", "event fields"]),
        ([*GOOD, "event time: at"], 5, ["'at'", "event time"]),
        ([*GOOD, "user fields: email"], 5, ["'email'", "identifies"]),
        (["email: email", "event: seen"], 3, ["event time", "event id"]),
        (["email: email", "user fields: n", "event fields: n"], 4, ["event fields", "event"]),
        ([*GOOD, "User_fields: n"], 5, ["User_fields", "-- user fields:"]),
        ([*GOOD, "event: other"], 5, ["'event'"]),
    ],
)
def test_a_mapping_that_makes_no_sense_is_an_error_at_its_line(
    project: Project, server: FakeIterable, keys: list[str], line: int, texts: list[str]
) -> None:
    comment = "".join(f"-- {key}\n" for key in keys)
    project.queries(f"-- name: q\n{comment}SELECT 1 AS n, 'a@example.com' AS email\n")
    done = project.run(QUERY="q")
    place = f"queries.sql, line {line}, query 'q': "
    check_ended_with_a_sentence(project, server, done, 2, place, *texts)


def test_a_mistake_in_another_query_of_the_file_is_an_error_too(
    project: Project, server: FakeIterable
) -> None:
    project.queries("""-- name: q
        -- email: e
        -- user fields: e2
        SELECT 'a@example.com' AS e, 1 AS e2;
        -- name: other
        -- email: e
        SELECT 1 AS e""")
    done = project.run(QUERY="q")
    check_ended_with_a_sentence(project, server, done, 2, "line 5, query 'other'")


@pytest.mark.parametrize("columns", ["email, n", ","])
def test_a_key_that_takes_one_column_takes_no_other_number(
    project: Project, server: FakeIterable, columns: str
) -> None:
    keys = f"-- name: q\n-- email: {columns}\n-- user fields: n\n"
    project.queries(keys + "SELECT 1 AS n, 'a@example.com' AS email")
    done = project.run(QUERY="q")
    assert (done.code, server.requests) == (2, [])
    assert "line 2, query 'q': 'email' names one column" in done.err

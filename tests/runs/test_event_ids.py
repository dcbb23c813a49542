"""The columns that tell one event from another."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from tests.fake_iterable import FakeIterable
from tests.project import Project
from tests.runs.rows import codes, make_table
from tests.runs.stored import store_behind_a_driver
from tests.wire import event_id

ADA = "ada@example.com"


def test_a_time_in_an_event_id_counts_in_utc_and_with_its_fraction(
    project: Project, server: FakeIterable
) -> None:
    project.queries("""
        -- name: q
        -- email: email
        -- event: seen
        -- event id: n, at
        SELECT""")
    at = datetime(2026, 1, 13, 9, 45, 12, 250_000)
    store_behind_a_driver(project, ["n", "email", "at"], [(1, ADA, at)])
    done = project.run(QUERY="q", DATABASE_TIMEZONE="Europe/Berlin")
    expected = event_id(ADA, "seen", 1, "2026-01-13 08:45:12.250000 +00:00")
    assert done.code == 0
    assert list(server.events) == [expected]
    assert done.results["records"][0]["event_id"] == expected


def test_an_event_that_nothing_tells_from_others_is_a_failure(
    project: Project, server: FakeIterable
) -> None:
    keys = "email: email\nuser fields: n\nevent: seen\nevent id: n, at"
    rows = [(ADA, None, None), (ADA, 1, None), (ADA, None, "2026-01-13")]
    make_table(project, keys, "email, n, at", rows)
    done = project.run(QUERY="q")
    assert codes(done, "users_update") == ["Success"] * 3
    assert codes(done, "events_track") == ["InvalidValue", "Success", "Success"]
    answer = done.results["records"][0]["events_track"]["response"]
    assert answer["msg"] == "column n: nothing tells this event from others"
    assert done.results["records"][0]["event_id"] is None
    ids = {event_id(ADA, "seen", 1, None), event_id(ADA, "seen", None, "2026-01-13")}
    assert server.events.keys() == ids


@pytest.mark.parametrize(
    ("type_name", "cell", "sent", "in_id"),
    [
        ("decimal", 2**70, float(2**70), str(2**70)),
        ("text", -(2**64), str(-(2**64)), str(-(2**64))),
        ("date", datetime(1, 1, 1), "0001-01-01", "0001-01-01 00:00:00"),
        ("decimal", str(2**70), float(2**70), str(2**70)),
        ("decimal", 7, 7.0, 7),
    ],
)
def test_a_cell_that_only_its_type_lets_through_is_part_of_the_id_as_text(
    project: Project, server: FakeIterable, type_name: str, cell: Any, sent: Any, in_id: Any
) -> None:
    project.queries(
        f"-- name: q\n-- email: email\n-- event: seen\n-- event fields: n {type_name}\n"
        "-- event time: at\nSELECT"
    )
    store_behind_a_driver(project, ["n", "email", "at"], [(cell, ADA, 1768293912)])
    done = project.run(QUERY="q", DATABASE_TIMEZONE="Europe/Berlin")
    assert done.code == 0, done.out
    [(id_, stored)] = server.events.items()
    assert stored["dataFields"] == {"n": sent}
    assert id_ == event_id(ADA, "seen", 1768293912, {"n": in_id})

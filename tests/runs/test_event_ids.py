"""The columns that tell one event from another."""

from __future__ import annotations

from datetime import datetime

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

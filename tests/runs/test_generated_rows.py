"""Generated rows, clean and dirty: each in both files once, and sent as meant."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable

import pytest

from tests.fake_iterable import FakeIterable
from tests.project import Json, Project, outputs
from tests.runs.generated import OTHERS, SQLITE, Generated, MeantRow, generate
from tests.runs.rows import BOTH_MODES, canonical, cells_of, codes
from tests.runs.stored import store_behind_a_driver, store_in_sqlite
from tests.wire import sent_items

KEYS = """-- name: q
-- email: email
-- user fields: {}
-- event: seen
-- event fields: n, at
-- event time: at
-- event id: n
"""


def store(project: Project, made: Generated, where: str) -> None:
    """Puts the rows where the query `q` finds them."""
    keys = KEYS.format(", ".join(made.columns[3:]))
    project.queries(f"{keys}SELECT * FROM rows ORDER BY n")  # noqa: S608
    project.settings["DATABASE_TIMEZONE"] = "Europe/Berlin"
    rows = [row.stored for row in made.rows]
    if where == "sqlite":
        store_in_sqlite(project, made.columns, rows)
    else:
        store_behind_a_driver(project, made.columns, rows)


def by_user(updates: list[Json]) -> dict[str, list[Json]]:
    """The updates of each user, in their order."""
    found: dict[str, list[Json]] = defaultdict(list)
    for update in updates:
        found[update["email"]].append(update)
    return found


def count_successes(row: MeantRow) -> int:
    """How many of a row's two calls should succeed."""
    return (row.update_code, row.event_code).count("Success")


@BOTH_MODES
@pytest.mark.parametrize(
    ("where", "seed", "kinds"), [("sqlite", 1, SQLITE), ("behind a driver", 2, OTHERS)]
)
def test_of_generated_rows_each_is_in_the_csv_and_the_results_once_and_arrives_as_meant(
    fast_project: Project, unlimited: FakeIterable, mode: str, where: str, seed: int, kinds: Json
) -> None:
    made = generate(seed, 250 if mode == "single" else 1200, kinds)
    store(fast_project, made, where)
    done = fast_project.run(QUERY="q", SEND_MODE=mode, WORKERS="8")
    results = done.results

    assert codes(done, "users_update") == [row.update_code for row in made.rows]
    assert codes(done, "events_track") == [row.event_code for row in made.rows]
    assert [record["email"] for record in results["records"]] == [row.user for row in made.rows]
    updates = [row.update for row in made.rows if row.update]
    events = [row.event for row in made.rows if row.event]
    path = "ulk" if mode == "bulk" else ""  # its single calls only ask why a row failed
    sent_updates = sent_items(unlimited, "users", path)
    assert canonical(sent_updates) == canonical(updates)
    assert canonical(sent_items(unlimited, "events", path)) == canonical(events)
    assert by_user(sent_updates) == by_user(updates), "a user's updates keep their order"

    rows = Counter(count_successes(row) for row in made.rows)
    assert results["total_users"] == len(made.rows)
    assert results["total_failures"] == rows[0]
    assert results["partial_failures"] == rows[1]
    assert results["successful"] == rows[2]
    assert cells_of(done) == [made.columns, *(row.plain for row in made.rows)]


def check_requests(done_records: list[Json], call: str, meant: list[Json | None]) -> None:
    """Each record shows the request that is meant, if one is."""
    for record, payload in zip(done_records, meant, strict=True):
        shown = record[call].get("request")
        assert (shown is None) == (payload is None)
        if payload:
            assert canonical([shown]) == canonical([payload])


@BOTH_MODES
def test_a_dry_run_shows_for_generated_rows_what_a_run_would_send(
    fast_project: Project, unlimited: FakeIterable, mode: str
) -> None:
    made = generate(3, 200, OTHERS)
    store(fast_project, made, "behind a driver")
    done = fast_project.run("--dry-run", QUERY="q", SEND_MODE=mode)
    records = done.results["records"]
    assert not unlimited.requests
    check_requests(records, "users_update", [row.update for row in made.rows])
    check_requests(records, "events_track", [row.event for row in made.rows])
    assert len(cells_of(done)) == 1 + len(made.rows)


class PickledLock:
    """A lock once it is read, which cannot be pickled again."""

    def __reduce__(self) -> tuple[Callable[[], object], tuple[()]]:
        return threading.Lock, ()


def test_a_value_that_cannot_be_kept_ends_the_run_before_anything_is_sent(
    fast_project: Project, unlimited: FakeIterable
) -> None:
    fast_project.queries(KEYS.format("odd") + "SELECT")
    row = (1, "a@example.com", None, PickledLock())
    store_behind_a_driver(fast_project, ["n", "email", "at", "odd"], [row])
    done = fast_project.run(QUERY="q")
    assert (done.code, done.out) == (3, "")
    assert unlimited.requests == []
    assert outputs(fast_project.output) == []
    assert "Query 'q' has a value that cannot be kept" in done.err
    assert len(done.err.splitlines()) == 1

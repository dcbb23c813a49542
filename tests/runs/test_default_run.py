"""The default run on the sample data, and the runs after it."""

from __future__ import annotations

import json
import re
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.fake_iterable import FakeIterable, Seen
from tests.project import KEY, Finished, Json, new_project, outputs
from tests.runs.sample import CELLS, COLUMNS, REPORTS, calls_meant


@dataclass
class History:
    """What three runs over the same rows left behind."""

    first: Finished
    users: dict[str, Json]
    events: dict[str, Json]
    requests: list[Seen]
    views: Finished
    older: dict[str, bytes]
    again: Finished
    server: FakeIterable


def take_names(directory: Path) -> None:
    """Makes files of the names that runs in the next two minutes would choose."""
    for seconds in range(120):
        stamp = f"{datetime.now() + timedelta(seconds=seconds):%Y%m%d_%H%M%S}"
        for name in (f"query_results_{stamp}.csv", f"integration_results_{stamp}.json"):
            path = directory / name
            if not path.exists():
                path.write_text("older")


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    """A run, one of the other query, and the first once more, for all tests below."""
    directory = tmp_path_factory.mktemp("history")
    with FakeIterable(api_key=KEY) as server:
        project = new_project(directory, server)
        first = project.run()
        shutil.copytree(project.output, directory / "first")
        first = replace(first, directory=directory / "first")
        users, events, requests = server.users, server.events, server.requests
        views = project.run("--query", "pro_users_page_views")
        take_names(project.output)
        older = {name: (project.output / name).read_bytes() for name in outputs(project.output)}
        again = project.run("--quiet")
        yield History(first, users, events, requests, views, older, again, server)


def test_users_and_events_arrive_exactly_as_meant(history: History) -> None:
    calls = [calls_meant(cells) for cells in CELLS]
    for update, event in calls:
        own = [seen for seen in history.requests if seen.body["email"] == update["email"]]
        # a user's update goes before their event
        assert [seen.path for seen in own] == ["/api/users/update", "/api/events/track"]
        assert [seen.body for seen in own] == [update, event]
        kept = {name: value for name, value in update["dataFields"].items() if value}
        assert history.users[update["email"]] == kept
    assert len(history.users) == 5
    assert history.events == {event["id"]: event for _, event in calls}
    for seen in history.requests:
        assert seen.headers["api-key"] == KEY
        assert seen.headers.keys().isdisjoint({"authorization", "cookie"})


def test_the_results_file_says_what_became_of_every_row(history: History) -> None:
    results = history.first.results
    expected = {
        "run": results["run"],
        "total_users": 5,
        "successful": 5,
        "partial_failures": 0,
        "total_failures": 0,
        "unchanged": 0,
        "not_sent": 0,
        "failure_reasons": {},
        "failure_examples": {},
        "requests": {"sent": 10, "retried": 0, "rate_limited": 0},
        "reports": REPORTS,
        "records": results["records"],
    }
    assert list(results.items()) == list(expected.items()), "in this order, too"
    for number, record in enumerate(results["records"], 1):
        cells = CELLS[number - 1]
        _, event = calls_meant(cells)
        success = {"code": "Success", "msg": "", "params": None}
        tracked = {**success, "params": {"id": event["id"]}}
        expected_record = {
            "row": number,
            "email": cells[1],
            "event_id": event["id"],
            "timestamp": record["timestamp"],
            "users_update": {"success": True, "status": 200, "response": success},
            "events_track": {"success": True, "status": 200, "response": tracked},
            "overall_success": True,
        }
        assert list(record.items()) == list(expected_record.items())
        assert datetime.fromisoformat(record["timestamp"]).utcoffset() == timedelta(0)


def test_the_results_file_has_a_record_a_line(history: History) -> None:
    lines = history.first.results_text.splitlines()
    records = [json.loads(line.rstrip(",")) for line in lines if line.startswith('{"row"')]
    assert records == history.first.results["records"]


def test_the_results_file_says_what_the_run_was(history: History) -> None:
    run = history.first.results["run"]
    [csv_file] = history.first.directory.glob("*.csv")
    expected = {
        "id": run["id"],
        "status": "completed",
        "started_at": run["started_at"],
        "finished_at": run["finished_at"],
        "seconds": run["seconds"],
        "query": "pro_users_recent_engagement",
        "since": "2026-01-06T12:00:00+00:00",
        "until": "2026-01-13T12:00:00+00:00",
        "days": None,
        "as_of": "2026-01-13 12:00:00",
        "limit": None,
        "send_mode": "single",
        "authentication": "api_key",
        "base_url": history.server.url,
        "csv_file": csv_file.name,
        "warnings": [],
    }
    assert list(run.items()) == list(expected.items()), "in this order, too"
    assert str(uuid.UUID(run["id"])) == run["id"]
    started = datetime.fromisoformat(run["started_at"])
    finished = datetime.fromisoformat(run["finished_at"])
    assert started.utcoffset() == finished.utcoffset() == timedelta(0)
    assert started <= finished
    assert 0 < run["seconds"] < 60


def test_the_csv_equals_the_rows_and_the_run_ends_well(history: History) -> None:
    assert (history.first.code, history.first.err) == (0, "")
    assert history.first.rows == [COLUMNS, *CELLS]
    for name in outputs(history.first.directory):
        assert name in history.first.out


def test_a_second_run_and_the_other_query_add_no_event_twice(history: History) -> None:
    server = history.server
    assert len(server.events) == 10, "every qualifying view"
    for id_, event in history.events.items():
        assert server.events[id_] == event, "one view has one id, and one payload"
    for id_, writes in server.event_writes.items():
        assert writes == (3 if id_ in history.events else 1)
    assert server.users == history.users


def test_a_quiet_success_prints_nothing_and_overwrites_nothing(history: History) -> None:
    assert history.views.code == 0
    again = history.again
    assert (again.code, again.out, again.err) == (0, "", "")
    assert again.results["successful"] == 5
    results, table = sorted(set(outputs(again.directory)) - set(history.older))
    assert re.fullmatch(r"integration_results_\d{8}_\d{6}_\d\.json", results)
    assert re.fullmatch(r"query_results_\d{8}_\d{6}_\d\.csv", table)
    assert again.results["run"]["csv_file"] == table
    for name, data in history.older.items():
        assert (again.directory / name).read_bytes() == data

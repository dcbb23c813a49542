"""A run begins where the last complete one of its query ended, however long ago that was."""

from __future__ import annotations

import json
import os
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.fake_iterable import FakeIterable
from tests.project import Json, MakeProject, Project

NOW = datetime.now(timezone.utc)
QUERY = """
-- name: views
-- email: email
-- event: view
-- event time: at
SELECT email, at FROM seen WHERE at >= :since AND at <= :until ORDER BY at;

-- name: everybody
-- email: email
-- event: user
-- event id: email
SELECT email FROM seen
"""
PLAIN: Json = {
    "status": "completed",
    "query": "views",
    "days": None,
    "as_of": None,
    "limit": None,
}


@pytest.fixture
def project(make_project: MakeProject, server: FakeIterable) -> Project:
    """A project whose window ends now, with a view on each of the last 40 days."""
    project = make_project(server)
    project.as_of = None
    project.queries(QUERY)
    project.settings["QUERY"] = "views"
    rows = []
    for days in range(40):
        at = NOW - timedelta(days=days, hours=1)
        rows.append(f"('day{days}@example.com', '{at:%Y-%m-%d %H:%M:%S}')")
    project.sql(f"CREATE TABLE seen (email, at); INSERT INTO seen VALUES {', '.join(rows)}")  # noqa: S608
    return project


def leave_results(directory: Path, days_ago: float, /, **changes: Any) -> None:
    """Leaves the results file of an earlier run, whose window ended so many days ago."""
    ended = NOW - timedelta(days=days_ago)
    run = {**PLAIN, "until": ended.isoformat(), **changes}
    name = f"integration_results_{ended:%Y%m%d_%H%M%S}.json"
    kept = {name: value for name, value in run.items() if value != "absent"}
    (directory / name).write_text(json.dumps({"run": kept})[:-1] + ',\n"records": [\n]}\n')


def test_after_an_outage_the_window_is_as_long_as_it_was(
    project: Project, server: FakeIterable
) -> None:
    leave_results(project.output, 15)
    leave_results(project.output, 10.5)
    done = project.run()
    assert (done.code, len(server.events)) == (0, 11)
    assert done.results["run"]["warnings"] == []
    ended = NOW - timedelta(days=10.5)
    assert datetime.fromisoformat(done.results["run"]["since"]) == ended
    assert f"lengthened, since the last complete run ended {ended:%Y-%m-%d %H:%M}Z" in (done.screen)
    again = project.run()
    assert again.results["total_users"] == 7, "the run before was complete"
    assert "lengthened" not in again.out


def test_a_gap_too_long_is_told_with_the_days_to_type(
    project: Project, server: FakeIterable
) -> None:
    leave_results(project.output, 35.5)
    assert "--days 37" in project.run("--quiet", "--dry-run").screen, "nobody else tells"
    done = project.run()
    assert len(server.events) == 28, "four times seven days"
    [warning] = done.results["run"]["warnings"]
    assert "run views once with --days 37" in warning
    assert project.run("--days", "37").results["total_users"] == 37
    assert len(server.events) == 37


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "aborted"},
        {"status": "interrupted"},
        {"status": "dry_run"},
        {"query": "everybody"},
        {"days": 30},
        {"as_of": "2026-01-01"},
        {"limit": 1},
        {"limit": "absent", "days": "absent", "as_of": "absent"},
        {"until": "yesterday"},
        {"until": None},
        {"until": "0001-01-01T00:00:00+14:00"},
        {"until": (NOW - timedelta(days=2)).isoformat()},
    ],
)
def test_other_results_change_nothing(project: Project, changes: Json) -> None:
    leave_results(project.output, 9, **changes)
    assert project.run().results["total_users"] == 7


def test_the_days_to_type_are_enough_until_the_next_day(
    project: Project, server: FakeIterable
) -> None:
    leave_results(project.output, 35.99)
    [warning] = project.run("--dry-run").results["run"]["warnings"]
    [days] = re.findall(r"--days (\d+)$", warning)
    typed = NOW + timedelta(hours=23)
    assert typed - timedelta(days=int(days)) < NOW - timedelta(days=35.99)


def test_who_chooses_the_window_gets_it(project: Project) -> None:
    leave_results(project.output, 20)
    assert project.run("--days", "2").results["total_users"] == 2
    as_of = f"{NOW:%Y-%m-%d %H:%M:%S}"
    assert project.run("--as-of", as_of).results["total_users"] == 7
    for run in project.run("--limit", "1", "--dry-run").results, project.run().results:
        since = datetime.fromisoformat(run["run"]["since"])
        assert since == NOW - timedelta(days=20), "neither of the runs before was a plain one"


def test_a_query_without_a_window_shows_none(project: Project) -> None:
    leave_results(project.output, 20, query="everybody")
    done = project.run("--query", "everybody")
    assert done.results["total_users"] == 40
    assert "Window" not in done.out
    assert done.results["run"]["warnings"] == []


def test_what_is_no_results_file_harms_nothing(project: Project) -> None:
    out = project.output
    leave_results(out, 9)
    os.mkfifo(out / "integration_results_9.json")
    (out / "integration_results_8.json").mkdir()
    (out / "integration_results_7.json").symlink_to("/dev/zero")
    texts = ["", "[]", '{"run": 1}', '{"run": [', "\0", "[" * 100_000]
    for number, text in enumerate(texts):
        (out / f"integration_results_6{number}.json").write_text(text)
    (out / "integration_results_5.json").write_bytes(b"\xff")
    assert project.run().results["total_users"] == 9


def test_the_results_say_how_the_window_was_chosen(project: Project) -> None:
    chosen = {"days": 2.0, "as_of": "2026-01-13", "limit": 3}
    run = project.run("--days", "2", "--as-of", "2026-01-13", "--limit", "3").results["run"]
    assert {name: run[name] for name in chosen} == chosen
    run = project.run(LOOKBACK_DAYS="3").results["run"]
    assert {name: run[name] for name in chosen} == dict.fromkeys(chosen)

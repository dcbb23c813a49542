"""Dry runs show everything and send nothing."""

from __future__ import annotations

import subprocess

from tests.fake_iterable import FakeIterable
from tests.project import Project
from tests.runs.sample import CELLS, COLUMNS, calls_meant


def test_a_dry_run_shows_every_request_and_sends_none(
    project: Project, server: FakeIterable
) -> None:
    done = project.run("--dry-run", ITERABLE_API_KEY="", USE_JWT_AUTH="true")
    results = done.results
    assert (done.code, results["run"]["status"]) == (0, "dry_run")
    assert server.requests == []
    assert results["requests"] == {"sent": 0, "retried": 0, "rate_limited": 0}
    for cells, record in zip(CELLS, results["records"], strict=True):
        update, event = calls_meant(cells)
        assert record["users_update"] == {"success": None, "request": update}
        assert record["events_track"] == {"success": None, "request": event}
        assert record["email"] == cells[1]
        assert record["event_id"] == event["id"]
        assert record["overall_success"] is None
    assert done.rows == [COLUMNS, *CELLS]


def test_a_dry_run_counts_what_would_fail(project: Project) -> None:
    project.queries("""
        -- name: q
        -- email: email
        -- user fields: b
        -- event: e
        -- event id: email
        SELECT 'a@example.com' AS email, x'00' AS b""")
    done = project.run("--dry-run", "--query", "q")
    assert (done.code, done.results["failure_reasons"]) == (1, {"InvalidValue": 1})
    assert done.results["records"][0]["events_track"]["request"]["eventName"] == "e"


def test_a_working_directory_that_is_gone_changes_nothing(project: Project) -> None:
    lost = project.directory / "lost"
    lost.mkdir()
    command, env = project.command("--dry-run")
    shell = ["/bin/sh", "-c", 'rmdir "$0" && exec "$@"', str(lost), *command]
    run = subprocess.run(shell, env=env, cwd=lost, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    assert "This sends the first row" in " ".join(run.stdout.split())

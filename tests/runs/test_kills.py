"""Killed at any moment: the next run delivers the rest."""

from __future__ import annotations

import json
import random
import time

from tests.fake_iterable import FakeIterable
from tests.project import Project, check_counts, outputs
from tests.runs.delivery import all_calls, event_ids, recorded


def kill_after_requests(project: Project, server: FakeIterable, count: int) -> None:
    """Starts a run and kills it after so many requests."""
    before = server.counts.total()
    process = project.start()
    while process.poll() is None and server.counts.total() - before < count:
        time.sleep(0.001)
    process.kill()
    process.communicate()


def kill_between_the_files(project: Project) -> None:
    """Starts a run and kills it as its CSV appears, before its results do."""
    before = len(list(project.output.glob("query_results_*.csv")))
    process = project.start()
    while process.poll() is None:
        if len(list(project.output.glob("query_results_*.csv"))) > before:
            break
        time.sleep(0.001)
    process.kill()
    process.communicate()


def unfinished(project: Project) -> list[str]:
    """The names of files that are not whole."""
    return [name for name in outputs(project.output) if name.endswith(".part")]


def test_after_any_number_of_kills_the_next_run_delivers_the_rest(
    project: Project, server: FakeIterable
) -> None:
    rows = 100
    moments = random.Random(4)
    left = 0
    project.add_customers(rows - 5)
    for number in range(16):
        if number % 4 == 3:
            kill_between_the_files(project)
        else:
            kill_after_requests(project, server, moments.randrange(2 * rows))
        left += len(unfinished(project))
    assert left, "it was killed at work"
    done = project.run()
    assert (done.code, done.results["successful"]) == (0, rows)
    assert len(server.users) == rows
    assert server.events.keys() == event_ids(done.results)
    assert unfinished(project) == []
    for path in project.output.glob("integration_results_*.json"):
        results = json.loads(path.read_text(encoding="utf-8"))
        check_counts(results, rows)
        assert recorded(results) == all_calls(results)
    assert len(done.rows) == rows + 1
    tables = {path.read_bytes() for path in project.output.glob("query_results_*.csv")}
    assert len(tables) == 1, "all are whole"

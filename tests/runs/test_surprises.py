"""What the program does not foresee: both files are there all the same, and tell the truth."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.fake_iterable import FakeIterable
from tests.locks import locked
from tests.project import Finished, Project, check_counts, outputs, wait_until
from tests.runs.delivery import delivered, recorded
from tests.runs.endings import check_ended_with_a_sentence
from tests.runs.sabotage import sabotage

FAIL_AT = """
def fail_at(row, function, number_of):
    def failing(*args):
        if number_of(*args) == row:
            raise {error}
        return function(*args)
    return failing
"""
FAIL_PLANNING = "main.plan_row = fail_at({row}, main.plan_row, lambda plan, number, cells: number)"
FAIL_RECORDING = "main.record_line = fail_at({row}, main.record_line, lambda row, *_: row.number)"
FAIL_DELIVERING = """
def deliver(*args):
    for number, settled in enumerate(iterable_client.deliver(*args)):
        if number == {row}:
            raise {error}
        yield settled
main.deliver = deliver
"""
ERRORS = pytest.mark.parametrize(
    ("mode", "error"),
    [
        ("single", "KeyError('ada@example.com')"),
        ("bulk", "MemoryError()"),
        ("bulk", "OSError(5)"),
    ],
)


def check_aborted(done: Finished, server: FakeIterable, rows: int) -> None:
    """The run was aborted, both files are there, and no call counts as delivered that was not."""
    results = done.results
    assert (done.code, results["run"]["status"]) == (4, "aborted"), done.err
    assert len(outputs(done.directory)) == 2
    assert len(done.rows) == rows + 1
    check_counts(results, rows)
    assert recorded(results) <= delivered(server.requests)


def check_traceback(done: Finished, name: str) -> None:
    """The log has a traceback, and nobody's address; the results say where to look."""
    assert "Traceback" in done.log
    assert name in done.log
    assert "@example.com" not in done.log
    [warning] = done.results["run"]["warnings"]
    assert "log" in warning
    assert name in warning
    assert warning in done.screen


@ERRORS
def test_a_failure_while_planning_ends_the_run_with_what_was_planned_before(
    fast_project: Project, unlimited: FakeIterable, mode: str, error: str
) -> None:
    fast_project.add_customers(1_995)
    code = FAIL_AT.format(error=error) + FAIL_PLANNING.format(row=1_500)
    sabotage(fast_project, code)
    done = fast_project.run(SEND_MODE=mode)
    check_aborted(done, unlimited, 2_000)
    check_traceback(done, error.partition("(")[0])
    assert done.results["not_sent"] >= 1_000
    assert recorded(done.results) == delivered(unlimited.requests)


@ERRORS
def test_a_row_that_cannot_be_recorded_ends_the_run_and_takes_none_before_it_along(
    project: Project, server: FakeIterable, mode: str, error: str
) -> None:
    sabotage(project, FAIL_AT.format(error=error) + FAIL_RECORDING.format(row=3))
    done = project.run(SEND_MODE=mode)
    check_aborted(done, server, 5)
    check_traceback(done, error.partition("(")[0])
    rows = [record["row"] for record in done.results["records"]]
    assert rows[:2] == [1, 2]
    assert 3 not in rows


def test_a_failure_of_the_delivery_itself_loses_what_is_in_flight_and_says_so(
    project: Project, server: FakeIterable
) -> None:
    sabotage(project, FAIL_DELIVERING.format(row=2, error="KeyError(1)"))
    done = project.run()
    check_aborted(done, server, 5)
    check_traceback(done, "KeyError")
    assert "not sent" in done.results["run"]["warnings"][0]


def test_a_failure_while_querying_leaves_no_files(project: Project, server: FakeIterable) -> None:
    sabotage(project, FAIL_AT.format(error="KeyError(1)") + "main.make_plan = fail_at(0, 0, id)")
    done = project.run()
    assert (done.code, done.out) == (4, "")
    assert done.err.count("\n") == 1
    assert "see the log" in done.err.lower()
    assert "Traceback" in done.log
    assert outputs(project.output) == []
    assert server.requests == []


def test_a_failure_at_the_very_end_says_what_became_of_the_rows(
    project: Project, server: FakeIterable
) -> None:
    sabotage(project, "main.Results.write_to = None")
    server.add_fault("status", path="events/track", times=1, status=400, code="BadParams")
    done = project.run()
    assert (done.code, done.out) == (4, "")
    assert "Rows: 5: 4 delivered, 1 partly failed." in done.err
    [name] = outputs(project.output)
    assert name in done.err
    assert len(done.rows) == 6
    assert "Traceback" in done.log


@pytest.mark.parametrize(("mode", "rows"), [("single", 500), ("bulk", 12_000)])
def test_a_ledger_that_another_process_locks_ends_the_run_with_both_files(
    fast_project: Project, unlimited: FakeIterable, mode: str, rows: int
) -> None:
    unlimited.latency = 0.2
    fast_project.add_customers(rows - 5)
    settings = {"SEND_MODE": mode, "WORKERS": "2", "SEND_ONLY_CHANGES": "true"}
    process = fast_project.start(**settings)
    wait_until(lambda: unlimited.requests, process)
    path = fast_project.output / "delivery_ledger.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        done = fast_project.finish(process)
    check_aborted(done, unlimited, rows)
    assert recorded(done.results) == delivered(unlimited.requests)
    assert done.results["not_sent"] > 0
    [warning] = done.results["run"]["warnings"]
    assert "ledger" in warning
    assert warning in done.screen
    unlimited.latency = 0
    assert fast_project.run(**settings).code == 0
    assert len(unlimited.users) == len(unlimited.events) == rows


@pytest.mark.parametrize("flag", ["--verbose", "--dry-run"])
def test_a_ledger_that_is_locked_from_the_first_ends_the_run_with_both_files(
    project: Project, server: FakeIterable, flag: str
) -> None:
    only_changes = {"SEND_ONLY_CHANGES": "true"}
    assert project.run(**only_changes).code == 0
    for name in outputs(project.output):
        (project.output / name).unlink()
    with locked(project.output / "delivery_ledger.sqlite3", "PRAGMA locking_mode = EXCLUSIVE"):
        done = project.run(flag, **only_changes)
    check_aborted(done, server, 5)
    assert done.results["not_sent"] == 5
    [warning] = done.results["run"]["warnings"]
    assert "delivery_ledger.sqlite3" in warning
    assert warning in done.screen
    assert "Traceback" not in done.log
    assert len(server.requests) == 10  # those of the first run
    assert project.run(**only_changes).results["unchanged"] == 5


@pytest.mark.parametrize("flag", ["--quiet", "--verbose"])
@pytest.mark.parametrize(
    ("function", "error"),
    [
        ("main.make_parser", "KeyError('SECRET')"),
        ("main.load_settings", "TypeError('SECRET')"),
        ("main.db.load_queries", "OSError(5, 'SECRET')"),
        ("main._thread.start_new_thread", "RuntimeError('SECRET')"),
    ],
)
def test_a_failure_before_there_is_a_log_is_a_sentence_that_says_where(
    project: Project, server: FakeIterable, function: str, error: str, flag: str
) -> None:
    sabotage(project, FAIL_AT.format(error=error) + f"{function} = fail_at(0, 0, lambda *_: 0)")
    done = project.run(flag)
    name = error.partition("(")[0]
    check_ended_with_a_sentence(project, server, done, 4, f"{name} in sabotaged.py, line ")
    assert "SECRET" not in done.err
    assert not project.log.exists()


def test_a_failure_that_was_foreseen_shows_no_traceback_on_the_terminal(
    project: Project, server: FakeIterable
) -> None:
    full = "OSError(28, 'No space left on device')"
    sabotage(project, FAIL_AT.format(error=full) + FAIL_RECORDING.format(row=3))
    done = project.run("--verbose")  # which asserts that there is none
    check_aborted(done, server, 5)
    assert "No space left on device" in done.results["run"]["warnings"][0]
    assert "Traceback" not in done.log


SHORT_OF_MEMORY = """
import _thread, resource
start = _thread.start_new_thread
def start_what_needs_little(function, args):
    if function.__name__ != "_watch":  # of signals
        os._exit(99)
    return start(function, args)
_thread.start_new_thread = start_what_needs_little
with open("/proc/self/statm") as file:
    pages = int(file.read().split()[0])
most = pages * resource.getpagesize() + 40 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (most, most))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no way to tell the room left")
@pytest.mark.parametrize("mode", ["single", "bulk"])
def test_a_run_without_memory_for_threads_sends_all_without(
    fast_project: Project, unlimited: FakeIterable, mode: str
) -> None:
    sabotage(fast_project, SHORT_OF_MEMORY)
    done = fast_project.run(SEND_MODE=mode)
    assert done.code == 0, done.err
    assert done.counts == [5, 0, 0, 0, 0]


def test_seconds_are_those_that_passed_though_the_clock_is_set(project: Project) -> None:
    sabotage(
        project,
        """
class Clock(main.datetime):
    hours = 0
    @classmethod
    def now(cls, zone=None):
        cls.hours += 1
        return super().now(zone) - timedelta(hours=cls.hours)
main.datetime = Clock""",
    )
    done = project.run("--dry-run")
    assert done.code == 0
    assert 0 < done.results["run"]["seconds"] < 60


@pytest.mark.parametrize(
    "what", ["main.FieldKinds.warnings", "main.Repeats.warnings", "db.Tally.count_repeated"]
)
def test_a_failure_to_find_warnings_takes_no_results_with_it(
    project: Project, server: FakeIterable, what: str
) -> None:
    sabotage(project, f"def fail(self): raise KeyError('x')\n{what} = fail")
    done = project.run()
    check_aborted(done, server, 5)
    assert done.results["successful"] == 5
    check_traceback(done, "KeyError")

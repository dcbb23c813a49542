"""SIGHUP, SIGTERM and SIGINT, while starting, querying, sending and waiting."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fake_iterable import FakeIterable, Fault
from tests.project import KEY, Finished, Project, check_counts, new_project, outputs, wait_until
from tests.runs.delivery import calls_of_all, delivered, recorded
from tests.runs.limits import ignoring, start_as
from tests.runs.sabotage import sabotage

ALL_SIGNALS = pytest.mark.parametrize(
    "signum", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT], ids=lambda signum: signum.name
)
INTERRUPTED_EARLY = "main.py: interrupted before anything of this query was sent\n"
ENDLESS = """
-- name: endless
-- email: email
-- user fields: n
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers)
SELECT n, n || '@example.com' AS email, printf('%.20000c', 'x') FROM numbers WHERE n <= """


def log_has(project: Project, text: str) -> bool:
    """Whether the log has a text, or is there at all."""
    return project.log.exists() and text in project.log.read_text(encoding="utf-8")


def has_rows(project: Project) -> bool:
    """Whether rows of the query have reached the CSV."""
    return any(path.stat().st_size for path in project.output.glob(".query*.part"))


def check_interrupted(
    done: Finished,
    server: FakeIterable,
    signum: signal.Signals,
    rows: int,
    last_answers: frozenset[str] = frozenset(),
) -> None:
    """Both files are there and tell the truth, with no failure but what the signal cut short.

    `last_answers`: codes of calls that would have been made again.
    """
    results = done.results
    assert done.code == 128 + signum
    assert results["run"]["status"] == "interrupted"
    assert len(done.rows) == rows + 1
    check_counts(results, rows)
    assert recorded(results) == delivered(server.requests)
    assert results["requests"]["sent"] == len(server.requests)
    assert set(results["failure_reasons"]) <= {"Interrupted", *last_answers}


@ALL_SIGNALS
@pytest.mark.parametrize("found", [0, 3])
def test_a_signal_ends_a_query_and_nothing_was_sent(
    project: Project, server: FakeIterable, signum: signal.Signals, found: int
) -> None:
    project.queries(f"{ENDLESS}{found}")
    process = project.start("--query", "endless")
    if found:  # the first rows fill the CSV's buffer
        wait_until(lambda: has_rows(project), process)
    else:
        wait_until(lambda: log_has(project, "endless"), process)
    process.send_signal(signum)
    done = project.finish(process)
    assert (done.code, done.out, done.err) == (128 + signum, "", INTERRUPTED_EARLY)
    assert server.requests == []
    assert outputs(project.output) == []


@pytest.mark.parametrize(
    ("signum", "mode", "rows", "requests", "factor"),
    [
        (signal.SIGTERM, "single", 400, 60, "0.1"),
        (signal.SIGINT, "bulk", 6000, 3, "0.4"),
        (signal.SIGHUP, "bulk", 6000, 3, "0.4"),
    ],
)
def test_a_signal_while_sending_lets_calls_on_the_wire_end_and_both_files_tell_the_truth(
    fast_project: Project,
    unlimited: FakeIterable,
    signum: signal.Signals,
    mode: str,
    rows: int,
    requests: int,
    factor: str,
) -> None:
    unlimited.latency = 0.3
    fast_project.add_customers(rows - 5)
    # at this pace it takes over 5 s
    process = fast_project.start(SEND_MODE=mode, RATE_LIMIT_FACTOR=factor)
    wait_until(lambda: len(unlimited.requests) >= requests, process)
    process.send_signal(signum)
    done = fast_project.finish(process)
    check_interrupted(done, unlimited, signum, rows)
    assert done.results["not_sent"] > 0
    assert len(recorded(done.results)) >= requests
    unlimited.latency = 0
    assert fast_project.run().code == 0
    assert len(unlimited.users) == len(unlimited.events) == rows


@dataclass
class Hung:
    """A run whose server has begun to hang, and the signal that it was then sent."""

    process: subprocess.Popen[str]
    project: Project
    server: FakeIterable
    signum: signal.Signals
    rows: int


@pytest.fixture
def hung(tmp_path: Path) -> Iterator[list[Hung]]:
    """Two runs, which wait out their grace at the same time."""
    found = []
    with ExitStack() as stack:
        for mode, signum, rows, answered in (
            ("single", signal.SIGTERM, 200, 30),
            ("bulk", signal.SIGINT, 4000, 2),
        ):
            server = stack.enter_context(FakeIterable(api_key=KEY))
            fault = server.add_fault("hang", stored=True, after=answered)
            project = new_project(tmp_path / mode, server)
            project.add_customers(rows - 5)
            process = project.start(SEND_MODE=mode, REQUEST_TIMEOUT="600")
            while fault.hits < 2:
                assert process.poll() is None
                time.sleep(0.005)
            process.send_signal(signum)
            found.append(Hung(process, project, server, signum, rows))
        yield found


def test_a_server_that_hangs_cannot_hold_up_a_stop(hung: list[Hung]) -> None:
    signalled = time.monotonic()
    for run in hung:
        done = run.project.finish(run.process)
        check_interrupted(done, run.server, run.signum, run.rows)
        # what hangs has status 0
        in_doubt = calls_of_all(seen for seen in run.server.requests if seen.status == 0)
        assert done.results["failure_reasons"]["Interrupted"] >= len(in_doubt) > 0
    assert time.monotonic() - signalled < 20, "10 s of grace"


@ALL_SIGNALS
def test_a_second_signal_gives_up_at_once_but_for_one_that_comes_with_the_first(
    project: Project, server: FakeIterable, signum: signal.Signals
) -> None:
    fault = server.add_fault("hang")
    process = project.start(REQUEST_TIMEOUT="600")
    wait_until(lambda: fault.hits, process)
    first = time.monotonic()
    while process.poll() is None:
        process.send_signal(signum)
        time.sleep(0.1)
    assert 1 < time.monotonic() - first < 8, "the grace was not waited for"
    done = project.finish(process)
    assert (done.code, done.out, done.err) == (128 + signum, "", "")
    assert len(done.rows) == 6
    assert not list(project.output.glob("integration_results_*.json"))


@pytest.mark.parametrize(
    "pair",
    [
        (signal.SIGTERM, signal.SIGTERM),
        (signal.SIGINT, signal.SIGINT),
        (signal.SIGTERM, signal.SIGINT),
        (signal.SIGHUP, signal.SIGTERM),
    ],
    ids=lambda pair: "-".join(signum.name for signum in pair),
)
def test_two_signals_at_once_are_one(
    project: Project, server: FakeIterable, pair: tuple[signal.Signals, ...]
) -> None:
    server.latency = 1
    project.add_customers(995)
    process = project.start(SEND_MODE="single")
    wait_until(lambda: server.requests, process)
    for signum in pair:
        process.send_signal(signum)
    done = project.finish(process)
    # of two that wait the system may hand over either first
    first = signal.Signals(done.code - 128)
    assert first in pair
    check_interrupted(done, server, first, 1000)


def test_sighup_that_is_ignored_when_the_run_starts_stays_ignored(
    project: Project, server: FakeIterable
) -> None:
    server.latency = 0.3
    process = start_as(project, ignoring("SIGHUP"))
    wait_until(lambda: server.requests, process)
    process.send_signal(signal.SIGHUP)
    assert project.finish(process).code == 0


@ALL_SIGNALS
def test_a_dry_run_that_is_interrupted_leaves_both_files_too(
    project: Project, signum: signal.Signals
) -> None:
    project.add_customers(9_995)
    sabotage(
        project,
        """
def plan_row(*args, plan_row=main.plan_row):
    time.sleep(0.001)
    return plan_row(*args)
main.plan_row = plan_row""",
    )
    process = project.start("--dry-run")
    wait_until(lambda: list(project.output.glob("query_results_*.csv")), process)
    process.send_signal(signum)
    done = project.finish(process)
    assert (done.code, done.results["run"]["status"]) == (128 + signum, "interrupted")
    assert len(done.rows) == 10_001
    assert len(done.results["records"]) < 10_000


STUBBORN = """
class Database:
    def __enter__(self):
        return self

    def rows(self, *args):
        {rows}
        return ("a",), iter(())

    def __exit__(self, *error):
        {close}

    def wait(self):
        while True:
            try:
                open("waiting", "w").close()
                time.sleep(600)
            except BaseException:
                pass

db.connect = lambda url, zone: Database()
main.make_plan = lambda *args: None
main.LAST_RESORT = 2
"""


@ALL_SIGNALS
@pytest.mark.parametrize("waits", ["rows", "close"])
def test_a_driver_that_heeds_no_signal_cannot_hold_the_run(
    project: Project, signum: signal.Signals, waits: str
) -> None:
    sabotage(project, STUBBORN.format(**{"rows": "pass", "close": "pass", waits: "self.wait()"}))
    process = project.start()
    wait_until(lambda: (project.directory / "waiting").exists(), process)
    process.send_signal(signum)
    done = project.finish(process)
    assert (done.code, done.out, done.err) == (128 + signum, "", INTERRUPTED_EARLY)
    assert not list(project.output.glob("query_results_*.csv"))


@ALL_SIGNALS
@pytest.mark.parametrize(
    ("mode", "fault", "backoff", "logged"),
    [
        ("single", Fault("status", status=429, retry_after="50"), "1", "the pace is slower"),
        ("bulk", Fault("status", status=503), "60", ", again in"),
    ],
)
def test_a_signal_ends_a_long_wait(
    project: Project,
    server: FakeIterable,
    signum: signal.Signals,
    mode: str,
    fault: Fault,
    backoff: str,
    logged: str,
) -> None:
    server.set_faults([fault])
    process = project.start(SEND_MODE=mode, INITIAL_BACKOFF=backoff)
    wait_until(lambda: log_has(project, logged), process)
    process.send_signal(signum)
    done = project.finish(process)
    check_interrupted(done, server, signum, 5, frozenset({"RateLimitExceeded", "GenericError"}))
    records = done.results["records"]
    assert records
    for record in records:  # the wait ended, not only the patience, and what was known stays
        assert record["users_update"]["response"]["code"] != "Interrupted"


@pytest.mark.parametrize(
    "module", ["argparse", "logging", "urllib3", "requests", "jwt", "dotenv", "db"]
)
def test_a_sigint_while_the_program_starts_leaves_no_traceback(
    project: Project, module: str
) -> None:
    command, env = project.command()
    env["PYTHONPROFILEIMPORTTIME"] = "1"  # a line on stderr as each import ends
    with subprocess.Popen(
        command, env=env, cwd=project.directory, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        assert any(line.endswith(f" {module}\n") for line in process.stderr)
        process.send_signal(signal.SIGINT)
        said = [line for line in process.stderr if not line.startswith("import time:")]
    assert process.returncode in (130, -signal.SIGINT)
    assert said in ([], [INTERRUPTED_EARLY])
    assert outputs(project.output) == []


def test_a_signal_while_a_report_runs_is_no_error_of_the_report(
    project: Project, server: FakeIterable
) -> None:
    endless = "SELECT i FROM n WHERE i < 0"
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
    sync = "-- name: q\n-- email: e\n-- event: e\n-- event id: e\nSELECT 'a@example.com' AS e"
    project.queries(f"-- name: endless\n{numbers} {endless};\n{sync}")
    process = project.start("--query", "q")
    wait_until(lambda: log_has(project, "q from"), process)
    process.send_signal(signal.SIGTERM)
    done = project.finish(process)
    assert (done.code, done.out, done.err) == (143, "", INTERRUPTED_EARLY)
    assert server.requests == []


@pytest.mark.parametrize("kind", ["CsvFile", "OutputFile"])
def test_a_signal_just_after_a_file_was_made_leaves_none(project: Project, kind: str) -> None:
    sabotage(
        project,
        f"""
import signal
make = iterable_client.{kind}.__init__
def make_and_stop(self, *args):
    make(self, *args)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(1)
iterable_client.{kind}.__init__ = make_and_stop
""",
    )
    done = project.run()
    assert done.code == 143
    assert outputs(project.output) == []

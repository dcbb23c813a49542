"""Whatever goes wrong on the way: faults, outages, signals, kills, full disks."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.fake_iterable import FakeIterable, Fault, Seen
from tests.project import AS_OF, Finished, Project, check_counts, new_project, outputs

MakeProject = Callable[[FakeIterable], Project]
Json = dict[str, Any]
Delivered = set[tuple[str, str]]  # of calls: what, and the user or the event
UNLIMITED = {"RATE_LIMIT_FACTOR": "1000", "WORKERS": "64"}


@pytest.fixture
def unlimited() -> Iterator[FakeIterable]:
    """The stand-in for Iterable without its limits."""
    with FakeIterable(api_key="test-api-key", enforce_limits=False) as server:
        yield server


def wait_until(condition: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    """Waits for a condition on a process that is still running."""
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def calls_in(seen: Seen) -> Delivered:
    """The calls that a request makes, a single or a bulk one."""
    if "users/" in seen.path:
        return {("users_update", user["email"]) for user in seen.body.get("users", [seen.body])}
    return {("events_track", event["id"]) for event in seen.body.get("events", [seen.body])}


def delivered(requests: Iterable[Seen]) -> Delivered:
    """The calls answered with success, which nothing but a fault then kept from the client."""
    return {call for seen in requests if seen.status == 200 for call in calls_in(seen)}


def recorded(results: Json) -> Delivered:
    """The calls that the results file calls a success."""
    return {
        (call, record[identity])
        for record in results["records"]
        for call, identity in (("users_update", "email"), ("events_track", "event_id"))
        if record[call]["success"]
    }


def all_calls(results: Json) -> Delivered:
    """The calls of all rows in the results file."""
    return {
        call
        for record in results["records"]
        for call in (("users_update", record["email"]), ("events_track", record["event_id"]))
    }


def event_ids(results: Json) -> set[str]:
    """The ids of the events in the results file."""
    return {record["event_id"] for record in results["records"]}


# Faults

FAULTS = {
    "408": Fault("status", status=408),
    "429 with Retry-After": Fault("status", status=429, retry_after="1"),
    "429 with params": Fault("status", status=429, params={"rateLimitReset": 0.2}),
    "429 with neither": Fault("status", status=429),
    "429 as plain text": Fault("status", status=429, body="Slow down", content_type="text/plain"),
    **{str(status): Fault("status", status=status) for status in (500, 502, 503, 504)},
    "dropped, not stored": Fault("drop_before"),
    "dropped, stored": Fault("drop_after"),
    "hung, not stored": Fault("hang"),
    "hung, stored": Fault("hang", stored=True),
    "HTML": Fault("html", status=200),
    "truncated": Fault("truncated"),
    "empty": Fault("empty"),
}


@dataclass
class Mix(Fault):
    """A fault of any kind for a fifth of all requests.

    The first call that a request makes, and how often it was made before, decide on it, with the
    seed: not the order of arrival, which threads and machine would change from run to run.
    """

    kind: str = "status"
    mix: int = 0  # the seed; the one of Fault is overwritten with the rest
    attempts: Counter[tuple[str, str]] = field(default_factory=Counter)
    struck: list[str | None] = field(
        default_factory=list
    )  # a name in FAULTS, or None, for each request

    def strikes(self, path: str, body: Any) -> bool:
        call = min(calls_in(Seen(0, path, 0, {}, body)))
        self.attempts[path, call[1]] += 1
        chance = random.Random(f"{self.mix} {path} {call} {self.attempts[path, call[1]]}")
        name = chance.choice(list(FAULTS)) if chance.random() < 0.2 else None
        self.struck.append(name)
        if name:
            vars(self).update(vars(FAULTS[name]))
        return name is not None


@pytest.mark.parametrize(("mode", "rows", "seed"), [("single", 120, 20), ("bulk", 14_000, 213)])
def test_with_a_fifth_of_all_calls_struck_nothing_is_lost_or_doubled_and_the_results_are_true(
    make_project: MakeProject, unlimited: FakeIterable, mode: str, rows: int, seed: int
) -> None:
    server, project, mix = unlimited, make_project(unlimited), Mix(mix=seed)
    server.set_faults([mix])
    project.add_customers(rows - 5)
    runs, successes, missing = 0, Delivered(), Delivered([("none", "yet")])
    while missing and runs < 3:
        before = len(server.requests)
        # two attempts, not three, and a seed by which HTML, nothing or half an answer is the last
        # of some calls
        done = project.run(SEND_MODE=mode, MAX_RETRIES="2", REQUEST_TIMEOUT="3", **UNLIMITED)
        requests, struck = server.requests[before:], mix.struck[before:]
        results, runs = done.results, runs + 1
        answered = delivered(
            seen for seen, fault in zip(requests, struck, strict=True) if not fault
        )
        assert recorded(results) == answered, (
            "call by call, no more and no less than what was answered with success"
        )
        check_counts(results, rows)
        assert results["requests"]["sent"] == len(requests)
        assert results["requests"]["rate_limited"] == sum(
            "429" in (fault or "") for fault in struck
        )
        assert done.code == (results["successful"] < rows)
        successes |= answered
        missing = all_calls(results) - successes
    kinds = Counter(filter(None, mix.struck))
    lost, doubled = (
        len(event_ids(results) - server.events.keys()),
        len(server.events.keys() - event_ids(results)),
    )
    print(
        f"\n{mode}: {rows} rows, {len(mix.struck)} requests, {kinds.total()} faults {dict(kinds)}, "
        f"{runs} runs, {lost} rows lost, {doubled} events doubled"
    )
    assert (missing, lost, doubled, len(server.users), len(server.events)) == (
        set(),
        0,
        0,
        rows,
        rows,
    )
    assert runs > 1, "some calls were given up"
    assert kinds.keys() == FAULTS.keys() or mode == "bulk"


# Outages


@pytest.mark.parametrize(
    ("mode", "unit", "rows", "requests"), [("single", 1, 400, 60), ("bulk", 1000, 16_000, 5)]
)
def test_an_outage_ends_the_run_by_the_rule_of_ten_and_the_next_run_finishes_the_job(
    make_project: MakeProject,
    unlimited: FakeIterable,
    mode: str,
    unit: int,
    rows: int,
    requests: int,
) -> None:
    server, project = unlimited, make_project(unlimited)
    server.latency = 0.1 if mode == "single" else 0.5
    project.add_customers(rows - 5)
    process = project.start("--as-of", AS_OF, SEND_MODE=mode, **{**UNLIMITED, "WORKERS": "4"})
    wait_until(lambda: len(server.requests) >= requests, process)
    server.down()
    done = project.finish(process)
    results, unanswered = done.results, done.results["failure_reasons"].get("ConnectionError", 0)
    assert (done.code, results["run"]["status"], len(done.rows)) == (4, "aborted", rows + 1)
    assert server.url in done.out + done.err
    assert any(server.url in warning for warning in results["run"]["warnings"])
    check_counts(results, rows)
    assert 20 * unit <= unanswered <= 24 * unit, (
        "the two calls of ten rows, and what was on the wire"
    )
    assert results["not_sent"] > 0
    assert recorded(results)
    assert recorded(results) <= delivered(server.requests), (
        "what was answered as the server went down may have failed"
    )
    assert len(delivered(server.requests) - recorded(results)) <= 4 * unit
    server.latency = 0
    server.up()
    again = project.run(SEND_MODE=mode, **UNLIMITED)
    assert (again.code, again.results["successful"], len(server.users)) == (0, rows, rows)
    assert server.events.keys() == event_ids(again.results)


def test_three_rows_that_only_a_gateway_answers_are_an_aborted_run(
    project: Project, server: FakeIterable
) -> None:
    server.add_fault("html", status=503)
    done = project.run("--limit", "3")
    assert (done.code, done.results["run"]["status"], len(server.requests)) == (4, "aborted", 18)
    assert done.results["total_failures"] == 3
    check_counts(done.results, 3)


def test_no_call_starts_after_credentials_are_refused_in_mid_run(
    project: Project, server: FakeIterable
) -> None:
    server.add_fault("status", status=401, after=50)
    project.add_customers(295)
    done = project.run(WORKERS="4")
    statuses = Counter(seen.status for seen in server.requests)
    assert statuses[200] == 50
    assert statuses[401] <= 4, "one for each worker, at the most"
    assert (
        done.code,
        done.results["run"]["status"],
        done.results["failure_reasons"]["BadApiKey"],
    ) == (4, "aborted", statuses[401])
    assert recorded(done.results) == delivered(server.requests)
    check_counts(done.results, 300)


def test_a_row_that_always_gets_a_500_fails_alone(project: Project, server: FakeIterable) -> None:
    server.add_fault("status", status=500, user="user120@example.com")
    project.add_customers(35)
    done = project.run()
    assert (done.code, done.results["successful"], done.results["total_failures"]) == (1, 39, 1)
    failed = [
        record["email"] for record in done.results["records"] if not record["overall_success"]
    ]
    assert failed == ["user120@example.com"]
    assert done.results["failure_reasons"] == {"GenericError": 2}


# Signals

BOTH_SIGNALS = pytest.mark.parametrize(
    "signum", [signal.SIGTERM, signal.SIGINT], ids=lambda signum: signum.name
)


@BOTH_SIGNALS
@pytest.mark.parametrize("found", [0, 3])
def test_a_signal_ends_a_query_and_nothing_was_sent(
    project: Project, server: FakeIterable, signum: signal.Signals, found: int
) -> None:
    project.queries(f"""-- name: endless\n-- email: email\n-- user fields: n
        WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers)
        SELECT n, n || '@example.com' AS email, printf('%.20000c', 'x')
        FROM numbers WHERE n <= {found}""")  # noqa: S608
    process = project.start("--query", "endless")
    log = project.output / "iterable_integration.log"
    if found:  # the first rows fill the CSV's buffer
        wait_until(
            lambda: any(path.stat().st_size for path in project.output.glob(".query*.part")),
            process,
        )
    else:
        wait_until(lambda: log.exists() and "endless" in log.read_text(encoding="utf-8"), process)
    process.send_signal(signum)
    done = project.finish(process)
    assert (done.code, done.out, done.err) == (
        128 + signum,
        "",
        "main.py: interrupted before anything was sent\n",
    )
    assert (server.requests, outputs(project.output)) == ([], [])


@pytest.mark.parametrize(
    ("signum", "mode", "rows", "requests", "factor"),
    [(signal.SIGTERM, "single", 400, 60, "0.1"), (signal.SIGINT, "bulk", 6000, 3, "0.4")],
)
def test_a_signal_while_sending_lets_calls_on_the_wire_end_and_both_files_tell_the_truth(
    make_project: MakeProject,
    unlimited: FakeIterable,
    signum: signal.Signals,
    mode: str,
    rows: int,
    requests: int,
    factor: str,
) -> None:
    server, project = unlimited, make_project(unlimited)
    server.latency = 0.3
    project.add_customers(rows - 5)
    process = project.start(
        "--as-of", AS_OF, SEND_MODE=mode, RATE_LIMIT_FACTOR=factor
    )  # takes over 5 s
    wait_until(lambda: len(server.requests) >= requests, process)
    process.send_signal(signum)
    done = project.finish(process)
    results = done.results
    assert (done.code, results["run"]["status"], len(done.rows)) == (
        128 + signum,
        "interrupted",
        rows + 1,
    )
    check_counts(results, rows)
    assert results["not_sent"] > 0
    assert recorded(results) == delivered(server.requests)
    assert len(recorded(results)) >= requests
    assert results["requests"]["sent"] == len(server.requests)
    assert set(results["failure_reasons"]) <= {"Interrupted"}
    server.latency = 0
    assert project.run(**UNLIMITED).code == 0
    assert (len(server.users), len(server.events)) == (rows, rows)


def test_a_server_that_hangs_cannot_hold_up_a_stop(tmp_path: Path) -> None:
    began = []
    with contextlib.ExitStack() as stack:
        for signum, mode, rows, answered in (
            (signal.SIGTERM, "single", 200, 30),
            (signal.SIGINT, "bulk", 4000, 2),
        ):
            (tmp_path / mode).mkdir()
            server = stack.enter_context(FakeIterable(api_key="test-api-key"))
            fault = server.add_fault("hang", stored=True, after=answered)
            project = new_project(tmp_path / mode, server)
            project.add_customers(rows - 5)
            process = project.start("--as-of", AS_OF, SEND_MODE=mode, REQUEST_TIMEOUT="600")
            began.append((process, project, server, signum, rows))
            wait_until(lambda fault=fault: fault.hits >= 2, process)  # type: ignore[misc]
            process.send_signal(signum)
        signalled = time.monotonic()
        for process, project, server, signum, rows in began:
            done = project.finish(process)
            results, hung = done.results, [seen for seen in server.requests if seen.status == 0]
            assert (done.code, results["run"]["status"], len(done.rows)) == (
                128 + signum,
                "interrupted",
                rows + 1,
            )
            check_counts(results, rows)
            assert recorded(results) == delivered(server.requests), "what hangs has status 0"
            assert results["failure_reasons"].keys() == {"Interrupted"}
            assert results["failure_reasons"]["Interrupted"] >= len(
                set().union(*map(calls_in, hung))
            )
            assert results["requests"]["sent"] == len(server.requests)
    assert time.monotonic() - signalled < 20, "10 s of grace"


def test_a_second_sigint_gives_up_at_once(project: Project, server: FakeIterable) -> None:
    fault = server.add_fault("hang")
    process = project.start("--as-of", AS_OF, REQUEST_TIMEOUT="600")
    wait_until(lambda: fault.hits, process)
    while process.poll() is None:  # two that come at once are one
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
    done = project.finish(process)
    assert (done.code, done.out, done.err) == (130, "", "")
    assert all(name.endswith(".part") for name in outputs(project.output)), (
        "the grace was not waited for"
    )


@BOTH_SIGNALS
@pytest.mark.parametrize(
    ("mode", "fault", "backoff"),
    [
        ("single", Fault("status", status=429, retry_after="50"), "1"),
        ("bulk", Fault("status", status=503), "60"),
    ],
)
def test_a_signal_ends_a_long_wait(
    project: Project,
    server: FakeIterable,
    signum: signal.Signals,
    mode: str,
    fault: Fault,
    backoff: str,
) -> None:
    server.set_faults([fault])
    process = project.start(
        "--as-of", AS_OF, SEND_MODE=mode, INITIAL_BACKOFF=backoff, LOG_LEVEL="WARNING"
    )
    log = project.output / "iterable_integration.log"
    wait_until(lambda: log.exists() and ", again in" in log.read_text(encoding="utf-8"), process)
    process.send_signal(signum)
    done = project.finish(process)
    answers = [record["users_update"]["response"]["msg"] for record in done.results["records"]]
    assert answers
    assert all("stopped before a retry" in answer for answer in answers), (
        "the wait ended, not only the patience"
    )
    assert (done.code, done.results["run"]["status"]) == (128 + signum, "interrupted")
    check_counts(done.results, 5)


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
    assert said in ([], ["main.py: interrupted before anything was sent\n"])
    assert outputs(project.output) == []


# Kills


def test_after_any_number_of_kills_the_next_run_delivers_the_rest(
    project: Project, server: FakeIterable
) -> None:
    rows, moments, left = 100, random.Random(4), 0
    project.add_customers(rows - 5)
    for kill in range(16):
        at, before = moments.randrange(2 * rows), server.counts.total()
        files = len(list(project.output.glob("query_results_*.csv")))
        process = project.start("--as-of", AS_OF)
        while process.poll() is None:
            if kill % 4 == 3 and len(list(project.output.glob("query_results_*.csv"))) > files:
                break  # between the two files
            if kill % 4 < 3 and server.counts.total() - before >= at:
                break
            time.sleep(0.001)
        process.kill()
        process.communicate()
        left += len([name for name in outputs(project.output) if name.endswith(".part")])
    assert left, "it was killed at work"
    done = project.run()
    assert (done.code, done.results["successful"], len(server.users)) == (0, rows, rows)
    assert server.events.keys() == event_ids(done.results)
    assert not [name for name in outputs(project.output) if name.endswith(".part")]
    for path in project.output.glob("integration_results_*.json"):
        results = json.loads(path.read_text(encoding="utf-8"))
        check_counts(results, rows)
        assert recorded(results) == all_calls(results)
    assert len(done.rows) == rows + 1
    assert len({path.read_bytes() for path in project.output.glob("query_results_*.csv")}) == 1, (
        "all are whole"
    )


# Disks and permissions


def run_as(project: Project, prefix: list[str], **settings: str) -> Finished:
    """Runs main.py by another command."""
    command, env = project.command("--as-of", AS_OF, **settings)
    pipe = subprocess.PIPE
    return project.finish(
        subprocess.Popen([*prefix, *command], env=env, stdout=pipe, stderr=pipe, text=True)
    )


def small_files(size: int) -> list[str]:
    """A command that runs another in which no file can grow beyond this size."""
    limit = f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, resource.RLIM_INFINITY))"
    return [
        sys.executable,
        "-c",
        f"import os, resource, sys; {limit}; os.execv(sys.argv[1], sys.argv[1:])",
    ]


@contextlib.contextmanager
def small_disk(directory: Path, size: int) -> Iterator[list[str]]:
    """Makes a directory a small disk, or yields a command that keeps its files as small."""
    mount, umount = shutil.which("mount"), shutil.which("umount")
    command = [mount or "", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory)]
    if (
        mount
        and umount
        and subprocess.run(command, capture_output=True, check=False).returncode == 0
    ):
        try:
            yield []
        finally:
            subprocess.run([umount, str(directory)], check=True)
    else:
        yield small_files(size)


@pytest.mark.parametrize(
    ("when", "rows", "size"),
    [("at once", 100, 4096), ("querying", 10_000, 200_000), ("sending", 1_000, 200_000)],
)
def test_a_full_disk_ends_the_run_with_one_sentence(
    project: Project, server: FakeIterable, when: str, rows: int, size: int
) -> None:
    project.add_customers(rows - 5)
    with small_disk(project.output, size) as prefix:
        done = run_as(project, prefix, SEND_MODE="single")
        assert outputs(project.output) == []
    assert (done.code, done.out, done.err.count("\n")) == (4, "", 1), done.err
    assert done.err.startswith("main.py: ")
    assert str(project.output) in done.err
    assert "run again" in done.err, "what to do"
    assert (0 < len(server.requests) < 2 * rows) if when == "sending" else not server.requests


def test_a_log_that_cannot_be_written_any_more_harms_nothing(
    project: Project, server: FakeIterable
) -> None:
    log = project.output / "iterable_integration.log"
    log.write_bytes(b"\n" * 30_000)
    done = run_as(project, small_files(30_000), LOG_LEVEL="DEBUG")
    assert (done.code, done.err, done.results["successful"], len(server.events)) == (0, "", 5, 5)
    assert log.stat().st_size == 30_000


@pytest.mark.parametrize(
    ("what", "advice"),
    [
        ("a file", "--output-dir"),
        ("read-only", "--output-dir"),
        ("somebody else's", "--output-dir"),
        ("with somebody else's lock", "--output-dir"),
        ("with somebody else's log", "LOG_FILE"),
    ],
)
def test_an_output_directory_that_cannot_be_written_is_named_before_anything_is_done(
    project: Project, server: FakeIterable, what: str, advice: str
) -> None:
    place, root, prefix = project.output, os.geteuid() == 0, list[str]()
    if root:  # may write everywhere; PR_CAPBSET_DROP: CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        drop = (
            "import ctypes, os, sys; [ctypes.CDLL(None).prctl(24, cap, 0, 0, 0) for cap in (1, 2)]"
        )
        prefix = [sys.executable, "-c", f"{drop}; os.execv(sys.argv[1], sys.argv[1:])"]
    if what == "a file":
        place.rmdir()
        place.touch()
    elif what == "read-only":
        place.chmod(0o555)
    elif what == "somebody else's" and root:
        os.chown(place, 65534, 65534)
    elif what == "somebody else's":
        place = Path("/")
    else:
        (place / f"{'.' * ('lock' in what)}iterable_integration.{what[-4:].strip()}").touch(0o000)
    done = run_as(project, prefix, OUTPUT_DIR=str(place))
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), done.err
    assert done.err.startswith("main.py: ")
    assert str(place) in done.err
    assert advice in done.err
    assert not server.requests
    assert what == "a file" or outputs(place) == []

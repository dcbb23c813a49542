"""Measures the speed and memory that this project promises, as a Markdown table.

    python -m tests.benchmark [--quick] [--only ROW] [--runs N]

main.py runs as its users run it: a process, a database file, an env file, real HTTP. The stand-in
for Iterable is a second process on the same machine, so the two share its cores. Nothing beyond
loopback is called, and everything lies in one temporary directory that is removed at the end. All
of it takes about seventeen minutes, half of them beside other senders, and 2 GB of disk.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import groupby, product
from pathlib import Path
from statistics import median
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from iterable_client import (
    BULK_ITEMS,
    USERS_BULK_UPDATE,
    USERS_UPDATE,
    IterableClient,
    user_update,
)
from tests.fake_iterable import FakeIterable
from tests.fake_iterable.limits import Others
from tests.unit.clients import VirtualTime

ROOT = Path(__file__).resolve().parent.parent
AS_OF = datetime(2026, 1, 13, 12)
API_KEY = "test-api-key"  # what the stand-in expects
LATENCY = "--latency=0.05"  # seconds: a realistic way to Iterable's data centre and back
LIFTED = {"SEND_MODE": "bulk", "RATE_LIMIT_FACTOR": "1000"}
THREADS = 64  # main.py's default in single mode
ENVIRONMENT = {
    name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ
}  # no settings

Values = Mapping[str, float]

# --- The limits that others share -----------------------------------------------------------------


@dataclass(frozen=True)
class Shared:
    """A run beside others, who use a share of each limit all the time or in waves.

    The user updates bound it: their limit is the lower one, and each row has one and an event.
    """

    mode: str  # of main.py: bulk or single
    others: float  # their share
    wave: float  # the period in seconds, of which they send in the second half; 0: all the time

    @property
    def name(self) -> str:
        """For --only, and the key of its figures."""
        return f"{self.mode}-{self.others * 100:.0f}{'-waves' * bool(self.wave)}"

    @property
    def is_virtual(self) -> bool:
        """Whether the client alone runs, in virtual time: else it would take many minutes."""
        return self.mode == "bulk" and self.others > 0.8

    @property
    def what(self) -> str:
        """Its description in the table; its size is still to be put in."""
        waves = f" in waves of {self.wave} s" if self.wave else ""
        unit = "requests in virtual time" if self.is_virtual else "rows"
        size = f"{{{self.name}:,}} {unit}"
        return f"{self.mode}, others use {self.others:.0%}{waves}, {size}: of what they leave"

    def available(self, seconds: float) -> float:
        """How many requests the others leave in that time.

        The bucket, a second's worth, is full at the start: without it, a short run would seem to
        use more than there is. A wave's first half begins with the run, a second or so after the
        stand-in's own.
        """
        limit = (USERS_BULK_UPDATE if self.mode == "bulk" else USERS_UPDATE).per_second
        stretches = Others(self.others, self.wave).stretches(0, 0, seconds)
        return limit * (1 + sum(length * (1 - theirs) for length, theirs in stretches))


VIRTUAL_REQUESTS = 100
SHARES = (0.5, 0.8, 0.9, 0.95)
SHARED = [
    Shared(mode, others, wave) for wave, mode, others in product((0, 5), ("bulk", "single"), SHARES)
]


def shared_sizes(requests: int, seconds: int) -> dict[str, int]:
    """Rows by name: in bulk so many requests of them, singly what is sent in such a time.

    What runs in virtual time counts requests, and is never shortened.
    """
    sizes = {}
    for case in SHARED:
        rows = requests * BULK_ITEMS if case.mode == "bulk" else round(case.available(seconds))
        sizes[case.name] = VIRTUAL_REQUESTS if case.is_virtual else rows
    return sizes


# --- The figures and their targets ----------------------------------------------------------------


def single_target(values: Values) -> float:
    """The target of single calls: 400 rows/s, or 1.4 times what plain requests reaches, if less."""
    return min(400.0, 1.4 * values["plain"])


@dataclass(frozen=True)
class Figure:
    """A value's key, what it is, how to show it, its target, and what counts of runs.

    Figures in sequence that are the same `what` share a line of the table.
    """

    key: str
    what: str
    form: str
    at_least: float | Callable[[Values], float] | None = None
    at_most: float | None = None
    of_runs: Callable[[Sequence[float]], float] = median

    def line(self, values: Values) -> tuple[str, str, bool]:
        """The value and the target as text, and whether the one meets the other."""
        return self.form.format(values[self.key]), *self.target(values)

    def target(self, values: Values) -> tuple[str, bool]:
        """The target as text, "" without one, and whether the value meets it."""
        if self.at_most is not None:
            return f"≤ {self.form.format(self.at_most)}", values[self.key] <= self.at_most
        if self.at_least is not None:
            least = self.at_least(values) if callable(self.at_least) else self.at_least
            return f"≥ {self.form.format(least)}", values[self.key] >= least
        return "", True


RATE, MEMORY, COUNT, TIMES = "{:,.0f} rows/s", "{:.1f} MiB", "{:,.0f}", "{:.2f} times"
STRAY = "the same: calls answered 429, and rows not stored exactly once, in any run"
FIGURES = [
    Figure(
        "bulk",
        "bulk, limits enforced, 50 ms latency, {bulk:,} rows: while sending",
        RATE,
        at_least=4700,
    ),
    Figure("bulk stray", STRAY, COUNT, at_most=0, of_runs=max),
    Figure(
        "lifted",
        "bulk, limits lifted, no latency, {lifted:,} rows: whole run",
        RATE,
        at_least=12_000,
    ),
    Figure("lifted cpu", "the same: CPU time of main.py a row", "{:.1f} µs"),
    Figure("lifted stray", STRAY, COUNT, at_most=0, of_runs=max),
    Figure(
        "unchanged",
        "`--only-changes`, {changes:,} rows, limits enforced: "
        "a run without changes against the first",
        "{:.2f} of its time",
        at_most=0.3,
    ),
    Figure("changes stray", STRAY, COUNT, at_most=0, of_runs=max),
    Figure(
        "single",
        "single, limits enforced, 50 ms latency, {single:,} rows: while sending",
        RATE,
        single_target,
    ),
    Figure("single stray", STRAY, COUNT, at_most=0, of_runs=max),
    Figure(
        "plain",
        f"plain `Session.post` in {THREADS} threads; 1.4 times this, or 400, is the target above",
        RATE,
    ),
    Figure("sequential", "one plain `Session.post` after the other, 50 ms latency", RATE),
    Figure("bulk ratio", "bulk against that", "{:,.0f} times"),
    Figure("single ratio", "single against that", "{:,.0f} times"),
    Figure("few", "peak memory, {few:,} rows", MEMORY, at_most=80),
    Figure("many", "peak memory, {many:,} rows (one run)", MEMORY, at_most=80),
    Figure("growth", "difference of these two", MEMORY, at_most=15),
]


def shared_figures(case: Shared) -> list[Figure]:
    """The figures of a run beside others; in waves the pace is nobody's promise."""
    used = Figure(f"{case.name} used", case.what, "{:.0%} used", 0.85)
    refused = Figure(f"{case.name} 429", case.what, "{:.1%} of requests answered 429", at_most=0.1)
    failed = Figure(f"{case.name} failed", case.what, "{:,.0f} rows failed", None, 0, max)
    if case.wave:
        used, refused = replace(used, at_least=None), replace(refused, at_most=None)
    return [used, refused, failed]


for _case in SHARED:
    FIGURES += shared_figures(_case)

Sizes = Mapping[str, int]  # how many rows each measurement takes
FULL = {
    "bulk": 50_000,
    "lifted": 200_000,
    "changes": 100_000,
    "single": 5_000,
    "plain": 2_500,
    "sequential": 100,
    "few": 10_000,
    "many": 1_000_000,
    **shared_sizes(requests=100, seconds=30),
}
QUICK = {
    "bulk": 20_000,
    "lifted": 50_000,
    "changes": 20_000,
    "single": 1_500,
    "plain": 750,
    "sequential": 20,
    "few": 10_000,
    "many": 100_000,
    **shared_sizes(requests=15, seconds=5),
}

# --- The database ---------------------------------------------------------------------------------

PEOPLE = [  # one in four beyond ASCII
    ("Amara", "Okafor"),
    ("Sofía", "Núñez"),
    ("Priya", "Raman"),
    ("Liam", "O'Brien"),
    ("Hana", "Sato"),
    ("Łukasz", "Wiśniewski"),
    ("Alexandra", "Montgomery"),
    ("Noah", "Goldberg"),
]
DEVICES = [
    ("desktop", "Chrome"),
    ("mobile", "Safari"),
    ("desktop", "Firefox"),
    ("mobile", "Samsung Internet"),
]
LOCATIONS = [
    "Lagos, NG",
    "Madrid, ES",
    "San Francisco, US",
    "Dublin, IE",
    "Zürich, CH",
    "Singapore, SG",
    None,
]


def make_database(path: Path, rows: int) -> None:
    """Makes a database of so many pro customers, each with one to three views and one row."""
    tables = (
        (ROOT / "tests" / "sample_data.sql").read_text(encoding="utf-8").partition("INSERT INTO")[0]
    )
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {tables}")
        connection.executemany(
            "INSERT INTO customers VALUES (?, ?, ?, ?, 'pro', ?)", _customers(rows)
        )
        connection.executemany("INSERT INTO page_views VALUES (?, ?, ?, ?, ?, ?, ?)", _views(rows))
        # The index of the join. One on the time alone would mislead SQLite here, where the window
        # holds every view.
        connection.execute("CREATE INDEX page_views_of_user ON page_views (user_id, event_time)")
        connection.commit()


def _customers(rows: int) -> Iterator[tuple[Any, ...]]:
    for n in range(1, rows + 1):
        yield (
            n,
            f"customer.{n:07d}@mail.example.com",
            *PEOPLE[n % 8],
            f"candidate-{n % 97}" if n % 5 else None,
        )


def _views(rows: int) -> Iterator[tuple[Any, ...]]:
    places = (n for n in range(1, rows + 1) for _ in range(n % 3 + 1))
    for number, n in enumerate(places, 1):
        moment = AS_OF - timedelta(seconds=number * 7919 % 604_000)
        page = "pricing" if number % 2 else "settings"
        yield number, n, page, *DEVICES[n % 4], LOCATIONS[number % 7], moment.isoformat(" ")


# --- The two processes ----------------------------------------------------------------------------


@contextlib.contextmanager
def stand_in(*options: str) -> Iterator[str]:
    """The URL of the stand-in for Iterable, a process that ends with the block or with this one."""
    command = [sys.executable, "-m", "tests.fake_iterable", "--exit-with-parent", *options]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=ROOT, env=ENVIRONMENT, stdin=pipe, stdout=pipe, text=True
    ) as process:
        try:
            yield process.stdout.readline().split()[-1] if process.stdout else ""
        finally:
            process.terminate()


@dataclass(frozen=True)
class Run:
    """What one run of main.py took, and what the server says of it."""

    seconds: float  # from the start of the process to its end
    sending: float  # seconds, of those
    cpu: float  # seconds
    peak: float  # MiB
    stray: int  # calls answered 429, and by how many it is off one user and one event a row
    refused: float  # share of the requests that were answered 429
    failed: int  # rows


def run_main(
    directory: Path,
    rows: int,
    server: Sequence[str],
    settings: Mapping[str, str],
    forget: bool = False,
    may_fail: bool = False,
    runs: int = 1,
) -> list[Run]:
    """Runs main.py on `rows` rows, `runs` times, in one output directory and against one stand-in.

    Ends the benchmark unless each results file says that every row was delivered, then or before;
    with `may_fail`, unless there is one. With `forget`, the stand-in is reset every second: it
    keeps 1.4 KB a row. Its counts then mean nothing.
    """
    database = directory / f"{rows}.db"
    if not database.exists():
        make_database(database, rows)
    with tempfile.TemporaryDirectory(dir=directory) as output, stand_in(*server) as url:
        env_file = Path(output, "benchmark.env")
        settings = {
            **settings,
            "DATABASE_URL": f"sqlite:///{database}",
            "OUTPUT_DIR": output,
            "ITERABLE_API_KEY": API_KEY,
            "ITERABLE_API_BASE_URL": url,
        }
        env_file.write_text("".join(f"{name}='{value}'\n" for name, value in settings.items()))
        return [_run_once(env_file, url, rows, forget, may_fail) for _ in range(runs)]


def _run_once(env_file: Path, url: str, rows: int, forget: bool, may_fail: bool) -> Run:
    output, log_file = env_file.parent, env_file.with_name("iterable_integration.log")
    command = [
        sys.executable,
        str(ROOT / "main.py"),
        "--env-file",
        str(env_file),
        "--as-of",
        str(AS_OF),
        "--quiet",
    ]
    began = time.perf_counter()
    with subprocess.Popen(command, cwd=output, env=ENVIRONMENT) as process:
        usage = _wait(process, url if forget else None)
        seconds = time.perf_counter() - began
    # the latest, by its name
    results = max(output.glob("integration_results_*.json"), default=None)
    failed = failed_rows(results, rows) if results else rows
    if not results or ((process.returncode or failed) and not may_fail):
        raise SystemExit(
            f"main.py did not deliver every row; its log ends:\n{log_file.read_text()[-2000:]}"
        )
    stray, refused = _ask(url, rows)
    # Linux counts KiB, macOS bytes; on Linux a child begins with its parent's peak, so this
    # process stays small
    peak = usage.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    sending = sending_seconds(log_file.read_text(), rows)
    cpu = usage.ru_utime + usage.ru_stime
    return Run(seconds, sending, cpu, peak, stray, refused, failed)


def _ask(url: str, rows: int) -> tuple[int, float]:
    """Run.stray and Run.refused, by the counts of the stand-in."""
    counts = requests.get(f"{url}/_stand_in/counts", timeout=60).json()
    refused = sum(times for name, times in counts["requests"].items() if name.endswith(" 429"))
    stray = sum(abs(counts[stored] - rows) for stored in ("users", "events", "event_writes"))
    return refused + stray, refused / max(1, sum(counts["requests"].values()))


def _wait(process: subprocess.Popen[bytes], url: str | None) -> Any:
    """Waits for the child, and returns its resource usage, which Popen does not tell.

    Meanwhile it resets the stand-in at `url` once a second, where there is one.
    """
    polls = 0
    try:
        while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
            time.sleep(0.005)
            polls += 1
            if url and polls % 200 == 0:
                requests.post(f"{url}/_stand_in/reset", timeout=60)
    except BaseException:
        process.kill()
        raise
    process.returncode = os.waitstatus_to_exitcode(ended[1])
    return ended[2]


def sending_seconds(log: str, rows: int) -> float:
    """From the last line of the log that ends a query ("50000 rows") to the last of all.

    By then both files are written and synced, too: the rate while sending is a little better than
    what this gives.
    """
    lines = log.splitlines()
    both = next(line for line in reversed(lines) if line.endswith(f" {rows} rows")), lines[-1]
    first, last = (datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f") for line in both)
    return (last - first).total_seconds()


def failed_rows(path: Path, rows: int) -> int:
    """How many rows were not delivered, by a results file's summary or by its records.

    It is read line by line, for its size; each record and all the rest must be valid JSON.
    """
    with open(path, encoding="utf-8") as file:
        head = ""
        while not head.endswith('"records": [\n'):
            head += next(file)
        delivered = latest = 0
        is_last = False
        while not is_last:
            line = next(file)
            is_last = not line.endswith(",\n")
            record = json.loads(line.removesuffix(",\n"))
            if record["overall_success"] and latest < record["row"] <= rows:
                delivered += 1
            latest = record["row"]
        summary = json.loads(head + file.read())
    counted = summary["successful"] + summary["unchanged"]
    return int(max(rows, summary["total_users"]) - min(delivered, counted))


# --- The measurements -----------------------------------------------------------------------------


def measure_bulk(directory: Path, sizes: Sizes, number: int) -> Values:
    """Bulk operations against enforced limits."""
    [run] = run_main(directory, sizes["bulk"], [LATENCY], {"SEND_MODE": "bulk"})
    return {"bulk": sizes["bulk"] / run.sending, "bulk stray": run.stray}


def measure_lifted(directory: Path, sizes: Sizes, number: int) -> Values:
    """Bulk operations with nothing to wait for: what the program itself costs."""
    rows = sizes["lifted"]
    [run] = run_main(directory, rows, ["--no-limits"], LIFTED)
    return {
        "lifted": rows / run.seconds,
        "lifted cpu": run.cpu / rows * 1e6,
        "lifted stray": run.stray,
    }


def measure_changes(directory: Path, sizes: Sizes, number: int) -> Values:
    """Two runs with --only-changes, the second of which has nothing to send."""
    settings = {"SEND_ONLY_CHANGES": "true", "SEND_MODE": "bulk"}
    first, second = run_main(directory, sizes["changes"], [LATENCY], settings, runs=2)
    return {"unchanged": second.seconds / first.seconds, "changes stray": second.stray}


def measure_single(directory: Path, sizes: Sizes, number: int) -> Values:
    """Single operations, and plain requests in as many threads of this process."""
    [run] = run_main(directory, sizes["single"], [LATENCY], {"SEND_MODE": "single"})
    rate = sizes["single"] / run.sending
    return {"single": rate, "single stray": run.stray, "plain": plain_rate(THREADS, sizes["plain"])}


def measure_sequential(directory: Path, sizes: Sizes, number: int) -> Values:
    """The loop that one would write first."""
    return {"sequential": plain_rate(1, sizes["sequential"])}


def plain_rate(threads: int, rows: int) -> float:
    """Rows per second of plain requests: one session, with connections for all threads."""
    with (
        stand_in(LATENCY) as url,
        requests.Session() as session,
        ThreadPoolExecutor(threads) as pool,
    ):
        session.headers["Api-Key"] = API_KEY
        session.mount("http://", HTTPAdapter(pool_maxsize=THREADS))
        began = time.perf_counter()
        list(pool.map(partial(_post_row, session, url), range(rows)))
        return rows / (time.perf_counter() - began)


def _post_row(session: requests.Session, url: str, number: int) -> None:
    user = {"email": f"customer.{number:07d}@mail.example.com"}
    seen = {
        "page": "pricing",
        "device": "desktop",
        "browser": "Chrome",
        "location": "Lagos, NG",
        "candidate": None,
    }
    for operation, payload in (
        (
            "users/update",
            {"dataFields": {"first_name": "Amara", "last_name": "Okafor", "plan_type": "pro"}},
        ),
        (
            "events/track",
            {
                "eventName": "page_view",
                "id": f"b{number}",
                "createdAt": 1768293912,
                "dataFields": seen,
            },
        ),
    ):
        session.post(
            f"{url}/api/{operation}", json={**user, **payload}, timeout=30
        ).raise_for_status()


def measure_memory(directory: Path, sizes: Sizes, number: int) -> Values:
    """Peak memory with few rows and, in the first run, with many: they take more than a minute."""
    names = ("few",) if number else ("few", "many")
    return {
        name: run_main(directory, sizes[name], ["--no-limits"], LIFTED, forget=True)[0].peak
        for name in names
    }


def measure_shared(case: Shared, directory: Path, sizes: Sizes, number: int) -> Values:
    """A run beside others; but once: each takes up to two minutes, most of them waiting."""
    if number:
        return {}
    measure_case = measure_virtual if case.is_virtual else measure_real
    seconds, requests, refused, failed = measure_case(case, directory, sizes[case.name])
    used = requests / case.available(seconds)
    return {f"{case.name} used": used, f"{case.name} 429": refused, f"{case.name} failed": failed}


Beside = tuple[float, float, float, int]  # seconds, requests that succeeded, share of 429, failed


def measure_real(case: Shared, directory: Path, rows: int) -> Beside:
    """main.py beside others."""
    others = [LATENCY, f"--others={case.others}", f"--wave={case.wave}"]
    [run] = run_main(directory, rows, others, {"SEND_MODE": case.mode}, may_fail=True)
    delivered = rows - run.failed
    requests = delivered / BULK_ITEMS if case.mode == "bulk" else delivered
    return run.sending, requests, run.refused, run.failed


def measure_virtual(case: Shared, directory: Path, requests: int) -> Beside:
    """The client beside others, in virtual time: user updates, one request after the other."""
    clock = VirtualTime()
    began = clock.now()
    failed = 0
    with FakeIterable(others=case.others, wave=case.wave, clock=clock.now) as server:
        client = IterableClient(API_KEY, base_url=server.url, give_up_after=20, stop=clock)
        for number in range(requests):
            user = user_update("email", f"customer.{number}@mail.example.com", {"n": number})
            delivery = client.send(USERS_BULK_UPDATE, [user])
            failed += not delivery.outcomes[0].is_success
    refused = client.counts["rate_limited"] / client.counts["sent"]
    return clock.now() - began, requests - failed, refused, failed


ROWS: dict[str, Callable[[Path, Sizes, int], Values]] = {
    "bulk": measure_bulk,
    "lifted": measure_lifted,
    "changes": measure_changes,
    "single": measure_single,
    "sequential": measure_sequential,
    "memory": measure_memory,
    **{case.name: partial(measure_shared, case) for case in SHARED},
}

# --- The table ------------------------------------------------------------------------------------


def measure(names: Sequence[str], runs: int, sizes: Sizes) -> Values:
    """The values of all figures of these rows.

    The runs of a row lie apart: one busy minute does not spoil them all.
    """
    samples: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="iterable_benchmark_") as directory:
        for number in range(runs):
            for name in names:
                found = ROWS[name](Path(directory), sizes, number)
                if not found:
                    continue
                for key, value in found.items():
                    samples.setdefault(key, []).append(value)
                shown = ", ".join(f"{key} {value:,.2f}" for key, value in found.items())
                print(f"run {number + 1} of {runs}: {shown}", file=sys.stderr)
    values = {
        figure.key: figure.of_runs(samples[figure.key])
        for figure in FIGURES
        if figure.key in samples
    }
    if "many" in values:
        values["growth"] = abs(values["many"] - values["few"])
    if "sequential" in values:
        for mode in {"bulk", "single"} & values.keys():
            values[f"{mode} ratio"] = values[mode] / values["sequential"]
    return values


def print_table(values: Values, runs: int, sizes: Sizes) -> bool:
    """Prints the table; returns whether every target is met."""
    load = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    print(
        f"{os.cpu_count()} cores, which main.py and the stand-in, two processes, share; "
        f"load average {load};"
    )
    print(
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()}; "
        f"median of {runs} runs; beside others, one run.\n"
    )
    print("| what | figure | target | met |\n| --- | --- | --- | --- |")
    all_met = True
    measured = [figure for figure in FIGURES if figure.key in values]
    for what, figures in groupby(measured, lambda figure: figure.what.format(**sizes)):
        shown, targets, are_met = zip(*(figure.line(values) for figure in figures), strict=True)
        target = ", ".join(filter(None, targets))
        verdict = "yes" if all(are_met) else "**no**"
        print(f"| {what} | {', '.join(shown)} | {target} | {verdict if target else ''} |")
        all_met &= all(are_met)
    return all_met


def main() -> int:
    """Measures, prints, and returns 1 where a target is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmark", description="Measures speed and memory."
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer rows, one run: to try it out, not to judge by"
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=ROWS,
        metavar="ROW",
        help=f"measure only this; repeatable. One of {', '.join(ROWS)}",
    )
    parser.add_argument("--runs", type=int, metavar="N", help="default 3")
    args = parser.parse_args()
    os.umask(0o077)  # main.py warns of an env file that others can read
    signal.signal(
        signal.SIGTERM, lambda signum, _: sys.exit(128 + signum)
    )  # so that what was made is removed
    for name in [name for name in os.environ if "PROXY" in name.upper()]:
        del os.environ[name]  # plain requests would heed it
    sizes, runs = (QUICK, args.runs or 1) if args.quick else (FULL, args.runs or 3)
    values = measure([name for name in ROWS if name in (args.only or ROWS)], runs, sizes)
    return 0 if print_table(values, runs, sizes) else 1


if __name__ == "__main__":
    sys.exit(main())

"""What all tests share: an environment without our settings, and main.py as a process."""

from __future__ import annotations

import csv
import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
import requests
import responses

from iterable_client import IterableClient
from main import Settings
from tests.demo import AS_OF as AS_OF  # for the tests that use the fixtures here
from tests.demo import load_sample_data
from tests.fake_iterable import FakeIterable

ROOT = Path(__file__).resolve().parent.parent
KEY, HOST = "test-api-key", "https://api.iterable.com"
FOREIGN = (
    "PROXY",
    "CA_BUNDLE",
    "NETRC",
    "SSL_CERT",
)  # parts of names of variables that requests heeds


@pytest.fixture(scope="session", autouse=True)
def bare_environment() -> Iterator[None]:
    """No test can reach production: no setting of ours and no proxy comes from outside."""
    ours = {setting.name.upper() for setting in fields(Settings)}
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in list(os.environ):
            if name in ours or any(part in name.upper() for part in FOREIGN):
                monkeypatch.delenv(name)
        yield


@pytest.fixture
def server() -> Iterator[FakeIterable]:
    """The stand-in for Iterable, without latency, enforcing its limits."""
    with FakeIterable(api_key=KEY) as server:
        yield server


@pytest.fixture
def session() -> Iterator[requests.Session]:
    """For requests to a stand-in whose API key is "key"."""
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Api-Key"] = "key"
        yield session


def outputs(directory: Path) -> list[str]:
    """The names of the results and CSV files in a directory, unfinished ones, too."""
    return sorted(path.name for path in directory.iterdir() if "_results_" in path.name)


def check_counts(results: dict[str, Any], rows: int) -> None:
    """Every row and every failed call is counted once; a row has one record unless not sent."""
    kinds = ("successful", "partial_failures", "total_failures", "unchanged", "not_sent")
    assert results["total_users"] == sum(results[kind] for kind in kinds) == rows
    assert len(results["records"]) == rows - results["not_sent"]
    assert len({record["row"] for record in results["records"]}) == len(results["records"])
    calls = [
        record[name] for record in results["records"] for name in ("users_update", "events_track")
    ]
    failed = Counter(call["response"]["code"] for call in calls if call and not call["success"])
    assert results["failure_reasons"] == failed


@dataclass
class Finished:
    """A run of main.py that has ended, and what it left behind."""

    code: int
    out: str
    err: str
    directory: Path

    @property
    def results(self) -> dict[str, Any]:
        """The one results file, or the newest."""
        found: dict[str, Any] = json.loads(self.results_text)
        return found

    @property
    def results_text(self) -> str:
        """The text of it."""
        return self._newest("integration_results_*.json").read_text(encoding="utf-8")

    @property
    def rows(self) -> list[list[str]]:
        """The lines of the newest CSV, the header first."""
        with open(self._newest("query_results_*.csv"), encoding="utf-8", newline="") as file:
            return list(csv.reader(file))

    @property
    def log(self) -> str:
        """The log."""
        return (self.directory / "iterable_integration.log").read_text(encoding="utf-8")

    def _newest(self, pattern: str) -> Path:
        return max(
            self.directory.glob(pattern), key=lambda path: (path.stat().st_mtime_ns, path.name)
        )


@dataclass
class Project:
    """A directory with a database and settings, in which main.py is run as a process."""

    directory: Path
    settings: dict[str, str]
    program: Path = ROOT / "main.py"

    @property
    def database(self) -> Path:
        """The SQLite database."""
        return self.directory / "app.db"

    @property
    def output(self) -> Path:
        """The output directory."""
        return self.directory / "out"

    def command(self, *args: str, **settings: str) -> tuple[list[str], dict[str, str]]:
        """The command line and environment of a run; settings that are not empty go into a file."""
        env_file = self.directory / "test.env"
        lines = [
            f"{name}='{value}'\n" for name, value in {**self.settings, **settings}.items() if value
        ]
        env_file.write_text("".join(lines), encoding="utf-8")
        env_file.chmod(0o600)  # it holds a key
        return [sys.executable, str(self.program), "--env-file", str(env_file), *args], dict(
            os.environ
        )

    def start(self, *args: str, **settings: str) -> subprocess.Popen[str]:
        """Starts a run and returns its process."""
        command, env = self.command(*args, **settings)
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, env=env, cwd=self.directory, stdout=pipe, stderr=pipe, text=True
        )

    def finish(self, process: subprocess.Popen[str]) -> Finished:
        """Waits for a run; a traceback is a bug, whatever the test is about."""
        out, err = process.communicate(timeout=120)
        assert "Traceback" not in err, err
        return Finished(process.returncode, out, err, self.output)

    def run(self, *args: str, **settings: str) -> Finished:
        """Runs main.py with the sample data's as-of and returns what it did."""
        as_of = () if "--as-of" in args or "--demo" in args else ("--as-of", AS_OF)
        return self.finish(self.start(*args, *as_of, **settings))

    def sql(self, script: str) -> None:
        """Changes the database."""
        with sqlite3.connect(self.database) as connection:
            connection.executescript(script)
        connection.close()

    def add_customers(self, count: int) -> None:
        """Makes more rows for the default query: user101@example.com and so on."""
        self.sql(f"""
            WITH RECURSIVE n(i) AS (
                SELECT 101 UNION ALL SELECT i + 1 FROM n WHERE i < {100 + count}
            )
            INSERT INTO customers
            SELECT i, 'user' || i || '@example.com', NULL, NULL, 'pro', NULL FROM n;
            INSERT INTO page_views
            SELECT id, id, 'pricing', NULL, NULL, NULL, '2026-01-10 10:00:00'
            FROM customers WHERE id > 100""")  # noqa: S608

    def queries(self, text: str) -> None:
        """Makes this the queries file."""
        path = self.directory / "queries.sql"
        path.write_text(text, encoding="utf-8")
        self.settings["QUERIES_FILE"] = str(path)


def new_project(directory: Path, server: FakeIterable | None) -> Project:
    """A project on the sample data, in an empty directory, that sends to a server."""
    load_sample_data(directory / "app.db")
    settings = {
        "DATABASE_URL": f"sqlite:///{directory}/app.db",
        "OUTPUT_DIR": str(directory / "out"),
        "ITERABLE_API_KEY": KEY,
        "INITIAL_BACKOFF": "0.01",
        "ITERABLE_API_BASE_URL": server.url if server else "http://127.0.0.1:9",
    }
    (directory / "out").mkdir()
    return Project(directory, settings)


@pytest.fixture
def make_project(tmp_path: Path) -> Callable[[FakeIterable | None], Project]:
    """Makes a project on the sample data that sends to a server."""
    return lambda server: new_project(tmp_path, server)


@pytest.fixture
def project(
    make_project: Callable[[FakeIterable | None], Project], server: FakeIterable
) -> Project:
    """A project on the sample data that sends to `server`."""
    return make_project(server)


# A client of ours, without a process


class VirtualTime(threading.Event):
    """A stop event whose waits are written down and move a clock on, but take no time."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.waits = 1_768_293_912.0, list[float]()

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.waits.append(timeout)
        self.now += 0 if self.is_set() else timeout
        return self.is_set()

    def clock(self) -> float:
        return self.now


@pytest.fixture
def time() -> VirtualTime:
    """The time of a client that `connect` makes."""
    return VirtualTime()


Connect = Callable[..., IterableClient]
Mock = responses.RequestsMock


@pytest.fixture
def connect(time: VirtualTime) -> Connect:
    """connect(server, ...): a client in virtual time."""

    def connect(server: FakeIterable | None = None, **settings: Any) -> IterableClient:
        client = IterableClient(KEY, base_url=server.url if server else HOST, **settings)
        client._stop = time
        for pacer in client._pacers.values():
            pacer._stop, pacer._clock = time, time.clock
        return client

    return connect


@pytest.fixture
def http() -> Iterator[Mock]:
    """Answers of the tests' own, without a server."""
    with Mock(assert_all_requests_are_fired=False) as mock:
        yield mock

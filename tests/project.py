"""main.py as a process: a directory with a database and settings, its runs, what they leave."""

from __future__ import annotations

import csv
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.demo import AS_OF as AS_OF  # for whoever starts a run
from tests.demo import load_sample_data
from tests.fake_iterable import FakeIterable

ROOT = Path(__file__).resolve().parents[1]
KEY = "test-api-key"
SECRET = "SECRET-9f8e7d6c5b4a39281706f5e4d3c2b1a0-SECRET"
JWT = {"USE_JWT_AUTH": "true", "ITERABLE_JWT_SECRET": SECRET}
CALL_KEYS = (["success", "status", "response"], ["success", "skipped"])
ROW_KINDS = ("successful", "partial_failures", "total_failures", "unchanged", "not_sent")

Json = dict[str, Any]


@dataclass
class Finished:
    """A run of main.py that has ended, and what it left behind."""

    code: int
    out: str
    err: str
    directory: Path

    @property
    def screen(self) -> str:
        """What was printed, without the breaks between lines."""
        return " ".join((self.out + self.err).split())

    @property
    def results(self) -> Json:
        """The one results file, or the newest."""
        found: Json = json.loads(self.results_text)
        return found

    def results_of(self, query: str) -> Json:
        """The newest results file of a query, of those that are named after it."""
        path = self._newest(f"integration_results_*_{query}.json")
        found: Json = json.loads(path.read_text(encoding="utf-8"))
        return found

    @property
    def results_text(self) -> str:
        """The text of it."""
        return self._newest("integration_results_*.json").read_text(encoding="utf-8")

    @property
    def counts(self) -> list[int]:
        """How many rows there are of each of ROW_KINDS."""
        results = self.results
        counts = [results[kind] for kind in ROW_KINDS]
        assert sum(counts) == results["total_users"] == len(self.rows) - 1
        return counts

    @property
    def rows(self) -> list[list[str]]:
        """The lines of the newest CSV, the header first."""
        path = self._newest("query_results_*.csv")
        with open(path, encoding="utf-8", newline="") as file:
            return list(csv.reader(file))

    @property
    def log(self) -> str:
        """The log."""
        return (self.directory / "iterable_integration.log").read_text(encoding="utf-8")

    def _newest(self, pattern: str) -> Path:
        paths = self.directory.glob(pattern)
        return max(paths, key=lambda path: (path.stat().st_mtime_ns, path.name))


@dataclass
class Project:
    """A directory with a database and settings, in which main.py is run as a process."""

    directory: Path
    settings: dict[str, str]
    program: Path = ROOT / "main.py"
    as_of: str | None = AS_OF  # where no argument says it; None: now

    @property
    def database(self) -> Path:
        """The SQLite database."""
        return self.directory / "app.db"

    @property
    def output(self) -> Path:
        """The output directory."""
        return self.directory / "out"

    @property
    def log(self) -> Path:
        """The log, which a run makes early."""
        return self.output / "iterable_integration.log"

    @property
    def env_file(self) -> Path:
        """The file that holds the settings of the last run."""
        return self.directory / "test.env"

    def command(self, *args: str, **settings: str) -> tuple[list[str], dict[str, str]]:
        """The command line and environment of a run.

        The settings go into the env file, an empty one is left out. The window ends at `as_of`
        unless the arguments say otherwise.
        """
        merged = {**self.settings, **settings}
        lines = [f"{name}='{value}'\n" for name, value in merged.items() if value]
        self.env_file.write_text("".join(lines), encoding="utf-8")
        self.env_file.chmod(0o600)  # it holds a key
        as_of = []
        if self.as_of and "--as-of" not in args:
            as_of = ["--as-of", self.as_of]
        command = [sys.executable, str(self.program), "--env-file", str(self.env_file)]
        return [*command, *args, *as_of], dict(os.environ)

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
        """Runs main.py and returns what it did."""
        return self.finish(self.start(*args, **settings))

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


MakeProject = Callable[[FakeIterable | None], Project]


def new_project(directory: Path, server: FakeIterable | None) -> Project:
    """A project on the sample data, in a new or empty directory, that sends to a server."""
    directory.mkdir(exist_ok=True)
    (directory / "out").mkdir()
    load_sample_data(directory / "app.db")
    settings = {
        "DATABASE_URL": f"sqlite:///{directory}/app.db",
        "OUTPUT_DIR": str(directory / "out"),
        "ITERABLE_API_KEY": KEY,
        "INITIAL_BACKOFF": "0.01",
        "ITERABLE_API_BASE_URL": server.url if server else "http://127.0.0.1:9",
    }
    return Project(directory, settings)


def outputs(directory: Path) -> list[str]:
    """The names of the results and CSV files in a directory, unfinished ones, too."""
    return sorted(path.name for path in directory.iterdir() if "_results_" in path.name)


def calls_of(record: Json) -> list[Json]:
    """What became of the calls of a record, of those that its query defines."""
    return [call for call in (record["users_update"], record["events_track"]) if call]


def check_counts(results: Json, rows: int) -> None:
    """Every row and every failed call is counted once; a row has one record, unless not sent."""
    records = results["records"]
    assert results["total_users"] == sum(results[kind] for kind in ROW_KINDS) == rows
    assert len(records) == rows - results["not_sent"]
    assert len({record["row"] for record in records}) == len(records)
    failed: Counter[str] = Counter()
    for record in records:
        assert all(list(call) in CALL_KEYS for call in calls_of(record))
        failed.update(call["response"]["code"] for call in calls_of(record) if not call["success"])
    assert results["failure_reasons"] == failed


def wait_until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Waits for a condition on a process that is still running."""
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)

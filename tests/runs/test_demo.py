"""`python main.py --demo`, as somebody runs it who has just cloned this."""

from __future__ import annotations

import os
import re
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from db import Ledger
from tests.project import JWT, ROOT, Finished, check_counts, outputs
from tests.runs.sample import CELLS, COLUMNS, REPORTS

FOREIGN = {
    **JWT,
    "DATABASE_URL": "sqlite:///none.db",
    "QUERIES_FILE": "none.sql",
    "QUERY": "none",
    "WORKERS": "0",
    "ITERABLE_API_KEY": "another",
    "ITERABLE_API_BASE_URL": "http://127.0.0.1:9",
    "DATABASE_TIMEZONE": "Mars",
    "OUTPUT_DIR": "/none",
    "LOG_FILE": "/none/log",
}
PROXIES = {"HTTP_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "http://127.0.0.1:9"}
PLACES = ["in an empty directory", "among settings of something else"]


@pytest.fixture(scope="module", params=PLACES)
def demo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The demo, which has ended."""
    directory = tmp_path_factory.mktemp("demo")
    env = dict(os.environ)
    if "settings" in request.param:
        lines = [f"{name}={value}\n" for name, value in FOREIGN.items()]
        (directory / ".env").write_text("".join(lines))
        env |= {**FOREIGN, **PROXIES}
    command = [sys.executable, str(ROOT / "main.py"), "--demo"]
    done = subprocess.run(
        command, cwd=directory, env=env, capture_output=True, text=True, umask=0, check=False
    )
    (directory / ".env").unlink(missing_ok=True)
    return Finished(done.returncode, done.stdout, done.stderr, directory)


def test_the_demo_delivers_the_sample_data_whatever_is_set(demo: Finished) -> None:
    assert (demo.code, demo.err) == (0, "")
    assert demo.rows == [COLUMNS, *CELLS]
    assert demo.results["successful"] == 5
    assert demo.results["reports"] == REPORTS
    check_counts(demo.results, 5)


TOLD = [
    r"\bcompleted\b",
    r"\b5, all delivered\b",
    "engagement_by_page",
    r"pricing +5 +3\n",
    r"settings +5 +5\n",
]


def test_the_demo_prints_summary_report_and_where_its_files_are(demo: Finished) -> None:
    results, table = outputs(demo.directory)
    assert re.fullmatch(r"integration_results_\d{8}_\d{6}\.json", results)
    assert re.fullmatch(r"query_results_\d{8}_\d{6}\.csv", table)
    for name in (results, table):
        path = re.escape(str(demo.directory / name))
        assert re.search(rf"\s{path}$", demo.out, re.MULTILINE)
    for text in TOLD:
        assert re.search(text, demo.out), text


def test_the_demo_leaves_private_files_and_no_process_behind(demo: Finished) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in demo.directory.iterdir()}
    assert len(modes) == 4, "CSV, results, log and lock"
    assert set(modes.values()) == {0o600}
    host, port = demo.results["run"]["base_url"].removeprefix("http://").split(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)))


def test_the_demo_leaves_a_ledger_that_is_there_alone(tmp_path: Path) -> None:
    path = tmp_path / "delivery_ledger.sqlite3"
    Ledger(path, "somebody's").close()
    before = path.read_bytes()
    command = [sys.executable, str(ROOT / "main.py"), "--demo"]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    assert path.read_bytes() == before
    assert [name.name for name in tmp_path.glob("delivery*")] == [path.name]

"""The world of `python main.py --demo`: sample data in SQLite, the stand-in as a process."""

from __future__ import annotations

import os
import secrets
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TESTS = Path(__file__).resolve().parent
AS_OF = "2026-01-13 12:00:00"  # the sample data's now


def load_sample_data(path: Path) -> None:
    """Makes a SQLite database of the sample data."""
    connection = sqlite3.connect(path)
    connection.executescript((TESTS / "sample_data.sql").read_text(encoding="utf-8"))
    connection.close()


@contextmanager
def demo_settings() -> Iterator[dict[str, str | None]]:
    """Settings for a run in which all is real but Iterable; nothing is left of it afterwards."""
    key = secrets.token_hex(16)
    with (
        tempfile.TemporaryDirectory() as directory,
        subprocess.Popen(
            [sys.executable, "-m", "tests.fake_iterable", "--exit-with-parent"],
            cwd=TESTS.parent,
            env={**os.environ, "ITERABLE_API_KEY": key, "ITERABLE_JWT_SECRET": ""},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for main.py, which then still wants its answers
        ) as stand_in,
    ):
        assert stand_in.stdout is not None
        try:
            load_sample_data(Path(directory, "demo.db"))
            url = stand_in.stdout.readline().split()[-1]  # "... listening on http://127.0.0.1:..."
            database = f"sqlite:///{directory}/demo.db"
            yield {"DATABASE_URL": database, "ITERABLE_API_KEY": key, "ITERABLE_API_BASE_URL": url}
        finally:
            stand_in.terminate()

"""A SQLite file that another process has locked."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in sys.argv[2:]:
    connection.execute(statement)
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked(path: Path, *statements: str) -> Iterator[None]:
    """Another process has locked the file, by these statements and BEGIN EXCLUSIVE."""
    command = [sys.executable, "-c", _HOLD, str(path), *statements, "BEGIN EXCLUSIVE"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield
        process.communicate()

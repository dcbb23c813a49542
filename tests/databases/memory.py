"""How much memory reading a query's rows takes, in a process that does nothing else.

    python -m tests.databases.memory URL SQL

prints how many rows there were and how many MiB the process grew by.
"""

from __future__ import annotations

import resource
import sys
from zoneinfo import ZoneInfo

from db import connect
from tests.databases.queries import run


def measure(url: str, sql: str) -> None:
    """Reads the rows and prints both numbers."""
    with connect(url, ZoneInfo("UTC")) as database:
        list(run(database, "SELECT 1 AS one"))  # loads all that any query needs
        before = _peak()
        count = 0
        for _ in run(database, sql):
            count += 1
        print(count, (_peak() - before) // 1024)


def _peak() -> int:
    """The most memory that this process ever had, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    measure(*sys.argv[1:])

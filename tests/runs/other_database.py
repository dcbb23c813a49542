"""main.py over a database whose driver returns what SQLite's cannot: a test's rows, pickled."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

ROOT = Path(__file__).resolve().parents[2]
ROWS = "rows.pickle"


class Database:
    """What db.connect returns, as far as main.py uses it."""

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def rows(
        self, query: object, since: datetime, until: datetime
    ) -> tuple[Sequence[str], Iterator[Sequence[Any]]]:
        """The columns and the rows, whatever the query is."""
        columns, rows = pickle.loads(Path(ROWS).read_bytes())  # noqa: S301
        return tuple(columns), iter(rows)


def connect(url: str, zone: ZoneInfo) -> Database:
    """Stands for db.connect."""
    return Database()


if __name__ == "__main__":
    sys.path[0] = str(ROOT)
    import db

    db.connect = connect  # type: ignore[assignment]
    import main

    sys.exit(main.main())

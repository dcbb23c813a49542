"""What the errors of database servers may say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from db import Database, DatabaseError, Query, connect
from tests.databases.servers import load_sample_data, mariadb, postgresql

UNTIL = datetime(2026, 1, 13, 12, tzinfo=timezone.utc)


SINCE = UNTIL - timedelta(days=7)


SERVERS = ("postgresql", "mariadb")


@pytest.fixture(scope="module")
def urls() -> Iterator[dict[str, str]]:
    """The URL of each server, the sample data loaded."""
    with postgresql() as postgresql_url, mariadb() as mariadb_url:
        urls = {"postgresql": postgresql_url, "mariadb": mariadb_url}
        for url in urls.values():
            load_sample_data(url)
        yield urls


@pytest.fixture(params=SERVERS)
def url(urls: dict[str, str], request: pytest.FixtureRequest) -> str:
    """A test that takes this runs on every server."""
    return urls[request.param]


def run(
    database: Database, sql: str, since: datetime = SINCE, until: datetime = UNTIL
) -> Iterator[tuple[Any, ...]]:
    return database.rows(Query("some_query", sql, Path("queries.sql"), 7, {}, {}), since, until)[1]


def fetch(url: str, sql: str, zone: str = "UTC") -> list[tuple[Any, ...]]:
    with connect(url, ZoneInfo(zone)) as database:
        return list(run(database, sql))


def refusal(url: str, sql: str = "SELECT 1", zone: str = "UTC") -> str:
    """The text of the error that a query ends with; no part of the password is in it."""
    with pytest.raises(DatabaseError) as caught:
        fetch(url, sql, zone)
    text = str(caught.value)
    assert not any(part in text for part in ("p@ss", "p%40ss", "w/rd", "w%2Frd", "#1%"))
    return text


def test_control_characters_in_what_the_database_says_are_escaped(url: str) -> None:
    quote = "`" if url.startswith("mysql") else '"'
    text = refusal(url, f"SELECT * FROM {quote}a\x1b[31m\rb{quote}")  # noqa: S608
    assert re.search(r"a\\(x1b|001B)\[31m\\rb", text)  # the latter is MariaDB's own doing
    assert text.isprintable()


@pytest.mark.parametrize(
    ("server", "sql"),
    [
        ("postgresql", "SELECT CAST('Jane 555-0100' AS integer)"),
        ("postgresql", "SELECT CAST('{Jane 555-0100' AS integer[])"),
    ],
)
def test_a_value_that_the_database_echoes_does_not_show(
    urls: dict[str, str], server: str, sql: str
) -> None:
    text = refusal(urls[server], sql)
    assert "Query 'some_query' (queries.sql, line 7) failed: " in text
    assert not re.search("Jane|0100", text)

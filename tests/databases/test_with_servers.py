"""Databases with a server: PostgreSQL and MariaDB as they are.

`pytest -m servers` starts both; nothing is skipped.
"""

from __future__ import annotations

import itertools
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from db import DatabaseError, QueryFileError, UnreadableTime, connect, load_queries
from tests import demo
from tests.databases.queries import SINCE, UNTIL, query, run
from tests.databases.servers import (
    PASSWORD,
    execute,
    load_sample_data,
    mariadb,
    postgresql,
    setting_zone,
)
from tests.project import ROOT

pytestmark = [
    pytest.mark.servers,
    # psycopg says this of a cursor whose connection is lost; Python shows it to nobody by default.
    pytest.mark.filterwarnings(
        "ignore:.*ServerCursor.* was deleted while still open:ResourceWarning"
    ),
]

UTC = ZoneInfo("UTC")
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


def fetch(url: str, sql: str, zone: str = "UTC") -> list[tuple[Any, ...]]:
    with connect(url, ZoneInfo(zone)) as database:
        return list(run(database, sql))


def refusal(url: str, sql: str = "SELECT 1", zone: str = "UTC") -> str:
    """The text of the error that a query ends with; no part of the password is in it."""
    with pytest.raises(DatabaseError) as caught:
        fetch(url, sql, zone)
    text = str(caught.value)
    for part in ("p@ss", "p%40ss", "w/rd", "w%2Frd", "#1%"):
        assert part not in text
    return text


# The shipped queries


def test_the_shipped_queries_return_what_they_return_on_sqlite(tmp_path: Path, url: str) -> None:
    demo.load_sample_data(tmp_path / "sample.db")
    keys = ("email", "userId", "user fields", "event", "event fields", "event time", "event id")
    with connect(f"sqlite:///{tmp_path}/sample.db", UTC) as sqlite, connect(url, UTC) as server:
        for shipped in load_queries(ROOT / "queries.sql", keys).values():
            columns, expected = sqlite.rows(shipped, SINCE, UNTIL)
            same, actual = server.rows(shipped, SINCE, UNTIL)
            assert same == columns
            assert [with_times_as_text(row) for row in actual] == list(expected)


def with_times_as_text(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row as SQLite has it."""
    return tuple(str(cell) if isinstance(cell, datetime) else cell for cell in row)


# Types


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("TIMESTAMP '2026-07-13 08:45:12.5'", datetime(2026, 7, 13, 8, 45, 12, 500_000)),
        (
            "TIMESTAMPTZ '2026-07-13 08:45:12Z'",
            datetime(2026, 7, 13, 8, 45, 12, tzinfo=timezone.utc),
        ),
        ("DATE '2026-01-13'", date(2026, 1, 13)),
        ("10::numeric(10,1)", Decimal("10.0")),
        ("1.5::double precision", 1.5),
        ("9223372036854775807::bigint", 2**63 - 1),
        ("true", True),
        ("""'{"a": [1, 2.5, "東京", null]}'::json""", {"a": [1, 2.5, "東京", None]}),
        ("""'["a", {"b": true}]'::jsonb""", ["a", {"b": True}]),
        ("'00000000-0000-0000-0000-00000000002a'::uuid", UUID(int=42)),
        ("'Łódź 東京 🎉 مرحبا'", "Łódź 東京 🎉 مرحبا"),
        ("'a'::varchar(9)", "a"),
        ("NULL::timestamp", None),
        ("'\\xff00'::bytea", b"\xff\x00"),
        ("ARRAY[1, 2]", [1, 2]),
        ("TIMESTAMP 'infinity'", UnreadableTime("infinity")),
        ("DATE '-infinity'", UnreadableTime("-infinity")),
        ("TIME '24:00'", UnreadableTime("24:00:00")),
        ("TIMESTAMPTZ '10000-01-01 00:00:00Z'", UnreadableTime("10000-01-01 01:00:00+01")),
        ("TIMESTAMP '0044-03-15 12:00:00 BC'", UnreadableTime("0044-03-15 12:00:00 BC")),
    ],
)
def test_postgresql_values_arrive_as_what_they_are(
    urls: dict[str, str], sql: str, expected: object
) -> None:
    [(value,)] = fetch(urls["postgresql"], f"SELECT {sql} AS value", zone="Europe/Berlin")
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("DATETIME(1)", {"'2026-07-13 08:45:12.5'": datetime(2026, 7, 13, 8, 45, 12, 500_000)}),
        # Written in +09:00
        ("TIMESTAMP NULL", {"'2026-07-13 08:45:12'": datetime(2026, 7, 13, 1, 45, 12)}),
        (
            "DATE",
            {
                "'2026-01-13'": date(2026, 1, 13),
                "'0000-00-00'": UnreadableTime("0000-00-00"),
                "NULL": None,
            },
        ),
        ("DATETIME", {"'2026-01-00 00:00:00'": UnreadableTime("2026-01-00 00:00:00")}),
        ("DECIMAL(10,1)", {"10": Decimal("10.0")}),
        ("DOUBLE", {"1.5": 1.5}),
        ("BIGINT", {"9223372036854775807": 2**63 - 1}),
        ("BOOLEAN", {"TRUE": True, "FALSE": False, "NULL": None, "7": 7}),
        ("BIT(1)", {"1": True, "0": False, "NULL": None}),
        ("TINYINT(2)", {"1": 1}),
        # MariaDB's JSON is text, and its driver is told no more
        ("JSON", {"""'{"a": 1}'""": '{"a": 1}'}),
        (
            "UUID",
            {"'00000000-0000-0000-0000-00000000002a'": "00000000-0000-0000-0000-00000000002a"},
        ),
        (
            "VARCHAR(99) CHARACTER SET utf8mb4",
            {"'Łódź 東京 🎉 مرحبا'": "Łódź 東京 🎉 مرحبا", "NULL": None},
        ),
        ("VARCHAR(9) CHARACTER SET latin1", {"'Köln'": "Köln"}),
        ("BLOB", {"x'ff00'": b"\xff\x00"}),
    ],
)
def test_mariadb_values_arrive_as_what_they_are(
    urls: dict[str, str], kind: str, values: dict[str, object]
) -> None:
    url = urls["mariadb"]
    columns = f"number INTEGER AUTO_INCREMENT PRIMARY KEY, value {kind}"
    execute(url, f"CREATE OR REPLACE TABLE kinds ({columns})")
    for value in values:
        execute(url, f"INSERT INTO kinds (value) VALUES ({value})")  # noqa: S608
    rows = fetch(url, "SELECT value FROM kinds ORDER BY number", zone="Europe/Berlin")
    found = [value for (value,) in rows]
    assert found == list(values.values())
    assert [type(value) for value in found] == [type(value) for value in values.values()]


# The window and the session's zone


@pytest.mark.parametrize(
    ("zone", "since", "until"),
    [
        ("UTC", "2026-03-28 12:00:00", "2026-03-29 12:00:00"),
        # The clocks go forward in between
        ("Europe/Berlin", "2026-03-28 13:00:00", "2026-03-29 14:00:00"),
        ("Pacific/Honolulu", "2026-03-28 02:00:00", "2026-03-29 02:00:00"),
    ],
)
def test_the_window_means_the_same_moments_in_every_zone(
    url: str, zone: str, since: str, until: str
) -> None:
    start = datetime(2026, 3, 28, 12, tzinfo=timezone.utc)
    end = datetime(2026, 3, 29, 12, tzinfo=timezone.utc)
    with_zone, without = "TIMESTAMPTZ", "TIMESTAMP"
    if url.startswith("mysql"):
        with_zone, without = "TIMESTAMP", "DATETIME"
    execute(
        url,
        setting_zone(url, "UTC"),
        "DROP TABLE IF EXISTS moments",
        f"CREATE TABLE moments (id INTEGER, at {with_zone} NOT NULL)",
        "INSERT INTO moments VALUES (1, '2026-03-28 11:59:59'), (2, '2026-03-28 12:00:00')",
        "INSERT INTO moments VALUES (3, '2026-03-29 12:00:00'), (4, '2026-03-29 12:00:01')",
    )
    with connect(url, ZoneInfo(zone)) as database:
        inside = "SELECT id FROM moments WHERE at >= :since AND at <= :until ORDER BY id"
        assert list(run(database, inside, start, end)) == [(2,), (3,)]
        bounds = f"SELECT CAST(:since AS {without}) AS a, CAST(:until AS {without}) AS b"
        [window] = run(database, bounds, start, end)
        assert [str(bound) for bound in window] == [since, until]


def test_the_session_has_the_zone_and_times_with_a_zone_are_aware(urls: dict[str, str]) -> None:
    [(zone, time)] = fetch(
        urls["postgresql"],
        "SELECT current_setting('TimeZone') AS zone, TIMESTAMPTZ '2026-07-13 12:00:00Z' AS time",
        "Pacific/Honolulu",
    )
    assert (zone, time.isoformat()) == ("Pacific/Honolulu", "2026-07-13T02:00:00-10:00")
    assert fetch(urls["mariadb"], "SELECT @@time_zone", "Pacific/Honolulu") == [
        ("Pacific/Honolulu",)
    ]
    assert fetch(urls["mariadb"], "SELECT @@time_zone", "UTC") == [("+00:00",)]


def test_a_zone_that_mariadb_has_not_loaded_is_an_error_that_says_how_to(
    urls: dict[str, str],
) -> None:
    text = refusal(urls["mariadb"], zone="Asia/Tokyo")
    assert "Unknown or incorrect time zone: 'Asia/Tokyo'" in text
    assert "mysql_tzinfo_to_sql /usr/share/zoneinfo | mysql mysql" in text


# Statements arrive as they stand


@pytest.mark.parametrize(
    ("server", "values", "rest"),
    [
        (
            "postgresql",
            {"' :since'": " :since", "':until::x'": ":until::x", "'it''s :x'": "it's :x"},
            "",
        ),
        ("postgresql", {"$$ :since it's $$": " :since it's ", "$q$ $$ :x $q$": " $$ :x "}, ""),
        ("postgresql", {r"'\:x'": r"\:x", r"E'\' :x'": "' :x", r"E'\\'": "\\"}, ""),
        ("postgresql", {"1 -- :x it's\n": 1, "/* :since ' */ 2": 2}, "-- :until"),
        (
            "postgresql",
            {"' 7 '::text::varchar(9)": " 7 ", "(1)::text": "1", "'1' :: integer": 1},
            "",
        ),
        (
            "postgresql",
            {"a[1:2]": [5, 6], "a[:n]": [5], "(a)[n:n]": [5]},
            "FROM (SELECT ARRAY[5, 6, 7] AS a, 1 AS n) t",
        ),
        (
            "postgresql",
            {":since::timestamp < :until": True, "ARRAY[:since, :until] @> ARRAY[:until]": True},
            "",
        ),
        ("postgresql", {"'100%'": "100%", "'%s %(since)s %%'": "%s %(since)s %%", "5 % 3": 2}, ""),
        (
            "postgresql",
            {"'%s %(since)s %%'": "%s %(since)s %%"},
            "WHERE :since < :until AND 'ab' LIKE '%b'",
        ),
        (
            "mariadb",
            {
                "' :since'": " :since",
                "':until::x'": ":until::x",
                "'it''s :x'": "it's :x",
                '" :x"': " :x",
            },
            "",
        ),
        ("mariadb", {"`a :since`": 1, "`b:x`": 2}, "FROM (SELECT 1 AS `a :since`, 2 AS `b:x`) t"),
        ("mariadb", {"1 -- :x it's\n": 1, "/* :since ' */ 2": 2, "3 /*! + 1 */": 4}, "-- :until"),
        ("mariadb", {r"'\\:x'": r"\:x", "CAST(:since AS DATETIME) < :until": 1}, ""),
        ("mariadb", {"'100%'": "100%", "'%s %(since)s %%'": "%s %(since)s %%", "5 % 3": 2}, ""),
        (
            "mariadb",
            {"'%s %(since)s %%'": "%s %(since)s %%"},
            "WHERE :since < :until AND 'ab' LIKE '%b'",
        ),
    ],
)
def test_colons_and_percent_signs_arrive_as_they_stand(
    urls: dict[str, str], server: str, values: dict[str, object], rest: str
) -> None:
    cells = ", ".join(f"{expression} AS cell_{number}" for number, expression in enumerate(values))
    assert fetch(urls[server], f"SELECT {cells} {rest}") == [tuple(values.values())]


# Results


def test_columns_are_known_without_rows(url: str) -> None:
    with connect(url, UTC) as database:
        none = query("SELECT id, email AS address FROM customers WHERE id < 0")
        columns, rows = database.rows(none, SINCE, UNTIL)
        assert columns == ("id", "address")
        assert list(rows) == []


def test_two_columns_of_one_name_are_an_error_of_the_queries_file(url: str) -> None:
    sql = "SELECT c.id, v.id FROM customers c JOIN page_views v ON v.user_id = c.id"
    expected = "2 result columns are named 'id'"
    with connect(url, UTC) as database, pytest.raises(QueryFileError, match=expected):
        run(database, sql)


def test_a_statement_without_a_result_is_an_error_of_the_queries_file(urls: dict[str, str]) -> None:
    """PostgreSQL itself refuses to make a cursor of one."""
    expected = "this statement returns no rows: a query is a SELECT"
    with connect(urls["mariadb"], UTC) as database, pytest.raises(QueryFileError, match=expected):
        run(database, "DO 1")


def test_rows_stream_from_the_server_into_little_memory(urls: dict[str, str]) -> None:
    """200,000 rows of 1,000 characters would take over 200 MB, in the driver if not in Python."""
    queries = {
        "postgresql": "SELECT n, repeat('x', 1000) AS text FROM generate_series(1, 200000) n",
        "mariadb": "SELECT seq, repeat('x', 1000) AS text FROM seq_1_to_200000",
    }
    for server, sql in queries.items():
        command = [sys.executable, "-m", "tests.databases.memory", urls[server], sql]
        output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        count, mebibytes = map(int, output.stdout.split())
        assert count == 200_000
        assert mebibytes < 16
        assert output.stderr == ""


ENDLESS = {
    "postgresql": (
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"
    ),
    "mariadb": "SELECT seq FROM seq_1_to_10000000000",
}


@pytest.mark.parametrize("server", SERVERS)
def test_a_result_can_be_left_before_its_end(
    urls: dict[str, str], server: str, caplog: pytest.LogCaptureFixture
) -> None:
    with connect(urls[server], UTC) as database:
        assert list(itertools.islice(run(database, ENDLESS[server]), 3)) == [(1,), (2,), (3,)]
    with connect(urls[server], UTC) as database:
        run(database, ENDLESS[server])  # never read at all
        database.close()
        database.close()
    assert caplog.records == []


def test_a_second_query_ends_the_first(url: str) -> None:
    with connect(url, UTC) as database:
        views = run(database, "SELECT id FROM page_views ORDER BY id")
        assert next(iter(views)) == (1,)
        assert list(run(database, "SELECT COUNT(*) FROM customers")) == [(16,)]
        with pytest.raises(DatabaseError):
            list(views)


def test_all_queries_see_one_snapshot(url: str) -> None:
    execute(url, "DROP TABLE IF EXISTS counted", "CREATE TABLE counted (id INTEGER)")
    with connect(url, UTC) as database:
        assert list(run(database, "SELECT id FROM counted")) == []
        execute(url, "INSERT INTO counted VALUES (1)")
        assert list(run(database, "SELECT id FROM counted")) == []
    assert fetch(url, "SELECT id FROM counted") == [(1,)]


# Refusals


@pytest.mark.parametrize(
    ("server", "sql", "reason"),
    [
        ("postgresql", "UPDATE customers SET email = 'x' RETURNING id", "UPDATE"),
        (
            "postgresql",
            "WITH gone AS (DELETE FROM customers RETURNING id) SELECT id FROM gone",
            "data-modifying",
        ),
        ("postgresql", "SELECT steal()", "cannot execute UPDATE in a read-only transaction"),
        (
            "postgresql",
            "SELECT nextval('numbers')",
            "cannot execute nextval() in a read-only transaction",
        ),
        (
            "mariadb",
            "UPDATE customers SET email = 'x'",
            "Cannot execute statement in a READ ONLY transaction",
        ),
        (
            "mariadb",
            "DELETE FROM customers RETURNING id",
            "Cannot execute statement in a READ ONLY transaction",
        ),
        ("mariadb", "SELECT steal()", "Cannot execute statement in a READ ONLY transaction"),
        ("mariadb", "DROP TABLE page_views", "Cannot execute statement in a READ ONLY transaction"),
    ],
)
def test_no_query_can_write(urls: dict[str, str], server: str, sql: str, reason: str) -> None:
    body = "UPDATE customers SET email = 'stolen'"
    url = urls[server]
    if server == "postgresql":
        function = f"steal() RETURNS integer AS $$ {body}; SELECT 1 $$ LANGUAGE sql"
        execute(url, "CREATE SEQUENCE IF NOT EXISTS numbers")
    else:
        function = f"steal() RETURNS INTEGER MODIFIES SQL DATA BEGIN {body}; RETURN 1; END"
    execute(url, f"CREATE OR REPLACE FUNCTION {function}")
    assert reason in refusal(url, sql)
    unchanged = "SELECT COUNT(*) FROM customers WHERE email LIKE '%@example.com'"
    assert fetch(url, unchanged) == [(16,)]
    assert fetch(url, "SELECT COUNT(*) FROM page_views") == [(40,)]


@pytest.mark.parametrize(
    ("server", "change", "reason"),
    [
        ("postgresql", ("%3F@", "@"), 'password authentication failed for user "app"'),
        (
            "mariadb",
            ("%3F@", "@"),
            "Access denied for user 'app'@'localhost' (using password: YES)",
        ),
        ("postgresql", ("/app$", "/nowhere"), 'database "nowhere" does not exist'),
        ("mariadb", ("/app$", "/nowhere"), "Unknown database 'nowhere'"),
        ("postgresql", ("127.0.0.1", "no-such-host.invalid"), "no-such-host.invalid"),
        (
            "mariadb",
            ("127.0.0.1", "no-such-host.invalid"),
            "Can't connect to MySQL server on 'no-such-host.invalid'",
        ),
        ("postgresql", (r"1:\d+/", "1:9/"), "Connection refused"),
        ("mariadb", (r"1:\d+/", "1:9/"), "Can't connect to MySQL server on '127.0.0.1'"),
        ("postgresql", ("$", "?no_such_option=1"), "no_such_option"),
        ("mariadb", ("$", "?no_such_option=1"), "no_such_option"),
    ],
)
def test_a_server_that_cannot_be_used_is_an_error_with_the_reason(
    urls: dict[str, str], server: str, change: tuple[str, str], reason: str
) -> None:
    text = refusal(re.sub(*change, urls[server], count=1))
    assert reason in text
    assert text.endswith(". Check DATABASE_URL, and that the server can be reached from here.")
    assert "\n" not in text


def test_a_password_among_the_parameters_does_not_show(urls: dict[str, str]) -> None:
    url = re.sub(r":[^:@]*@", "@", urls["postgresql"]) + "?password=w%2Frd%40x"
    assert 'password authentication failed for user "app"' in refusal(url)


@pytest.mark.parametrize("password", ["p@ss", "p@ss:w/rd", "p@ss/w", "p@ss?", "p@ss#1"])
def test_a_password_that_is_not_escaped_is_refused_without_showing_it(password: str) -> None:
    for scheme in ("postgresql", "mysql", "trino"):
        text = refusal(f"{scheme}://app:{password}@127.0.0.1:9/app")
        assert "DATABASE_URL cannot be read" in text or "trino" in text
        assert "ss@" not in text


@pytest.mark.parametrize(
    "parameters", ["password=w%2Frd%40x&x=1", "x=1&api_TOKEN=w/rd@x", "pwd=a&pwd=w/rd@x"]
)
def test_a_secret_that_a_driver_echoes_does_not_show(
    monkeypatch: pytest.MonkeyPatch, parameters: str
) -> None:
    echoed = "no: w/rd@x, w%2Frd%40x, w/rd%40x"
    parameters = parameters.replace("w/rd@x", "w%2Frd%40x")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(echoed)

    monkeypatch.setattr("psycopg.connect", refuse)
    monkeypatch.setattr("psycopg.Connection.connect", refuse)
    text = refusal(f"postgresql://app:b@127.0.0.1:9/app?{parameters}")
    assert "no: ***, ***, ***. Check DATABASE_URL" in text


def test_a_port_that_is_no_number_is_an_error_of_the_url() -> None:
    text = refusal("postgresql://app:secret@127.0.0.1:port/app")
    assert text.startswith("DATABASE_URL cannot be read: it must be a URL")
    assert "secret" not in text


def test_a_password_that_the_database_echoes_does_not_show(url: str) -> None:
    table = f"`{PASSWORD}`" if url.startswith("mysql") else f'"{PASSWORD}"'
    assert "***" in refusal(url, "SELECT * FROM " + table)  # noqa: S608


@pytest.mark.parametrize(
    "sql", ["SELECT * FROM nowhere", "SELECT * FROM nowhere WHERE :since < :until"]
)
def test_a_refused_query_is_named_with_the_reason(url: str, sql: str) -> None:
    text = refusal(url, sql)
    assert text.startswith("Query 'some_query' (queries.sql, line 7) failed: ")
    assert re.search(r"relation \"nowhere\" does not exist|Table 'app.nowhere' doesn't exist", text)
    assert not re.search("SELECT|2026|\n", text)


@pytest.mark.parametrize("server", SERVERS)
def test_a_connection_lost_between_rows_is_a_database_error(
    urls: dict[str, str],
    server: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    own, kill = {
        "postgresql": ("SELECT pg_backend_pid()", "SELECT pg_terminate_backend({})"),
        "mariadb": ("SELECT CONNECTION_ID()", "KILL {}"),
    }[server]
    expected = r"'some_query'.* failed: .*(onnection|gone away)"
    with connect(urls[server], UTC) as database:
        [(process,)] = run(database, own)
        rows = iter(run(database, ENDLESS[server]))
        assert next(rows) == (1,)
        execute(urls[server], kill.format(process))
        with pytest.raises(DatabaseError, match=expected) as caught:
            for _ in rows:
                pass
        assert PASSWORD not in str(caught.value)
        with pytest.raises(DatabaseError):
            run(database, "SELECT 1")
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("server", "sql"),
    [("postgresql", "SELECT CAST(pg_sleep(600) AS text)"), ("mariadb", "SELECT SLEEP(600)")],
)
def test_a_signal_is_handled_during_a_long_query(
    urls: dict[str, str], server: str, sql: str, caplog: pytest.LogCaptureFixture
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    try:
        with connect(urls[server], UTC) as database:
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises((KeyboardInterrupt, DatabaseError)):
                list(run(database, sql))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert caplog.records == []


# Drivers, with SQLAlchemy installed


@pytest.mark.parametrize(
    ("url", "module", "packages"),
    [
        ("postgresql://u:secret@h/d", "psycopg", '"psycopg[binary]==3.3.9"'),
        ("postgres://u:secret@h/d", "psycopg", '"psycopg[binary]==3.3.9"'),
        ("mysql://u:secret@h/d", "pymysql", '"PyMySQL==1.2.4"'),
        ("mariadb://u:secret@h/d", "pymysql", '"PyMySQL==1.2.4"'),
        ("trino://u:secret@h/d", "trino", '"trino[sqlalchemy]==0.340.0"'),
        ("snowflake://u:secret@h/d", "snowflake", '"snowflake-sqlalchemy==2.1.0"'),
        # A bare `pip install pyhive` leaves this out, and only connecting tells
        ("hive://u@127.0.0.1:9/d", "thrift_sasl", '"pyhive[hive-pure-sasl]==0.7.0"'),
        ("hive+evil://u:secret@h/d", "no_module", '"pyhive[hive-pure-sasl]==0.7.0"'),
        ("duckdb:///a.db", "duckdb_engine", '"duckdb==2.0.1" "duckdb-engine==0.17.0"'),
    ],
)
def test_a_missing_driver_is_named_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, url: str, module: str, packages: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    text = refusal(url)
    line = f"{shlex.quote(sys.executable)} -m pip install {packages}"
    assert text.endswith(f" is not installed: {line}")
    assert "secret" not in text


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgersql://u:secret@h/d", "No library for postgersql:// is installed: correct "),
        ("mssql+pymssql://u:secret@h/d", "No library for mssql+pymssql:// is installed"),
        ("mysql+mysqldb://u:secret@h/d", "is not installed: install it, or write mysql://, which"),
        ("postgresql+evil://u:secret@h/d", "is not installed: install it, or write postgresql://"),
    ],
)
def test_a_package_is_never_guessed_from_the_url(url: str, reason: str) -> None:
    text = refusal(url)
    assert reason in text
    assert "pip install" not in text
    assert "secret" not in text


def test_a_driver_that_may_be_none_is_told_so() -> None:
    text = refusal("duckdb+evil:///a.db")
    assert "duckdb+evil:// names no driver, or needs a library that is not installed:" in text


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

"""Databases without a server: SQLite, the errors of every other URL, and times."""

from __future__ import annotations

import itertools
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from db import (
    Database,
    DatabaseError,
    Query,
    QueryFileError,
    _pymysql_rows,
    connect,
    describe_url,
    parse_time,
)

UTC = ZoneInfo("UTC")
BERLIN = ZoneInfo("Europe/Berlin")
SINCE = datetime(2026, 3, 28, 12, tzinfo=timezone.utc)
UNTIL = datetime(2026, 3, 29, 12, 0, 0, 999_999, tzinfo=timezone.utc)  # Berlin's clocks went forward in between
ENDLESS = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT {} FROM n"


def query(sql: str) -> Query:
    return Query("some_query", sql, Path("queries.sql"), 7, {}, {})


def run(database: Database, sql: str) -> Iterator[tuple[Any, ...]]:
    return database.rows(query(sql), SINCE, UNTIL)[1]


def create(path: Path, script: str = "CREATE TABLE t (a); INSERT INTO t VALUES (1), (2)") -> str:
    """Make a SQLite database and return its URL."""
    connection = sqlite3.connect(path)
    connection.executescript(script)
    connection.close()
    return f"sqlite:///{path}"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return create(tmp_path / "test.db")


# SQLite


@pytest.mark.parametrize(
    "name",
    [
        "a.db",
        "a b.db",
        "what?.db",
        "no#1.db",
        "100%.db",
        "%41.db",
        "Łódź 東京.db",
        "a.db?mode=rwc",
        "a&b=c;'\".db",
        ":a@b",
    ],
)
def test_a_path_may_hold_any_character(tmp_path: Path, name: str) -> None:
    (tmp_path / "odd").mkdir()
    with connect(create(tmp_path / "odd" / name), UTC) as database:
        assert list(run(database, "SELECT a FROM t ORDER BY a")) == [(1,), (2,)]
    assert [path.name for path in (tmp_path / "odd").iterdir()] == [name]


@pytest.mark.parametrize("scheme", ["sqlite", "SQLite", "sqlite+pysqlite"])
def test_three_slashes_make_a_path_relative(tmp_path: Path, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    create(tmp_path / "relative.db")
    monkeypatch.chdir(tmp_path)
    with connect(f"{scheme}:///relative.db", UTC) as database:
        assert list(run(database, "SELECT COUNT(*) FROM t")) == [(2,)]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sqlite:///missing.db", "missing.db cannot be opened: No such file or directory"),
        ("sqlite+pysqlite:///missing.db", "missing.db cannot be opened: No such file or directory"),
        ("sqlite:///folder", "folder cannot be opened: it is a directory"),
        ("sqlite:///text.txt", "text.txt cannot be opened: file is not a database"),
        ("sqlite:///text.txt/a.db", "a.db cannot be opened: Not a directory"),
        ("sqlite://", "names no SQLite file: write sqlite:///relative.db"),
        ("sqlite:///", "names no SQLite file"),
        ("sqlite:///:memory:", "names no SQLite file"),
        ("sqlite://missing.db", "names no SQLite file"),
        ("missing.db", "DATABASE_URL is no URL: write sqlite:///file.db"),
    ],
)
def test_what_is_no_database_file_is_refused_and_never_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.txt").write_text("no database, but more than the hundred bytes of a header " * 4)
    with pytest.raises(DatabaseError) as caught:
        connect(url, UTC)
    assert reason in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "text.txt"}


def test_a_query_cannot_write(url: str) -> None:
    with connect(url, UTC) as database, pytest.raises(DatabaseError, match="attempt to write a readonly database"):
        list(run(database, "INSERT INTO t VALUES (3) RETURNING a"))


@pytest.mark.parametrize(
    ("zone", "since", "until"),
    [
        ("UTC", "2026-03-28 12:00:00", "2026-03-29 12:00:00"),
        ("Europe/Berlin", "2026-03-28 13:00:00", "2026-03-29 14:00:00"),
        ("Pacific/Honolulu", "2026-03-28 02:00:00", "2026-03-29 02:00:00"),
    ],
)
def test_the_window_is_bound_as_text_in_the_zone(url: str, zone: str, since: str, until: str) -> None:
    with connect(url, ZoneInfo(zone)) as database:
        assert list(run(database, "SELECT :since, :until, typeof(:since)")) == [(since, until, "text")]


def test_a_colon_in_quotes_comments_and_names_is_no_parameter(url: str) -> None:
    sql = """SELECT ':since', ' :until it''s', "a" AS "b :since", `a` /* :until ' */ FROM t -- :since'"""
    with connect(url, UTC) as database:
        columns, rows = database.rows(query(sql + "\nWHERE a = 1 AND '2026-03-29' > :since"), SINCE, UNTIL)
        assert columns == ("':since'", "' :until it''s'", "b :since", "a")
        assert list(rows) == [(":since", " :until it's", 1, 1)]


def test_columns_are_known_without_rows(url: str) -> None:
    with connect(url, UTC) as database:
        columns, rows = database.rows(query("SELECT a AS first, a AS second FROM t WHERE a > 2"), SINCE, UNTIL)
        assert columns == ("first", "second")
        assert list(rows) == []


def test_two_columns_of_one_name_are_an_error_of_the_queries_file(url: str) -> None:
    expected = r"queries\.sql, line 7, query 'some_query': 2 result columns are named 'a': rename all but one with AS"
    with connect(url, UTC) as database, pytest.raises(QueryFileError, match=expected):
        run(database, "SELECT x.a, y.a FROM t x JOIN t y ON x.a = y.a")


def test_a_statement_without_a_result_is_an_error_of_the_queries_file(url: str) -> None:
    expected = r"queries\.sql, line 7, query 'some_query': this statement returns no rows: a query is a SELECT"
    with connect(url, UTC) as database, pytest.raises(QueryFileError, match=expected):
        run(database, "DROP TABLE IF EXISTS no_such_table")


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELECT * FROM nowhere", "no such table: nowhere"),
        ("SELEC 1", 'near "SELEC": syntax error'),
        ("SELECT 1; SELECT 2", "You can only execute one statement at a time"),
        ("SELECT a FROM t WHERE a = ?", "Binding 1"),
    ],
)
def test_a_refused_query_is_named_with_the_reason(url: str, sql: str, reason: str) -> None:
    with connect(url, UTC) as database, pytest.raises(DatabaseError) as caught:
        run(database, sql)
    assert str(caught.value).startswith(f"Query 'some_query' (queries.sql, line 7) failed: {reason}")


def test_an_error_between_rows_is_a_database_error(tmp_path: Path) -> None:
    url = create(tmp_path / "a.db", "CREATE TABLE t (a); INSERT INTO t VALUES (1), (2), (-9223372036854775808)")
    with connect(url, UTC) as database:
        rows = iter(run(database, "SELECT abs(a) FROM t"))
        assert next(rows) == (1,)
        with pytest.raises(DatabaseError, match=r"'some_query' \(queries.sql, line 7\) failed: integer overflow"):
            list(rows)


def test_broken_text_is_kept_in_its_cell_and_ends_no_query(tmp_path: Path) -> None:
    url = create(tmp_path / "a.db", "CREATE TABLE t (a); INSERT INTO t VALUES ('é'), (CAST(x'41ff' AS TEXT)), ('東')")
    with connect(url, UTC) as database:
        assert list(run(database, "SELECT a FROM t")) == [("é",), ("A\udcff",), ("東",)]


def test_values_keep_their_types(url: str) -> None:
    with connect(url, UTC) as database:
        values = [(1, 1.5, "1", None, b"\xff", 2**63 - 1, "2026-01-13")]
        assert list(run(database, "SELECT 1, 1.5, '1', NULL, x'ff', 9223372036854775807, '2026-01-13'")) == values


def test_rows_stream(url: str) -> None:
    with connect(url, UTC) as database:
        assert list(itertools.islice(run(database, ENDLESS.format("i")), 3)) == [(1,), (2,), (3,)]


def test_all_queries_see_one_snapshot(tmp_path: Path) -> None:
    url = create(tmp_path / "wal.db", "PRAGMA journal_mode = WAL; CREATE TABLE t (a)")
    writer = sqlite3.connect(tmp_path / "wal.db")
    with connect(url, UTC) as database:
        writer.execute("INSERT INTO t VALUES (1)")
        writer.commit()
        assert list(run(database, "SELECT a FROM t")) == []
    with connect(url, UTC) as database:
        assert list(run(database, "SELECT a FROM t")) == [(1,)]
    writer.close()


def test_a_signal_is_handled_during_a_long_query(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    try:
        with connect(url, UTC) as database:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises((KeyboardInterrupt, DatabaseError)):
                list(run(database, ENDLESS.format("COUNT(*)")))
    finally:
        signal.signal(signal.SIGALRM, before)


def test_closing_twice_does_no_harm_and_ends_the_rows(url: str) -> None:
    with connect(url, UTC) as database:
        rows = run(database, "SELECT a FROM t")
        database.close()
    with pytest.raises(DatabaseError, match="closed"):
        list(rows)


# Other URLs


@pytest.mark.parametrize(
    ("url", "packages"),
    [
        ("postgresql://u:secret@h/d", '"sqlalchemy" "psycopg[binary]"'),
        ("postgres://u:secret@h/d", '"sqlalchemy" "psycopg[binary]"'),
        ("postgresql+psycopg2://u:secret@h/d", '"sqlalchemy" "psycopg2-binary"'),
        ("postgresql+pg8000://u:secret@h/d", '"sqlalchemy" "pg8000"'),
        ("mysql://u:secret@h/d", '"sqlalchemy" "PyMySQL"'),
        ("mariadb://u:secret@h/d", '"sqlalchemy" "PyMySQL"'),
        ("mysql+mysqldb://u:secret@h/d", '"sqlalchemy" "mysqlclient"'),
        ("trino://u:secret@h/d", '"sqlalchemy" "trino[sqlalchemy]"'),
        ("snowflake://u:secret@h/d", '"sqlalchemy" "snowflake-sqlalchemy"'),
        ("hive://u:secret@h/d", '"sqlalchemy" "pyhive[hive]"'),
        ("unheard_of://u:secret@h/d", '"sqlalchemy"'),
    ],
)
def test_a_missing_library_is_named_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, url: str, packages: str
) -> None:
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(DatabaseError) as caught:
        connect(url, UTC)
    assert str(caught.value).endswith(f" is not installed: python -m pip install {packages}")
    assert "secret" not in str(caught.value)


def test_sqlalchemy_is_imported_only_for_databases_that_need_it(url: str) -> None:
    code = (
        "import db, sys, zoneinfo; db.connect(sys.argv[1], zoneinfo.ZoneInfo('UTC')).close();"
        "sys.exit('sqlalchemy' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, url], check=True, cwd=Path(__file__).parents[2])


def test_json_of_mysql_is_read_where_its_column_says_so() -> None:
    class Result(list[tuple[object, ...]]):
        cursor = SimpleNamespace(description=[("a", 245, None, None), ("b", 253, None, 99)])

    rows = _pymysql_rows(Result([('{"a": [1]}', '{"a": [1]}'), (None, None)]))
    assert list(rows) == [({"a": [1]}, '{"a": [1]}'), (None, None)]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:////data/a@b?.db", "sqlite:////data/a@b?.db"),
        ("sqlite+pysqlcipher://:pw@/app.db", "sqlite+pysqlcipher://:***@/app.db"),
        ("postgresql://app:pw@db:5432/shop", "postgresql://app:***@db:5432/shop"),
        ("postgresql://app@db/shop", "postgresql://app@db/shop"),
        ("postgresql://db/shop", "postgresql://db/shop"),
        ("mysql://app:p@ss/w#1@db/shop", "mysql://app:***@db/shop"),
        ("mysql://app:p@ss?@db/shop", "mysql://***"),
        ("trino://app:pw@db/shop?password=pw&x=1", "trino://app:***@db/shop"),
        ("trino://db/shop?password=p@w", "trino://***"),
        ("app:pw@db/shop", "***"),
    ],
)
def test_a_url_is_shown_without_password_and_parameters(url: str, shown: str) -> None:
    assert describe_url(url) == shown


# Times


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-01-13 08:45:12", "2026-01-13T08:45:12+01:00"),
        ("2026-07-13 08:45", "2026-07-13T08:45:00+02:00"),
        (" 2026-01-13T08:45:12Z ", "2026-01-13T08:45:12+00:00"),
        ("2026-01-13 08:45:12 +05:30", "2026-01-13T08:45:12+05:30"),
        ("2026-01-13 08:45:12.5+02", "2026-01-13T08:45:12.500000+02:00"),
        ("2026-01-13 08:45:12.1234567-0330", "2026-01-13T08:45:12.123456-03:30"),
        (datetime(2026, 1, 13, 8, 45), "2026-01-13T08:45:00+01:00"),
        (datetime(2026, 1, 13, 8, 45, tzinfo=timezone.utc), "2026-01-13T08:45:00+00:00"),
        (date(2026, 1, 13), "2026-01-13T00:00:00+01:00"),
        (1768293912, "2026-01-13T08:45:12+00:00"),
        (-0.5, "1969-12-31T23:59:59.500000+00:00"),
        (Decimal("1768293912.25"), "2026-01-13T08:45:12.250000+00:00"),
    ],
)
def test_a_time_is_read_from_what_databases_return(value: object, expected: str) -> None:
    assert parse_time(value, BERLIN).isoformat() == expected


@pytest.mark.parametrize(
    "value",
    [None, True, "", "soon", "2026-01-13", "13.01.2026 08:45", "2026-02-30 08:45", "2026-01-13 25:00",
     "2026-01-13 8:45", "2026-01-13 08:45:12 CET", "2026-01-13 08:45:12+25:00", "2026-01-13 08:45\n10",
     "٢٠٢٦-01-13 08:45", "1768293912", float("nan"), float("inf"), 10**30, 1768293912000, b"2026-01-13 08:45",
     timedelta(1)],
)  # fmt: skip
def test_what_is_no_time_is_refused_with_what_to_write(value: Any) -> None:
    with pytest.raises(ValueError, match="is no time: write YYYY-MM-DD HH:MM:SS"):
        parse_time(value, BERLIN)


def test_a_working_directory_that_was_removed_is_an_error_of_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(DatabaseError, match=r"app\.db cannot be opened: No such file"):
        connect("sqlite:///app.db", UTC)

"""Databases without a server: SQLite, the errors of every other URL, and times."""

from __future__ import annotations

import itertools
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from db import (
    BATCH_CHARACTERS,
    BATCH_ROWS,
    Database,
    DatabaseError,
    QueryFileError,
    UnreadableTime,
    check_url,
    connect,
    describe_url,
    parse_time,
    read_pymysql,
    spool,
    spooled,
    window,
)
from tests.databases import queries
from tests.databases.queries import create, query
from tests.project import ROOT

UTC = ZoneInfo("UTC")
BERLIN = ZoneInfo("Europe/Berlin")
SINCE = datetime(2026, 3, 28, 12, tzinfo=timezone.utc)
# Berlin's clocks went forward in between
UNTIL = datetime(2026, 3, 29, 12, 0, 0, 999_999, tzinfo=timezone.utc)
ENDLESS = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT {} FROM n"


def run(database: Database, sql: str) -> Iterator[tuple[Any, ...]]:
    return queries.run(database, sql, SINCE, UNTIL)


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
def test_three_slashes_make_a_path_relative(
    tmp_path: Path, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
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
        (
            "missing.db",
            "DATABASE_URL cannot be read: it must be a URL, such as sqlite:///customers.db",
        ),
    ],
)
def test_what_is_no_database_file_is_refused_and_never_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    text = "no database, but more than the hundred bytes of a header " * 4
    (tmp_path / "text.txt").write_text(text)
    with pytest.raises(DatabaseError) as caught:
        connect(url, UTC)
    assert reason in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "text.txt"}


def test_a_query_cannot_write(url: str) -> None:
    expected = "attempt to write a readonly database"
    with connect(url, UTC) as database, pytest.raises(DatabaseError, match=expected):
        list(run(database, "INSERT INTO t VALUES (3) RETURNING a"))


@pytest.mark.parametrize(
    ("zone", "since", "until"),
    [
        ("UTC", "2026-03-28 12:00:00", "2026-03-29 12:00:00"),
        ("Europe/Berlin", "2026-03-28 13:00:00", "2026-03-29 14:00:00"),
        ("Pacific/Honolulu", "2026-03-28 02:00:00", "2026-03-29 02:00:00"),
    ],
)
def test_the_window_is_bound_as_text_in_the_zone(
    url: str, zone: str, since: str, until: str
) -> None:
    with connect(url, ZoneInfo(zone)) as database:
        [bounds] = run(database, "SELECT :since, :until, typeof(:since)")
        assert bounds == (since, until, "text")


def test_a_colon_in_quotes_comments_and_names_is_no_parameter(url: str) -> None:
    asked = query(
        """SELECT ':since', ' :until it''s', "a" AS "b :since", `a` /* :until ' */\n"""
        "FROM t -- :since'\n"
        "WHERE a = 1 AND '2026-03-29' > :since"
    )
    with connect(url, UTC) as database:
        columns, rows = database.rows(asked, SINCE, UNTIL)
        assert columns == ("':since'", "' :until it''s'", "b :since", "a")
        assert list(rows) == [(":since", " :until it's", 1, 1)]


def test_columns_are_known_without_rows(url: str) -> None:
    with connect(url, UTC) as database:
        none = query("SELECT a AS first, a AS second FROM t WHERE a > 2")
        columns, rows = database.rows(none, SINCE, UNTIL)
        assert columns == ("first", "second")
        assert list(rows) == []


def test_two_columns_of_one_name_are_an_error_of_the_queries_file(url: str) -> None:
    expected = (
        r"queries\.sql, line 7, query 'some_query': "
        "2 result columns are named 'a': rename all but one with AS"
    )
    with connect(url, UTC) as database, pytest.raises(QueryFileError, match=expected):
        run(database, "SELECT x.a, y.a FROM t x JOIN t y ON x.a = y.a")


def test_a_statement_without_a_result_is_an_error_of_the_queries_file(url: str) -> None:
    expected = (
        r"queries\.sql, line 7, query 'some_query': "
        "this statement returns no rows: a query is a SELECT"
    )
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
    expected = f"Query 'some_query' (queries.sql, line 7) failed: {reason}"
    assert str(caught.value).startswith(expected)


def test_an_error_between_rows_is_a_database_error(tmp_path: Path) -> None:
    script = "CREATE TABLE t (a); INSERT INTO t VALUES (1), (2), (-9223372036854775808)"
    expected = r"'some_query' \(queries.sql, line 7\) failed: integer overflow"
    with connect(create(tmp_path / "a.db", script), UTC) as database:
        rows = iter(run(database, "SELECT abs(a) FROM t"))
        assert next(rows) == (1,)
        with pytest.raises(DatabaseError, match=expected):
            list(rows)


def test_broken_text_is_kept_in_its_cell_and_ends_no_query(tmp_path: Path) -> None:
    script = "CREATE TABLE t (a); INSERT INTO t VALUES ('é'), (CAST(x'41ff' AS TEXT)), ('東')"
    with connect(create(tmp_path / "a.db", script), UTC) as database:
        assert list(run(database, "SELECT a FROM t")) == [("é",), ("A\udcff",), ("東",)]


def test_values_keep_their_types(url: str) -> None:
    sql = "SELECT 1, 1.5, '1', NULL, x'ff', 9223372036854775807, '2026-01-13'"
    with connect(url, UTC) as database:
        [values] = run(database, sql)
    assert values == (1, 1.5, "1", None, b"\xff", 2**63 - 1, "2026-01-13")


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


PSYCOPG = '"sqlalchemy==2.0.58" "psycopg[binary]==3.3.9"'
PYMYSQL = '"sqlalchemy==2.0.58" "PyMySQL==1.2.4"'
PYHIVE = '"sqlalchemy==2.0.58" "pyhive[hive-pure-sasl]==0.7.0"'


@pytest.mark.parametrize(
    ("url", "packages"),
    [
        ("postgresql://u:secret@h/d", PSYCOPG),
        ("postgres://u:secret@h/d", PSYCOPG),
        ("mysql://u:secret@h/d", PYMYSQL),
        ("mariadb://u:secret@h/d", PYMYSQL),
        ("hive://u:secret@h/d", PYHIVE),
        ("hive+http://u:secret@h/d", PYHIVE),
        ("duckdb:///a.db", '"sqlalchemy==2.0.58" "duckdb==2.0.1" "duckdb-engine==0.17.0"'),
        ("trino://u:secret@h/d", '"sqlalchemy==2.0.58" "trino[sqlalchemy]==0.340.0"'),
        ("snowflake://u:secret@h/d", '"sqlalchemy==2.0.58" "snowflake-sqlalchemy==2.1.0"'),
        ("bigquery://h/d", '"sqlalchemy==2.0.58" "sqlalchemy-bigquery==1.17.3"'),
        ("unheard_of+evil://u:secret@h/d", '"sqlalchemy==2.0.58"'),
    ],
)
def test_a_missing_library_is_named_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, url: str, packages: str
) -> None:
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    monkeypatch.setattr(sys, "executable", "/opt/my env/python")
    with pytest.raises(DatabaseError) as caught:
        connect(url, UTC)
    line = f"'/opt/my env/python' -m pip install {packages}"
    assert str(caught.value).endswith(f" is not installed: {line}")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert packages in readme
    assert "secret" not in str(caught.value)


def test_sqlalchemy_is_imported_only_for_databases_that_need_it(url: str) -> None:
    code = (
        "import db, sys, zoneinfo; db.connect(sys.argv[1], zoneinfo.ZoneInfo('UTC')).close();"
        "sys.exit('sqlalchemy' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, url], check=True, cwd=ROOT)


class MySQLResult(list[tuple[object, ...]]):
    """What read_pymysql() knows of a result: rows, and the cursor that they come from."""

    def __init__(self, rows: list[tuple[object, ...]], *types: tuple[int, int | None]) -> None:
        super().__init__(rows)
        description = [("a", code, None, size) for code, size in types]
        self.unread = SimpleNamespace(unbuffered_active=True)
        self.cursor = SimpleNamespace(description=description, _result=self.unread)


def test_json_of_mysql_is_read_where_its_column_says_so() -> None:
    result = MySQLResult([('{"a": [1]}', '{"a": [1]}'), (None, None)], (245, None), (253, 99))
    assert list(read_pymysql(result)) == [({"a": [1]}, '{"a": [1]}'), (None, None)]


@pytest.mark.parametrize(
    ("code", "size", "cells"),
    [
        (1, 1, {1: True, 0: False, 7: 7}),  # TINYINT(1), which BOOLEAN is
        (1, 4, {1: 1}),  # TINYINT
        (16, 1, {b"\x01": True, b"\x00": False}),  # BIT(1)
        (16, 8, {b"\x01": b"\x01"}),  # BIT(8)
        (10, 10, {date(2026, 1, 13): date(2026, 1, 13)}),
        (10, 10, {"0000-00-00": UnreadableTime("0000-00-00")}),
        (7, 19, {"0000-00-00 00:00:00": UnreadableTime("0000-00-00 00:00:00")}),
        (253, 10, {"0000-00-00": "0000-00-00"}),  # VARCHAR
    ],
)
def test_cells_of_mysql_become_what_their_column_is(
    code: int, size: int, cells: dict[object, object]
) -> None:
    result = MySQLResult([(cell,) for cell in [*cells, None]], (code, size))
    found = [value for (value,) in read_pymysql(result)]
    expected = [*cells.values(), None]
    assert found == expected
    assert [type(value) for value in found] == [type(value) for value in expected]


def test_a_cell_of_mysql_that_cannot_be_read_keeps_pymysql_from_reading_on() -> None:
    result = MySQLResult([("{broken",)], (245, None))
    with pytest.raises(ValueError, match="Expecting"):
        list(read_pymysql(result))
    assert not result.unread.unbuffered_active


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///a.db",
        "SQLite:////data/what? no#1 100% a@b:c.db",
        "sqlite+pysqlite:///Łódź 東京.db",
        "sqlite://",  # a URL, though of no file: connect() says so
        "sqlite+pysqlcipher://:pw@/app.db",
        "postgresql://app:pw@db:5432/shop",
        "postgres://db/shop",
        "postgresql+psycopg2://app:p%40ss%2Fw%23@[::1]:5432/shop?sslmode=require&options=-c%20x",
        "mysql://app:a[b:c]d%25@db",
        "mysql:///shop?unix_socket=/run/mysql.sock",
        "unheard_of://db",
        "ibm_db_sa://db",
    ],
)
def test_a_url_of_the_right_form_is_returned_as_it_is(url: str) -> None:
    assert check_url(url) == url


FORM = "a URL, such as sqlite:///customers.db or postgresql://user:password@host/database"
ENCODINGS = (
    ", with what is special in its password percent-encoded "
    "(@ is %40, : is %3A, / is %2F, ? is %3F, # is %23, % is %25)"
)


def check_form_is_refused(url: str, form: str) -> None:
    with pytest.raises(ValueError, match="a URL, such as") as caught:
        check_url(url)
    assert str(caught.value) == form
    with pytest.raises(DatabaseError) as refused:
        connect(url, UTC)
    assert str(refused.value) == f"DATABASE_URL cannot be read: it must be {form}."


@pytest.mark.parametrize(
    "url",
    [
        "",
        "app.db",
        "/var/app.db",
        "sqlite:app.db",
        "sqlite:/app.db",
        "app:pw@db/shop",
        "postgresql:/app:pw@db/shop",
        "://app:pw@db/shop",
        "1db://db/shop",
        "my db://db/shop",
        "sqlite:///a\0.db",
        "sqlite:///a\n.db",
        "sqlite:///a\x1b.db",
        "sqlite:///a\x7f.db",
        "mysql://app:pw@db/shop#1",
        "mysql://app:p w@db/shop",
        "mysql://app:pw@db/my shop",
        "mysql://app:p\nw@db/shop",
        "mysql://app:p\x1bw@db/shop",
        "mysql://app:pw@[::1/shop",
    ],
)
def test_another_form_is_refused_with_what_it_must_be_and_connects_to_nothing(url: str) -> None:
    check_form_is_refused(url, FORM)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://app:p@ss@db/shop",
        "mysql://app:p/w@db/shop",
        "mysql://app:p?w@db/shop",
        "mysql://app:p#w@db/shop",
        "mysql://app:pw@db/shop?x=a@b",
        "trino://me:pw?@db/shop",
    ],
)
def test_where_a_password_seems_not_to_be_encoded_the_error_shows_how(url: str) -> None:
    check_form_is_refused(url, FORM + ENCODINGS)


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
    [
        None,
        True,
        "",
        "soon",
        "2026-01-13",
        "13.01.2026 08:45",
        "2026-02-30 08:45",
        "2026-01-13 25:00",
        "2026-01-13 8:45",
        "2026-01-13 08:45:12 CET",
        "2026-01-13 08:45:12+25:00",
        "2026-01-13 08:45\n10",
        "٢٠٢٦-01-13 08:45",
        "1768293912",
        float("nan"),
        float("inf"),
        10**30,
        1768293912000,
        b"2026-01-13 08:45",
        timedelta(1),
    ],
)
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


@pytest.mark.parametrize(
    ("as_of", "since", "until"),
    [
        ("2026-03-30 12:00", "2026-03-29T12:00:00+02:00", "2026-03-30T12:00:00+02:00"),
        ("2026-03-30", "2026-03-28T23:00:00+01:00", "2026-03-30T00:00:00+02:00"),  # of 24 hours
        ("2026-03-30T12:00:00Z", "2026-03-29T14:00:00+02:00", "2026-03-30T14:00:00+02:00"),
    ],
)
def test_a_window_is_days_of_24_hours_up_to_a_time_or_the_beginning_of_a_date(
    as_of: str, since: str, until: str
) -> None:
    assert [time.isoformat() for time in window(as_of, 1, BERLIN)] == [since, until]


def test_a_window_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="is no time"):
        window("yesterday", 1, BERLIN)
    with pytest.raises(OverflowError):
        window("0001-01-02", 7, BERLIN)


# The spool


def sizes_of_batches(rows: list[tuple[Any, ...]], characters: int) -> list[int]:
    """The rows in each batch, if each row has so many characters; they come back as they were."""
    with tempfile.TemporaryFile() as file:
        written: list[tuple[Any, ...]] = []

        def write(row: tuple[Any, ...]) -> int:
            written.append(row)
            return characters

        assert spool(query(""), iter(rows), file, write) == len(rows)
        batches = list(spooled(file))
    assert [row for batch in batches for row in batch] == written == rows
    return [len(batch) for batch in batches]


@pytest.mark.parametrize(
    ("rows", "characters", "sizes"),
    [
        (0, 1, []),
        (1, 1, [1]),
        (BATCH_ROWS, 1, [BATCH_ROWS]),
        (2 * BATCH_ROWS + 1, 1, [BATCH_ROWS, BATCH_ROWS, 1]),
        (3, BATCH_CHARACTERS, [1, 1, 1]),
        (3, 2 * BATCH_CHARACTERS, [1, 1, 1]),
        (5, BATCH_CHARACTERS // 2, [2, 2, 1]),
        (5, BATCH_CHARACTERS // 2 - 1, [3, 2]),
    ],
)
def test_rows_are_spooled_in_batches_of_so_many_rows_and_characters(
    rows: int, characters: int, sizes: list[int]
) -> None:
    assert sizes_of_batches([(number, None) for number in range(rows)], characters) == sizes


def test_the_spool_keeps_types() -> None:
    numbers = (1, 1.5, Decimal("1.50"), True)
    others = ("a", b"\xff", None, UnreadableTime("infinity"), SINCE, {"a": [1]})
    sizes_of_batches([numbers, others], 1)


def test_a_value_that_cannot_be_kept_is_an_error_of_its_query() -> None:
    rows = [(1,), (lambda: 1,)]
    with tempfile.TemporaryFile() as file, pytest.raises(DatabaseError) as caught:
        spool(query(""), rows, file, lambda row: 1)
    assert str(caught.value).startswith("Query 'some_query' has a value that cannot be kept: ")

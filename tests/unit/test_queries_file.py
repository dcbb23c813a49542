"""The queries file: what is read from it, what is refused, and what the shipped queries return."""

from __future__ import annotations

import sqlite3
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from db import Query, QueryFileError, connect, load_queries
from tests.demo import load_sample_data
from tests.project import ROOT

KEYS = ("email", "userId", "user fields", "event", "event fields", "event time", "event id")
SHIPPED = ROOT / "queries.sql"
SAMPLE_DATA = ROOT / "tests" / "sample_data.sql"
UNTIL = datetime(2026, 1, 13, 12, tzinfo=timezone.utc)
SINCE = UNTIL - timedelta(days=7)


def load(folder: Path, text: str) -> dict[str, Query]:
    path = folder / "queries.sql"
    path.write_bytes(text.encode())
    return load_queries(path, KEYS)


def error_in(folder: Path, text: str) -> str:
    with pytest.raises(QueryFileError) as caught:
        load(folder, text)
    return str(caught.value)


# Reading


def test_a_query_has_prose_keys_and_sql_without_its_semicolon(tmp_path: Path) -> None:
    text = """-- What these queries are for: a test.

-- name: first-one
-- Who viewed what.
--   Note: customers only.
--
-- email: address
-- user fields: plan, name
--
SELECT address, plan, name -- as they stand
FROM customers;  -- all of them

-- name: second
/* not a comment above a query */ SELECT 1
"""
    first, second = load(tmp_path, text).values()
    assert first.name == "first-one"
    assert first.line == 3
    assert first.path == tmp_path / "queries.sql"
    assert first.keys == {"email": "address", "user fields": "plan, name"}
    assert first.key_lines == {"email": 7, "user fields": 8}
    assert first.sql == "SELECT address, plan, name -- as they stand\nFROM customers"
    assert (second.name, second.line, second.keys) == ("second", 13, {})
    assert second.sql == "/* not a comment above a query */ SELECT 1"


def test_windows_line_endings_and_a_byte_order_mark_are_accepted(tmp_path: Path) -> None:
    text = "\ufeff-- name: x\r\n-- Prose\r\n-- email: a\r\nSELECT a\r\nFROM t;\r\n"
    query = load(tmp_path, text)["x"]
    assert (query.keys, query.sql) == ({"email": "a"}, "SELECT a\nFROM t")


def test_an_error_about_a_query_or_one_of_its_keys_names_file_line_and_query(
    tmp_path: Path,
) -> None:
    query = load(tmp_path, "\n-- name: x\n-- email: a\nSELECT a")["x"]
    path = tmp_path / "queries.sql"
    of_query = query.error("no such thing")
    of_its_key = query.error("no such column", "email")
    of_another_key = query.error("missing", "event")
    assert str(of_query) == f"{path}, line 2, query 'x': no such thing"
    assert str(of_its_key) == f"{path}, line 3, query 'x': no such column"
    assert str(of_another_key) == f"{path}, line 2, query 'x': missing"


@pytest.mark.parametrize(
    "comment",
    [
        "-- Note: customers only",
        "-- See also: the report below",
        "-- TODO: index this",
        "-- Source: https://example.com/events",
        "-- Users: those with a login",
        "-- Filter: plan = 'pro'",
        "-- Owner: data team",
        "-- Time: UTC",
        "-- Events and users are matched by id: both are needed",
        "-- email without a colon",
        "-- 10:30 is when it runs",
        "-- Emails: only confirmed ones",
        "-- Event date: the day of the view",
        "-- The email: as Iterable has it",
        "-- names: of whom we know",
    ],
)
def test_ordinary_prose_is_no_near_miss_of_a_key(tmp_path: Path, comment: str) -> None:
    text = f"{comment}\n-- name: x\n{comment}\n-- email: a\nSELECT a {comment}\nFROM t"
    assert load(tmp_path, text)["x"].keys == {"email": "a"}


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 'a :x', ':x', 'it''s :x', ' -- :x', '\\'",
        'SELECT ":x", "a "" :x", `b :x`',
        "SELECT 1 -- :x it's",
        "SELECT /* :x it's\n; */ 1",
        "SELECT $$it's :x; $$, $tag$ $$ :x ; $tag$",
        r"SELECT E'it\'s :x; ', e'\\'",
        "SELECT a::text, '1'::integer, (a)::x, :since::timestamp",
        "SELECT a[1:2], a[lo:hi], a[:n], b[(1):n], ARRAY[:since, :until]",
        'SELECT a:b, "A":b, (a):b, a[0]:b, f(a := 1)',
        "SELECT 1 WHERE t>=:since AND t<=:until;\n\n-- the end\n;",
        "SELECT $1, a$b$c FROM t",
        "/* a */ -- b\n(SELECT 1)",
        "with t AS (SELECT 1) SELECT * FROM t",
        "VALUES(1)",
    ],
)
def test_a_colon_semicolon_or_quote_that_is_not_one_is_left_alone(tmp_path: Path, sql: str) -> None:
    assert load(tmp_path, f"-- name: x\n{sql}")["x"].sql == sql.partition(";\n\n")[0]


# Refusing


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("SELECT 1", 1, "text before the first query: begin it with '-- name: x'"),
        ("-- a comment\nSELECT 1\n-- name: x\nSELECT 1", 2, "text before the first query"),
        ("-- Name: x\nSELECT 1", 1, "'-- Name:' looks like '-- name:'"),
        ("-- names: x\nSELECT 1", 2, "text before the first query: begin it with '-- name: x'"),
        ("-- name:\nSELECT 1", 1, "'' is no name for a query: use letters, digits, _ and -"),
        ("-- name: two words\nSELECT 1", 1, "'two words' is no name"),
        ("-- name: x^\nSELECT 1", 1, "'x^' is no name"),
        ("-- name: 1x\nSELECT 1", 1, "'1x' is no name"),
    ],
)
def test_a_file_that_does_not_begin_with_a_query_is_refused(
    tmp_path: Path, text: str, line: int, message: str
) -> None:
    assert f"queries.sql, line {line}: " in error_in(tmp_path, text)
    assert message in error_in(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("SELECT 1\n-- name: x\nSELECT 2", 3, "line 1 has a query of that name"),
        ("", 1, "there is no SQL"),
        ("-- email: a\n\n", 1, "there is no SQL"),
        ("/* SELECT 1; */\n", 1, "there is no SQL"),
        (";", 1, "there is no SQL"),
        ("SELECT 1;\nSELECT 2", 3, "a second statement begins here"),
        ("SELECT ';' ; -- a; b\n /* c */ ;\n DROP TABLE t", 4, "a second statement begins here"),
        ("DELETE FROM t", 2, "this is no query: it begins with SELECT, WITH, VALUES or ("),
        ("-- email: a\n\n/* SELECT */\n  create TABLE t (a)", 5, "this is no query"),
        ("SELECTED", 2, "this is no query"),
        ("SELECT 'a", 2, "nothing closes this '"),
        ("SELECT 'it\\'s'", 2, "write a quote inside quotes twice"),
        ('SELECT 1,\n"a', 3, 'nothing closes this "'),
        ("SELECT 1 /* a", 2, "nothing closes this /*"),
        ("SELECT a\nFROM t\nWHERE a = :user", 4, ":user is neither :since nor :until"),
        ("SELECT 1 WHERE a = :since_day", 2, ":since_day is neither"),
        ("SELECT 1 WHERE a = :Since", 2, ":Since is neither"),
        ("SELECT 'a''b' = :x", 2, ":x is neither"),
        ("-- email: a\n-- email: b\nSELECT a", 3, "the key 'email' is here a second time"),
        ("-- email:\nSELECT a", 2, "the key 'email' has no value"),
        (
            "-- email: a\n-- userfields: b\nSELECT a",
            3,
            "'-- userfields:' looks like '-- user fields:'",
        ),
        (
            "-- email: a\n-- user field: b\nSELECT a",
            3,
            "'-- user field: b' is none of the keys (email, userId, ",
        ),
        (
            "-- email: a\n-- properties: b\nSELECT a",
            3,
            "'-- properties: b' is none of the keys (email, userId, ",
        ),
        ("-- email: a\n-- Prose\nSELECT a", 3, "prose belongs above them"),
        ("-- event fields: a,\n--    b\nSELECT a, b", 3, "'--    b' is none of the keys"),
        (
            "SELECT a\n-- event: x\nFROM t",
            3,
            "'-- event:' has no effect here: it belongs between '-- name:' and the SQL",
        ),
        ("SELECT a -- email: a\nFROM t", 2, "'-- email:' has no effect here"),
        (
            "SELECT a\n  -- User Fields: a\nFROM t",
            3,
            "'-- User Fields:' looks like '-- user fields:'",
        ),
    ],
)
def test_a_mistake_in_a_query_is_named_with_its_line(
    tmp_path: Path, text: str, line: int, message: str
) -> None:
    error = error_in(tmp_path, f"-- name: x\n{text}")
    assert f"queries.sql, line {line}, query 'x': " in error
    assert message in error


@pytest.mark.parametrize(
    ("label", "key"),
    [
        ("-- User Fields:", "user fields"),
        ("-- user_fields:", "user fields"),
        ("-- userFields :", "user fields"),
        ("-- Email:", "email"),
        ("-- e-mail:", "email"),
        ("--email:", "email"),
        ("-- email :", "email"),
        ("---- email:", "email"),
        ("-- userid:", "userId"),
        ("-- user id:", "userId"),
        ("-- user_id:", "userId"),
        ("-- User-ID:", "userId"),
        ("-- EVENT FIELDS:", "event fields"),
        ("-- EVENT:", "event"),
        ("-- event-time :", "event time"),
        ("-- event  time:", "event time"),
        ("-- eventId:", "event id"),
    ],
)
def test_a_near_miss_of_a_key_is_refused_wherever_it_stands(
    tmp_path: Path, label: str, key: str
) -> None:
    prose = f"-- name: x\n{label} a\nSELECT a"
    keys = f"-- name: x\n-- Prose.\n-- event: y\n\n{label} a\nSELECT a"
    message = f"looks like '-- {key}:': write it exactly so, or reword the comment"
    for text, line in ((prose, 2), (keys, 5)):
        error = error_in(tmp_path, text)
        assert f"queries.sql, line {line}, query 'x': " in error
        assert message in error


@pytest.mark.parametrize("text", ["", "\n\n", "-- only a comment\n"])
def test_a_file_without_queries_is_refused(tmp_path: Path, text: str) -> None:
    expected = "queries.sql holds no query: begin each with a line '-- name: x'"
    assert error_in(tmp_path, text).endswith(expected)


def test_a_file_that_cannot_be_read_is_refused_with_the_reason(tmp_path: Path) -> None:
    expected = r"missing\.sql cannot be read: No such file or directory"
    with pytest.raises(QueryFileError, match=expected):
        load_queries(tmp_path / "missing.sql", KEYS)
    with pytest.raises(QueryFileError, match="cannot be read: it is a directory"):
        load_queries(tmp_path, KEYS)


def test_a_file_that_is_too_large_to_be_written_by_a_person_is_refused(tmp_path: Path) -> None:
    text = "-- name: x\nSELECT 1\n"
    assert load(tmp_path, text + "\n" * (1_000_000 - len(text)))
    error = error_in(tmp_path, "\n" * 1_000_001)
    assert "it has more than 1,000,000 bytes" in error


def test_a_file_that_is_not_utf_8_is_refused_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "queries.sql"
    path.write_bytes("-- name: x\n-- Kunden aus Köln\nSELECT 1".encode("latin-1"))
    expected = r"queries\.sql, line 2: this is not UTF-8: save the file as UTF-8"
    with pytest.raises(QueryFileError, match=expected):
        load_queries(path, KEYS)


# The shipped queries on the sample data


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """The rows of every shipped query, by its name."""
    path = tmp_path_factory.mktemp("sample") / "sample.db"
    load_sample_data(path)
    found = {}
    with connect(f"sqlite:///{path}", ZoneInfo("UTC")) as database:
        for query in load_queries(SHIPPED, KEYS).values():
            columns, rows = database.rows(query, SINCE, UNTIL)
            found[query.name] = [dict(zip(columns, row, strict=True)) for row in rows]
    return found


def test_the_sample_data_has_16_customers_at_example_com_and_40_views() -> None:
    connection = sqlite3.connect(":memory:")
    connection.executescript(SAMPLE_DATA.read_text(encoding="utf-8"))
    customers = "SELECT COUNT(*), COUNT(DISTINCT email) FROM customers"
    assert connection.execute(customers).fetchone() == (16, 16)
    at_example_com = "SELECT COUNT(*) FROM customers WHERE email LIKE '%@example.com'"
    assert connection.execute(at_example_com).fetchone() == (16,)
    views = "SELECT COUNT(*) FROM page_views JOIN customers c ON c.id = user_id"
    assert connection.execute(views).fetchone() == (40,)
    connection.close()


def test_the_default_query_returns_the_five_engaged_pro_users(
    results: dict[str, list[dict[str, Any]]],
) -> None:
    rows = results["pro_users_recent_engagement"]
    assert ", ".join(rows[0]) == (
        "id, email, first_name, last_name, plan_type, candidate, "
        "page, device, browser, location, event_time"
    )
    assert [(row["id"], row["page"], row["event_time"]) for row in rows] == [
        # not the later view of another page
        (1, "pricing", "2026-01-13 08:45:12"),
        # of two views in one second the one with the higher id
        (2, "pricing", "2026-01-11 17:30:00"),
        # both ends of the window belong to it
        (3, "settings", "2026-01-06 12:00:00"),
        (4, "settings", "2026-01-13 12:00:00"),
        (5, "settings", "2026-01-12 07:03:44"),
    ]
    assert {row["plan_type"] for row in rows} == {"pro"}


def test_every_latest_view_is_among_the_views_and_later_than_the_others(
    results: dict[str, list[dict[str, Any]]],
) -> None:
    views = results["pro_users_page_views"]
    for latest in results["pro_users_recent_engagement"]:
        own = [view for view in views if view["id"] == latest["id"]]
        assert own[-1] == {column: latest[column] for column in own[-1]}
        for view in own:
            assert view["event_time"] <= latest["event_time"]
    assert {view["id"] for view in views} == {1, 2, 3, 4, 5}


def test_the_report_counts_the_views_and_users_of_the_other_queries(
    results: dict[str, list[dict[str, Any]]],
) -> None:
    expected = []
    for page in ("pricing", "settings"):
        users = [view["id"] for view in results["pro_users_page_views"] if view["page"] == page]
        expected.append({"page": page, "views": len(users), "users": len(set(users))})
    assert results["engagement_by_page"] == expected


def test_both_queries_give_a_view_the_same_event() -> None:
    shipped = load_queries(SHIPPED, KEYS)
    latest = dict(shipped["pro_users_recent_engagement"].keys)
    assert latest.pop("user fields")
    assert latest == shipped["pro_users_page_views"].keys

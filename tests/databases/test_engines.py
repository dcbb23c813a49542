"""What every engine must give: SQLite, DuckDB, PostgreSQL, MariaDB and Spark, as they are.

`pytest -m servers` starts the servers. SQLite, which every other test runs on, is the measure.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest

from db import DatabaseError, connect
from tests import demo
from tests.databases.queries import run
from tests.databases.servers import (
    Spark,
    execute,
    load_sample_data,
    mariadb,
    postgresql,
    setting_zone,
    spark,
)
from tests.project import ROOT, Finished, Project, new_project, wait_until

pytestmark = pytest.mark.servers

ENGINES = ("sqlite", "duckdb", "postgresql", "mariadb", "spark")
QUERIES = ("pro_users_recent_engagement", "pro_users_page_views")
ZONES = ("UTC", "Europe/Berlin")
MANY = 100_000

Json = dict[str, Any]
Urls = dict[str, str]


@pytest.fixture(scope="module")
def spark_server() -> Iterator[Spark]:
    """Spark's Thrift server."""
    with spark() as server:
        yield server


@pytest.fixture(scope="module")
def urls(spark_server: Spark, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Urls]:
    """The URL of each engine."""
    folder = tmp_path_factory.mktemp("engines")
    demo.load_sample_data(folder / "app.db")
    execute(f"duckdb:///{folder}/app.duckdb", "SELECT 1")
    with postgresql() as postgresql_url, mariadb() as mariadb_url:
        yield {
            "sqlite": f"sqlite:///{folder}/app.db",
            "duckdb": f"duckdb:///{folder}/app.duckdb",
            "postgresql": postgresql_url,
            "mariadb": mariadb_url,
            "spark": spark_server.url,
        }


@pytest.fixture(params=ENGINES)
def engine(project: Project, urls: Urls, request: pytest.FixtureRequest) -> str:
    """A test that takes this runs on each engine; `project` uses it."""
    project.settings["DATABASE_URL"] = urls[request.param]
    return str(request.param)


def dry_run(project: Project, *args: str, code: int = 0, **settings: str) -> Json:
    """What a dry run leaves that must not depend on the engine: requests, ids, CSV, reports.

    No driver logs an address, either, though all may log what they like.
    """
    done = project.run("--dry-run", *args, LOG_LEVEL="DEBUG", **settings)
    assert (done.code, done.err) == (code, "")
    assert "@example.com" not in done.log
    results = done.results
    for record in results["records"]:
        del record["timestamp"]
    found = {name: results[name] for name in ("total_users", "reports", "records")}
    return {**found, "csv": done.rows}


# --- The sample data


@pytest.fixture(scope="module", params=ZONES)
def reference(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, list[Json]]:
    """A zone, and what SQLite gives in it."""
    project = new_project(tmp_path_factory.mktemp("sqlite") / "project", None)
    zone = {"DATABASE_TIMEZONE": request.param}
    return request.param, [dry_run(project, "--query", query, **zone) for query in QUERIES]


def drop_sample_data(url: str) -> None:
    execute(url, "DROP TABLE IF EXISTS page_views", "DROP TABLE IF EXISTS customers")


def test_the_shipped_queries_give_the_same_on_every_engine_in_every_zone(
    reference: tuple[str, list[Json]], project: Project, engine: str, urls: Urls
) -> None:
    zone, expected = reference
    if engine != "sqlite":
        drop_sample_data(urls[engine])
        load_sample_data(urls[engine], zone)
    found = []
    for query in QUERIES:
        found.append(dry_run(project, "--query", query, DATABASE_TIMEZONE=zone))
    assert found == expected
    assert [part["total_users"] for part in found] == [5, 10]
    assert len(found[0]["reports"]["engagement_by_page"]) == 2


def test_no_rows_are_no_rows_on_every_engine(project: Project, engine: str, urls: Urls) -> None:
    if engine != "sqlite":
        drop_sample_data(urls[engine])
        load_sample_data(urls[engine])
    found = dry_run(project, "--as-of", "2020-01-01")
    assert found["records"] == []
    [columns] = found["csv"]
    assert columns[:2] + columns[-2:] == ["id", "email", "location", "event_time"]
    assert found["reports"] == {"engagement_by_page": []}


# --- Many rows

NUMBERS = {  # of new customers
    "sqlite": (
        "(WITH RECURSIVE n (i) AS (SELECT 101 UNION ALL SELECT i + 1 FROM n "  # noqa: S608
        f"WHERE i < {100 + MANY}) SELECT i FROM n) AS numbers"
    ),
    "duckdb": f"range(101, {101 + MANY}) AS numbers (i)",
    "postgresql": f"generate_series(101, {100 + MANY}) AS numbers (i)",
    "mariadb": f"(SELECT seq AS i FROM seq_101_to_{100 + MANY}) AS numbers",  # noqa: S608
    "spark": f"range(101, {101 + MANY}) AS numbers (i)",
}


def add_customers(url: str, engine: str) -> None:
    """Adds many pro customers, each with a view."""
    email = "CONCAT('user', i, '@example.com')"
    if engine == "sqlite":  # before 3.44
        email = "'user' || i || '@example.com'"
    name = "CASE WHEN i % 1000 = 0 THEN 'Łódź' END"
    time = "TIMESTAMP '2026-01-10 10:00:00'"
    if engine == "sqlite":
        time = "'2026-01-10 10:00:00'"
    customers = f"SELECT i, {email}, {name}, NULL, 'pro', NULL FROM {NUMBERS[engine]}"  # noqa: S608
    views = f"SELECT i, i, 'pricing', NULL, 'Firefox', NULL, {time} FROM {NUMBERS[engine]}"  # noqa: S608
    statements = [f"INSERT INTO customers {customers}", f"INSERT INTO page_views {views}"]
    if engine != "sqlite":
        statements.insert(0, setting_zone(url, "UTC"))
    execute(url, *statements)


@pytest.fixture(scope="module")
def many_on_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Json:
    """What SQLite gives of many rows."""
    project = new_project(tmp_path_factory.mktemp("many") / "project", None)
    add_customers(project.settings["DATABASE_URL"], "sqlite")
    return dry_run(project)


@pytest.mark.parametrize("engine", ENGINES[1:], indirect=True)
def test_many_rows_are_the_same_on_every_engine(
    many_on_sqlite: Json, project: Project, engine: str, urls: Urls
) -> None:
    drop_sample_data(urls[engine])
    load_sample_data(urls[engine])
    add_customers(urls[engine], engine)
    found = dry_run(project)
    assert found["total_users"] == MANY + 5
    assert found["csv"] == many_on_sqlite["csv"]
    assert found["records"] == many_on_sqlite["records"]
    assert found["reports"] == many_on_sqlite["reports"]


MILLION = {
    "postgresql": "generate_series(1, 1000000) AS numbers (n)",
    "mariadb": "(SELECT seq AS n FROM seq_1_to_1000000) AS numbers",
    "spark": "range(0, 1000000, 1, 8) AS numbers (n)",
}


@pytest.mark.parametrize("server", MILLION)
def test_a_million_rows_take_no_more_memory_than_a_few(urls: Urls, server: str) -> None:
    sql = f"SELECT n, CONCAT('user', n, '@example.com') AS email FROM {MILLION[server]}"  # noqa: S608
    command = [sys.executable, "-m", "tests.databases.memory", urls[server], sql]
    output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    count, mebibytes = map(int, output.stdout.split())
    assert count == 1_000_000
    assert mebibytes < 16
    assert output.stderr == ""


# --- Types


class Column(NamedTuple):
    """A column of every row, how each engine of ENGINES writes it, and what Iterable gets."""

    field: str  # its name and type
    sql: tuple[str, str, str, str, str]
    arrives: Any


DAY, TIME = "DATE '2026-01-13'", "TIMESTAMP '2026-07-13 08:45:12'"
TEXT = "'Łódź 東京 🎉'"
COLUMNS = [
    Column(
        "amount decimal",
        ("10", "10::DECIMAL(12,1)", "10::numeric(12,1)", "CAST(10 AS DECIMAL(12,1))", "10.0BD"),
        10.0,
    ),
    Column("total", ("9007199254740993",) * 5, 9007199254740993),
    Column("active boolean", ("1", "true", "true", "TRUE", "true"), True),
    Column("born date", ("'2026-01-13'", DAY, DAY, DAY, DAY), "2026-01-13"),
    Column("day", ("'2026-01-13'", DAY, DAY, DAY, DAY), "2026-01-13"),
    Column(
        "seen timestamp",
        ("'2026-07-13 08:45:12'", TIME, TIME, TIME, TIME),
        "2026-07-13 06:45:12 +00:00",  # TIME is Berlin's
    ),
    Column("nobody", ("NULL",) * 5, None),
    Column("note", (TEXT,) * 5, "Łódź 東京 🎉"),
    Column(
        "tags json",
        (
            """'["a", "b"]'""",
            "['a', 'b']",
            "ARRAY['a', 'b']",
            """'["a", "b"]'""",
            "array('a', 'b')",
        ),
        ["a", "b"],
    ),
    Column(
        "prefs json",
        (
            """'{"a": 1}'""",
            "MAP {'a': 1}",
            """'{"a": 1}'::jsonb""",
            """'{"a": 1}'""",
            "map('a', 1)",
        ),
        {"a": 1},
    ),
]
BINARY = ("x'ff00'", r"'\xFF\x00'::BLOB", r"'\xff00'::bytea", "x'ff00'", "x'ff00'")


def test_types_arrive_the_same_from_every_engine(project: Project, engine: str) -> None:
    place = ENGINES.index(engine)
    cells = []
    for column in COLUMNS:
        cells.append(f"{column.sql[place]} AS {column.field.split()[0]}")
    project.queries(f"""\
-- name: kinds
-- email: email
-- user fields: attachment
-- event: seen
-- event fields: {", ".join(column.field for column in COLUMNS)}
-- event time: seen
-- event id: id, day, total, note, seen
SELECT 1 AS id, 'u1@example.com' AS email, {", ".join(cells)}, {BINARY[place]} AS attachment
""")
    found = dry_run(project, "--query", "kinds", code=1, DATABASE_TIMEZONE="Europe/Berlin")
    [record] = found["records"]
    fields = record["events_track"]["request"]["dataFields"]
    expected = {column.field.split()[0]: column.arrives for column in COLUMNS}
    # As text, since True is 1 in Python and 10 is 10.0
    assert json.dumps(fields, sort_keys=True) == json.dumps(expected, sort_keys=True)
    assert record["event_id"] == "bcc9cb98-9203-57d1-86b7-98acd6ae53c4"
    assert record["users_update"]["response"]["code"] == "InvalidValue"
    assert found["csv"][1][-1] == r"\xff00"


LOCAL_TIME = {  # of a moment, as the session shows it
    "duckdb": "LEFT(CAST(to_timestamp(1783925112) AS VARCHAR), 19)",
    "postgresql": "LEFT(CAST(to_timestamp(1783925112) AS text), 19)",
    "mariadb": "LEFT(CAST(FROM_UNIXTIME(1783925112) AS CHAR), 19)",
    "spark": "LEFT(CAST(timestamp_seconds(1783925112) AS STRING), 19)",
}


@pytest.mark.parametrize("engine", ENGINES[1:], indirect=True)
@pytest.mark.parametrize(
    ("zone", "text"), [("UTC", "2026-07-13 06:45:12"), ("Europe/Berlin", "2026-07-13 08:45:12")]
)
def test_the_session_is_in_the_zone(urls: Urls, engine: str, zone: str, text: str) -> None:
    with connect(urls[engine], ZoneInfo(zone)) as database:
        assert list(run(database, f"SELECT {LOCAL_TIME[engine]} AS text")) == [(text,)]


def test_times_that_python_cannot_hold_end_no_query_on_spark(urls: Urls) -> None:
    sql = "SELECT TIMESTAMP '10000-01-01 00:00:00' AS time, DATE '10000-01-01' AS day"
    with connect(urls["spark"], ZoneInfo("UTC")) as database:
        [(moment, day)] = run(database, sql)
        assert (str(moment), str(day)) == ("+10000-01-01 00:00:00", "+10000-01-01")


# --- Refusals

HEAD = "-- name: pro_users_recent_engagement\n-- email: email\n-- user fields: page\n"


def check_failed(project: Project, done: Finished, reason: str) -> None:
    """The run ended with 3 and one line; nobody's address or name is in it or in the log."""
    assert (done.code, done.out) == (3, "")
    assert re.fullmatch(rf"main\.py: [^\n]*({reason})[^\n]*\.\n", done.err)
    left = sorted(path.name for path in project.output.iterdir())
    assert left == [".iterable_integration.lock", "iterable_integration.log"]
    assert done.log.count(" ERROR ") == 1
    for text in (done.err, done.log):
        assert "Jane" not in text
        assert "Traceback" not in text
        assert "java:" not in text


def test_a_missing_table_is_one_line(project: Project, engine: str) -> None:
    project.queries(f"{HEAD}SELECT * FROM nowhere WHERE 'Jane@example.com' > :until")  # noqa: S608
    reason = "queries.sql, line 1.* (no such table: nowhere|(cannot be found|exist))"
    check_failed(project, project.run(LOG_LEVEL="DEBUG"), reason)


CASTS = {
    "duckdb": "CAST('Jane' AS INTEGER)",
    "postgresql": "CAST('Jane' AS INTEGER)",
    "spark": "CAST('Jane' AS INTEGER)",
}


@pytest.mark.parametrize("engine", CASTS, indirect=True)
def test_an_error_does_not_quote_a_cell(project: Project, engine: str) -> None:
    project.queries(f"{HEAD}SELECT 'a' AS email, {CASTS[engine]} AS page")
    check_failed(project, project.run(LOG_LEVEL="DEBUG"), r"queries.sql, line 1.*\*\*\*")


@pytest.mark.parametrize("engine", ENGINES[2:], indirect=True)
@pytest.mark.parametrize("edit", [("127.0.0.1", "no-such-host.invalid"), (r"1:\d+/", "1:9/")])
def test_a_server_that_cannot_be_reached_is_one_line(
    project: Project, engine: str, edit: tuple[str, str]
) -> None:
    url = re.sub(*edit, project.settings["DATABASE_URL"], count=1)
    done = project.run(DATABASE_URL=url, LOG_LEVEL="DEBUG")
    check_failed(project, done, "Cannot use .*Check DATABASE_URL")


def test_a_mistyped_path_of_duckdb_is_an_error_and_becomes_no_file(
    project: Project, tmp_path: Path
) -> None:
    done = project.run(DATABASE_URL=f"duckdb:///{tmp_path}/none.duckdb")
    check_failed(project, done, "database does not exist")
    assert not (tmp_path / "none.duckdb").exists()


def test_duckdb_is_read_only(project: Project, urls: Urls) -> None:
    execute(urls["duckdb"], "CREATE SEQUENCE IF NOT EXISTS numbers")
    project.queries(f"{HEAD}SELECT 'a' AS email, nextval('numbers') AS page")
    done = project.run(DATABASE_URL=urls["duckdb"])
    check_failed(project, done, "read-only")


# --- A statement that takes long on Spark

SLEEP = "java_method('java.lang.Thread', 'sleep', 600000L) IS NULL"
SELECT = f"{HEAD}SELECT CONCAT(id, '@example.com') AS email, id AS page FROM "  # noqa: S608
SLOW = {
    "rows": f"{SELECT} range(0, 20000, 1, 20) WHERE id < 10000 OR {SLEEP}",
    "no rows": f"{SELECT} range(0, 20000, 1, 20) WHERE {SLEEP} ORDER BY id",
}


def start_slow(project: Project, server: Spark, rows: str) -> subprocess.Popen[str]:
    """A run that waits for Spark, which is at work for nobody else."""
    wait_for_jobs(server)
    project.queries(SLOW[rows])
    process = project.start(DATABASE_URL=server.url)
    wait_until(lambda: "RUNNING" in server.jobs(), process)
    if rows == "rows":

        def has_rows() -> bool:
            return any(path.stat().st_size for path in project.output.glob("*.part"))

        wait_until(has_rows, process)
    return process


def wait_for_jobs(server: Spark) -> None:
    """Returns when Spark is at work no more, well before the slow statement would have ended."""
    deadline = time.monotonic() + 60
    while "RUNNING" in server.jobs():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("rows", SLOW)
def test_sigterm_ends_the_run_and_the_statement_on_spark(
    project: Project, spark_server: Spark, rows: str
) -> None:
    process = start_slow(project, spark_server, rows)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    done = project.finish(process)
    assert time.monotonic() - began < 12
    assert (done.code, done.out) == (143, "")
    assert done.err == "main.py: interrupted before anything of this query was sent\n"
    assert done.log.count(" ERROR ") == 1
    wait_for_jobs(spark_server)


def test_a_server_killed_in_the_middle_is_one_line(project: Project) -> None:
    with spark() as server:
        process = start_slow(project, server, "rows")
        server.process.kill()
        done = project.finish(process)
    check_failed(project, done, "queries.sql, line 1")


# --- Engines of which only the client is here


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        # A password goes over TLS, whatever the port
        ("trino://app:s3cret@127.0.0.1:9/shop", "HTTPSConnectionPool.*Connection refused"),
        ("trino://app@127.0.0.1:9/shop", "HTTPConnectionPool.*Connection refused"),
        ("trino://:s3cret@127.0.0.1:9/shop", "Username is required"),
        ("trino://app:s3cret@127.0.0.1:9/a/b/c", "Unexpected database format a/b/c"),
        ("snowflake://app:s3cret@/shop", "account: Missing required parameter"),
        ("snowflake://app:s3cret@127.0.0.1:9/shop?login_timeout=1", "Failed to login"),
        ("hive://app:s3cret@127.0.0.1:9/shop", "Password should be set if and only if in LDAP"),
        ("hive://app:s3cret%25@127.0.0.1:9/shop?auth=LDAP", "Could not connect"),
    ],
)
def test_what_a_client_says_of_its_url_is_shown_in_one_line(url: str, reason: str) -> None:
    with pytest.raises(DatabaseError, match=reason) as caught:
        connect(url, ZoneInfo("UTC"))
    text = str(caught.value)
    assert "s3cret" not in text
    assert "\n" not in text
    assert "%40" not in text


def test_a_session_of_trino_is_in_the_zone() -> None:
    zones = []

    class Coordinator(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            zones.append(self.headers["X-Trino-Time-Zone"])
            self.send_error(403)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Coordinator) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            with pytest.raises(DatabaseError, match="403"):
                connect(f"trino://app@127.0.0.1:{server.server_port}/shop", ZoneInfo("Asia/Tokyo"))
        finally:
            server.shutdown()
    assert set(zones) == {"Asia/Tokyo"}


def test_where_a_password_seems_not_to_be_encoded_a_refusal_shows_how(urls: Urls) -> None:
    url = re.sub(r"//app:[^@]*@", "//app:100%@", urls["postgresql"])
    with pytest.raises(DatabaseError, match=r"authentication failed.* % is %25"):
        connect(url, ZoneInfo("UTC"))

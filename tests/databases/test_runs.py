"""Whole runs against SQLite, PostgreSQL and MariaDB.

What arrives at Iterable, what a failure leaves, how much memory a run takes. `pytest -m servers`
starts both servers; a server or a driver that is missing is an error, and nothing is skipped.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import quote
from zoneinfo import ZoneInfo

import pytest
import requests

from db import connect
from tests.databases import typed_cells
from tests.databases.queries import run
from tests.databases.servers import (
    PASSWORD,
    execute,
    mariadb,
    postgresql,
    sample_statements,
    setting_zone,
)
from tests.fake_iterable import FakeIterable
from tests.project import ROOT, Finished, Project, check_counts, new_project
from tests.wire import sent_items

pytestmark = pytest.mark.servers

DATABASES = ("sqlite", "postgresql", "mariadb")
ZONES = ("UTC", "Europe/Berlin", "Pacific/Honolulu")  # all known to the servers
UTC = ZoneInfo("UTC")
WAIT_SECONDS = 60  # for what takes one

Json = dict[str, Any]


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, str]]:
    """The URLs of a PostgreSQL and a MariaDB server."""
    with postgresql() as postgresql_url, mariadb() as mariadb_url:
        yield {"postgresql": postgresql_url, "mariadb": mariadb_url}


@pytest.fixture(params=DATABASES)
def database(project: Project, servers: dict[str, str], request: pytest.FixtureRequest) -> str:
    """A test that takes this runs on each database; `project` uses it."""
    project.settings["DATABASE_URL"] = servers.get(request.param, project.settings["DATABASE_URL"])
    return str(request.param)


@pytest.fixture(params=DATABASES[1:])
def with_server(project: Project, servers: dict[str, str], request: pytest.FixtureRequest) -> str:
    """A test that takes this runs on each database that is a server; `project` uses it."""
    project.settings["DATABASE_URL"] = servers[request.param]
    return str(request.param)


def change(project: Project, zone: str, *statements: str) -> None:
    """Runs statements on the project's database, in a session of that zone if it has sessions."""
    url = project.settings["DATABASE_URL"]
    if url.startswith("sqlite"):
        project.sql(";\n".join(statements))
    else:
        execute(url, setting_zone(url, zone), *statements)


def ask(project: Project, sql: str) -> list[tuple[Any, ...]]:
    """The rows of a query on the project's database."""
    with connect(project.settings["DATABASE_URL"], UTC) as connection:
        return list(run(connection, sql))


# --- The same data arrive from every database


def arrived(project: Project, server: FakeIterable, *args: str) -> Json:
    """All that came of a run: requests, events, what both files say."""
    server.reset()
    done = project.run(*args)
    assert (done.code, done.err) == (0, "")
    results = done.results
    check_counts(results, len(done.rows) - 1)
    for record in results["records"]:
        del record["timestamp"]
    return {
        "sent": sorted((seen.path, dump(seen.body)) for seen in server.requests),
        "events": server.events,
        "csv": done.rows,
        "total_users": results["total_users"],
        "successful": results["successful"],
        "reports": results["reports"],
        "records": results["records"],
    }


def dump(fields: Any) -> str:
    """Fields to compare by type, too: here True is not 1, and 10 not 10.0."""
    return json.dumps(fields, sort_keys=True)


QUERIES = ("pro_users_recent_engagement", "pro_users_page_views")
LATEST = {  # when, in the sample data, each of the five customers was last there
    "amara.okafor@example.com": "2026-01-13 08:45:12",
    "sofia.nunez@example.com": "2026-01-11 17:30:00",
    "wei.zhang@example.com": "2026-01-06 12:00:00",  # the window's first second
    "liam.obrien@example.com": "2026-01-13 12:00:00",  # its last
    "lukasz.wisniewski@example.com": "2026-01-12 07:03:44",
}
REPORT = [{"page": "pricing", "views": 5, "users": 3}, {"page": "settings", "views": 5, "users": 5}]


@pytest.fixture(scope="module", params=ZONES)
def reference(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, list[Json]]:
    """A zone, and what SQLite sends in it."""
    with FakeIterable() as server:
        project = new_project(tmp_path_factory.mktemp("sqlite"), server)
        project.settings["DATABASE_TIMEZONE"] = request.param
        return request.param, [arrived(project, server, "--query", query) for query in QUERIES]


def test_the_shipped_queries_send_and_leave_the_same_from_every_database_in_every_zone(
    reference: tuple[str, list[Json]], project: Project, database: str, server: FakeIterable
) -> None:
    zone, expected = reference
    change(project, zone, "DROP TABLE IF EXISTS page_views", "DROP TABLE IF EXISTS customers")
    change(project, zone, *sample_statements())
    project.settings["DATABASE_TIMEZONE"] = zone
    found = [arrived(project, server, "--query", query) for query in QUERIES]
    assert found == expected
    latest, all_views = found
    times = {}
    for event in latest["events"].values():
        times[event["email"]] = in_zone(event["createdAt"], zone)
    assert times == LATEST
    # An event has one id, whichever query sends it
    assert latest["events"].items() <= all_views["events"].items()
    assert (latest["total_users"], all_views["total_users"]) == (5, 10)
    for part in found:
        assert part["reports"] == {"engagement_by_page": REPORT}


def in_zone(timestamp: float, zone: str) -> str:
    """What clocks there show at that moment."""
    return f"{datetime.fromtimestamp(timestamp, ZoneInfo(zone)):%Y-%m-%d %H:%M:%S}"


MOMENTS = """\
-- name: by_instant
-- email: email
-- event: moment
-- event time: at
-- event id: id
SELECT id, email, instant AS at FROM moments
WHERE instant >= :since AND instant <= :until ORDER BY id;

-- name: by_local_time
SELECT id FROM moments WHERE local >= :since AND local <= :until ORDER BY id;
"""
# Around the edges of a window of 24 hours, and around the hour that is missing from it in Berlin
INSTANTS = {
    1: "2026-03-28 11:59:59",
    2: "2026-03-28 12:00:00",
    3: "2026-03-29 00:59:59",
    4: "2026-03-29 01:00:00",
    5: "2026-03-29 12:00:00",
    6: "2026-03-29 12:00:01",
}
# The types of a time with a zone and of one without
TIME_TYPES = {
    "sqlite": ("TEXT", "TEXT"),
    "postgresql": ("TIMESTAMPTZ", "TIMESTAMP"),
    "mariadb": ("TIMESTAMP", "DATETIME"),
}


def timestamp(number: int) -> float:
    """The moment of INSTANTS, which are UTC."""
    return datetime.fromisoformat(f"{INSTANTS[number]}+00:00").timestamp()


def make_moments(project: Project, database: str, zone: str) -> None:
    """Creates the table `moments`, whose times are written in that zone."""
    with_zone, without = TIME_TYPES[database]
    columns = (
        f"id INTEGER, email VARCHAR(99), instant {with_zone} NOT NULL, local {without} NOT NULL"
    )
    statements = ["DROP TABLE IF EXISTS moments", f"CREATE TABLE moments ({columns})"]
    for number in INSTANTS:
        text = in_zone(timestamp(number), zone)
        values = f"{number}, 'u{number}@example.com', '{text}', '{text}'"
        statements.append(f"INSERT INTO moments VALUES ({values})")  # noqa: S608
    change(project, zone, *statements)


@pytest.mark.parametrize("zone", ZONES)
def test_a_window_means_the_same_moments_in_every_database_and_zone(
    project: Project, database: str, server: FakeIterable, zone: str
) -> None:
    make_moments(project, database, zone)
    project.queries(MOMENTS)
    project.settings["DATABASE_TIMEZONE"] = zone
    window = ("--as-of", "2026-03-29T12:00:00Z", "--days", "1")
    found = arrived(project, server, "--query", "by_instant", *window)
    created = {event["email"]: event["createdAt"] for event in found["events"].values()}
    assert created == {
        "u2@example.com": timestamp(2),
        "u3@example.com": timestamp(3),
        "u4@example.com": timestamp(4),
        "u5@example.com": timestamp(5),
    }
    assert found["reports"] == {"by_local_time": [{"id": 2}, {"id": 3}, {"id": 4}, {"id": 5}]}


# --- Types

TIME, UTC_TIME = "2026-07-13 08:45:12", "2026-07-13 06:45:12 +00:00"  # TIME is Berlin's
NAME = "Łódź 東京 🎉 مرحبا Ελλάδα"
DOCUMENT, TAGS = '{"plan": {"seats": 3}, "tags": ["東京", null, true]}', '["a", {"b": 1.5}]'
CODE = "00000000-0000-0000-0000-00000000002a"


class Column(NamedTuple):
    """A column of the table `kinds`."""

    name: str
    sql: str  # its value in every row
    types: tuple[str, str, str]  # in each of DATABASES
    arrives: Any
    elsewhere: Json  # what arrives from databases without such a type


COLUMNS = [
    Column("moment", f"'{TIME}'", ("TEXT", "TIMESTAMP", "DATETIME"), UTC_TIME, {"sqlite": TIME}),
    Column(
        "instant", f"'{TIME}'", ("TEXT", "TIMESTAMPTZ", "TIMESTAMP"), UTC_TIME, {"sqlite": TIME}
    ),
    Column("day", "'2026-01-13'", ("TEXT", "DATE", "DATE"), "2026-01-13", {}),
    Column("amount", "10", ("REAL", "NUMERIC(12, 1)", "DECIMAL(12, 1)"), 10.0, {}),
    Column("ratio", "0.25", ("REAL", "DOUBLE PRECISION", "DOUBLE"), 0.25, {}),
    Column("total", "9007199254740993", ("INTEGER", "BIGINT", "BIGINT"), 9007199254740993, {}),
    Column("active", "TRUE", ("INTEGER", "BOOLEAN", "BOOLEAN"), True, {"sqlite": 1}),
    Column(
        "document",
        f"'{DOCUMENT}'",
        ("TEXT", "JSON", "JSON"),
        json.loads(DOCUMENT),
        {"sqlite": DOCUMENT, "mariadb": DOCUMENT},  # MariaDB's JSON is text
    ),
    Column(
        "tags",
        f"'{TAGS}'",
        ("TEXT", "JSONB", "JSON"),
        json.loads(TAGS),
        {"sqlite": TAGS, "mariadb": TAGS},
    ),
    Column("code", f"'{CODE}'", ("TEXT", "UUID", "UUID"), CODE, {}),
    Column("name", f"'{NAME}'", ("TEXT", "TEXT", "TEXT CHARACTER SET utf8mb4"), NAME, {}),
    Column("nobody", "NULL", ("INTEGER", "INTEGER", "INTEGER"), None, {}),
]
NAMES = ", ".join(column.name for column in COLUMNS)
BINARY = {
    "sqlite": ("BLOB", "x'ff00'"),
    "postgresql": ("BYTEA", r"'\xff00'"),
    "mariadb": ("BLOB", "x'ff00'"),
}
# In the CSV file, where not as in SQL
CELLS = {
    "sqlite": {"active": "1"},
    "postgresql": {"instant": "2026-07-13 08:45:12+02:00"},
    "mariadb": {},
}
KINDS = f"""\
-- name: kinds
-- email: email
-- user fields: {NAMES}, attachment
-- event: purchase
-- event fields: {NAMES}
-- event time: instant
-- event id: id, instant, day, amount, total, code, name
SELECT * FROM kinds WHERE instant >= :since AND instant <= :until ORDER BY id"""  # noqa: S608
# uuid5 of [email, "purchase", 1, UTC_TIME, "2026-01-13", 10.0, 9007199254740993, ...]
IDS = {
    "u1@example.com": "8316a362-e46e-5df9-8d92-916aa90da981",
    "u2@example.com": "580aaefa-3771-53c5-ba7d-868ff9e730f0",
    "u3@example.com": "2881088f-33f5-58f0-8ab0-d9db3247d546",
}


def make_kinds(project: Project, database: str) -> None:
    """Creates the table `kinds` of three rows; the second has bytes in `attachment`."""
    binary, some_bytes = BINARY[database]
    place = DATABASES.index(database)
    declared = ", ".join(f"{column.name} {column.types[place]}" for column in COLUMNS)
    columns = f"id INTEGER, email VARCHAR(99), {declared}, attachment {binary}"
    statements = ["DROP TABLE IF EXISTS kinds", f"CREATE TABLE kinds ({columns})"]
    values = ", ".join(column.sql for column in COLUMNS)
    for number, attachment in enumerate(("NULL", some_bytes, "NULL"), start=1):
        row = f"{number}, 'u{number}@example.com', {values}, {attachment}"
        statements.append(f"INSERT INTO kinds VALUES ({row})")  # noqa: S608
    change(project, "Europe/Berlin", *statements)


def expected_calls(database: str) -> list[tuple[str, str, str]]:
    """Path, user and fields of all calls: an event of each row, an update of all but the second."""
    fields = {}
    for column in COLUMNS:
        fields[column.name] = column.elsewhere.get(database, column.arrives)
    calls = []
    for user in IDS:
        calls.append(("/api/events/track", user, dump(fields)))
        if user != "u2@example.com":
            calls.append(("/api/users/update", user, dump({**fields, "attachment": None})))
    return sorted(calls)


def expected_csv(database: str) -> dict[str, str]:
    """The second row of the CSV file."""
    cells = {"id": "2", "email": "u2@example.com"}
    for column in COLUMNS:
        cells[column.name] = "" if column.sql == "NULL" else column.sql.strip("'")
    cells |= {"amount": "10.0", "active": "True", "attachment": r"\xff00"}
    return cells | CELLS[database]


def test_each_type_arrives_as_what_it_is_and_a_binary_cell_fails_its_call_alone(
    project: Project, database: str, server: FakeIterable
) -> None:
    make_kinds(project, database)
    project.queries(KINDS)
    done = project.run("--query", "kinds", "--as-of", TIME, DATABASE_TIMEZONE="Europe/Berlin")
    assert done.code == 1
    check_counts(done.results, 3)
    assert (done.results["successful"], done.results["partial_failures"]) == (2, 1)
    failed = {"code": "InvalidValue", "msg": "column attachment: Iterable has no type for bytes"}
    call = done.results["records"][1]["users_update"]
    assert call == {"success": False, "status": None, "response": failed}

    calls = []
    for seen in server.requests:
        calls.append((seen.path, seen.body["email"], dump(seen.body["dataFields"])))
    assert sorted(calls) == expected_calls(database)
    assert {event["email"]: event_id for event_id, event in server.events.items()} == IDS
    assert {event["createdAt"] for event in server.events.values()} == {1783925112}
    assert dict(zip(done.rows[0], done.rows[2], strict=True)) == expected_csv(database)


def typed_run(project: Project, server: FakeIterable, fields: str, *keys: str) -> Finished:
    """A run of a query over the table `typed`, each row an update and an event."""
    server.reset()
    lines = [f"user fields: {fields}", "event: seen", f"event fields: {fields}", *keys]
    comment = "".join(f"-- {line}\n" for line in ("name: typed", "email: email", *lines))
    project.queries(f"{comment}SELECT * FROM typed ORDER BY number")  # noqa: S608
    return project.run("--query", "typed", DATABASE_TIMEZONE=typed_cells.ZONE)


def ids_by_user(server: FakeIterable) -> dict[str, str]:
    """The event of each user."""
    return {event["email"]: event["id"] for event in sent_items(server, "events")}


def test_a_typed_query_sends_the_same_from_every_database(
    project: Project, database: str, server: FakeIterable
) -> None:
    change(project, typed_cells.ZONE, *typed_cells.table_statements(database))
    done = typed_run(project, server, typed_cells.TYPED_NAMES, "event id: number")
    expected = {user: dump(fields) for user, fields in typed_cells.expected_fields().items()}
    for kind in ("users", "events"):
        found = {item["email"]: dump(item["dataFields"]) for item in sent_items(server, kind)}
        assert found == expected
    errors = {}
    for record in done.results["records"]:
        if not record["overall_success"]:
            response = record["users_update"]["response"]
            assert response == record["events_track"]["response"]
            assert response["code"] == "InvalidValue"
            errors[record["email"]] = response["msg"]
    assert errors == typed_cells.expected_errors()


def test_types_change_no_event_id(project: Project, database: str, server: FakeIterable) -> None:
    change(project, typed_cells.ZONE, *typed_cells.table_statements(database))
    for key in ("event id: number", "event time: number"):
        typed_run(project, server, typed_cells.TYPED_NAMES, key)
        typed_ids = ids_by_user(server)
        assert typed_ids.keys() == typed_cells.expected_fields().keys()
        typed_run(project, server, typed_cells.NAMES, key)
        assert typed_ids.items() <= ids_by_user(server).items()


# --- Many rows

MANY = 200_000
SELECT = """\
-- name: everybody
-- email: email
-- user fields: plan_type
SELECT n AS id, CONCAT('user', n, '@example.com') AS email, 'pro' AS plan_type,
       REPEAT('x', 300) AS notes
FROM """
NUMBERS = {
    "postgresql": f"generate_series(1, {MANY}) AS numbers (n)",
    "mariadb": f"(SELECT seq AS n FROM seq_1_to_{MANY}) AS numbers",  # noqa: S608
}
# Run by a small process in between, because on Linux a child's peak begins with its parent's.
MEASURE = """
import os, sys
_, status, usage = os.wait4(os.posix_spawn(sys.executable, sys.argv[1:], os.environ), 0)
print(usage.ru_maxrss // 1024)
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.fixture(scope="module")
def stand_in() -> Iterator[str]:
    """The URL of a stand-in for Iterable without limits, in a process of its own."""
    command = [sys.executable, "-m", "tests.fake_iterable", "--no-limits", "--exit-with-parent"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
        process.terminate()


def test_200_000_rows_are_delivered_in_little_memory(
    project: Project, with_server: str, stand_in: str
) -> None:
    requests.post(f"{stand_in}/_stand_in/reset", timeout=WAIT_SECONDS)
    project.queries(SELECT + NUMBERS[with_server])
    settings = {"ITERABLE_API_BASE_URL": stand_in, "RATE_LIMIT_FACTOR": "1000"}
    command, _ = project.command("--quiet", "--query", "everybody", **settings)
    measuring = [sys.executable, "-c", MEASURE, *command]
    measured = subprocess.run(
        measuring, cwd=project.directory, capture_output=True, text=True, timeout=300
    )
    assert (measured.returncode, measured.stderr) == (0, "")
    assert int(measured.stdout) <= 110  # MiB
    counts = requests.get(f"{stand_in}/_stand_in/counts", timeout=WAIT_SECONDS).json()
    assert counts["users"] == MANY
    done = Finished(0, "", "", project.output)
    check_counts(done.results, MANY)
    assert (done.results["successful"], len(done.rows)) == (MANY, MANY + 1)


# --- Failures

LEFT = [".iterable_integration.lock", "iterable_integration.log"]
PASSWORD_FORMS = (
    PASSWORD,
    quote(PASSWORD, safe=""),
    quote(PASSWORD),
    "p@ss",
    "p%40ss",
    "w/rd",
    "w%2Frd",
    "%25%3F",
)
STEAL = {
    "postgresql": "AS 'DELETE FROM safe RETURNING id' LANGUAGE sql",
    "mariadb": "MODIFIES SQL DATA BEGIN DELETE FROM safe; RETURN 1; END",
}
SAME = ("", "")  # the URL as it is
HEAD = "-- name: pro_users_recent_engagement\n-- email: email\n-- user fields: page\n"


def check_nothing_happened(project: Project, server: FakeIterable, done: Finished) -> None:
    """Nothing was sent, only lock and log are left, and no password was printed or logged."""
    assert server.requests == []
    assert sorted(path.name for path in project.output.iterdir()) == LEFT
    texts = [done.out, done.err]
    for path in project.output.iterdir():
        texts.append(path.read_text(encoding="utf-8"))
    for text in texts:
        for form in PASSWORD_FORMS:
            assert form not in text


def check_failed(project: Project, server: FakeIterable, done: Finished, reason: str) -> None:
    """The run ended with 3 and one line that gives the reason, and nothing happened."""
    assert (done.code, done.out) == (3, "")
    assert re.fullmatch(rf"main\.py: [^\n]*({reason})[^\n]*\.\n", done.err)
    check_nothing_happened(project, server, done)


@pytest.mark.parametrize(
    ("edit", "sql", "reason"),
    [
        (("%3F@", "%3Fx@"), "", "password authentication failed|Access denied"),
        (("127.0.0.1", "no-such-host.invalid"), "", "no-such-host.invalid"),
        ((r"1:\d+/", "1:9/"), "", "Connection refused|Can't connect"),
        (("/app$", "/nowhere"), "", '"nowhere" does not exist|Unknown database'),
        (SAME, "SELECT * FROM nowhere WHERE at < :until", "queries.sql, line 1.* exist"),
        (SAME, "SELECT steal() AS page", "cannot execute DELETE|READ ONLY"),
    ],
    ids=["password", "host", "port", "database", "table", "function"],
)
def test_a_database_that_refuses_is_one_line_and_nothing_is_sent(
    project: Project,
    with_server: str,
    server: FakeIterable,
    edit: tuple[str, str],
    sql: str,
    reason: str,
) -> None:
    change(project, "UTC", "DROP TABLE IF EXISTS safe", "CREATE TABLE safe (id INTEGER)")
    change(project, "UTC", "INSERT INTO safe VALUES (7)")
    function = f"steal() RETURNS INTEGER {STEAL[with_server]}"
    change(project, "UTC", f"CREATE OR REPLACE FUNCTION {function}")
    if sql:
        project.queries(HEAD + sql)
    url = re.sub(*edit, project.settings["DATABASE_URL"], count=1)
    check_failed(project, server, project.run(DATABASE_URL=url, LOG_LEVEL="DEBUG"), reason)
    assert ask(project, "SELECT id FROM safe") == [(7,)]


SLOW = {  # rows, and then a long wait for the last one
    "postgresql": """
SELECT n || '@example.com' AS email, n AS page FROM generate_series(1, 20000) AS numbers (n)
WHERE n < 20000 OR CAST(pg_sleep(600) AS text) = ''""",
    "mariadb": """
SELECT CONCAT(seq, '@example.com') AS email, seq AS page FROM seq_1_to_20000
WHERE seq < 20000 OR SLEEP(600) = 0""",
}
SLEEPERS = {
    "postgresql": "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'",
    "mariadb": "SELECT id FROM information_schema.processlist WHERE state = 'User sleep'",
}
KILL = {"postgresql": "SELECT pg_terminate_backend({})", "mariadb": "KILL {}"}


@pytest.fixture
def slow(project: Project, with_server: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A run that has some rows of a slow query and waits for more, and what kills that query."""
    project.queries(HEAD + SLOW[with_server])
    process = project.start()
    deadline = time.monotonic() + WAIT_SECONDS
    sleepers: list[tuple[object, ...]] = []
    has_rows = False  # either may come first
    while not (sleepers and has_rows):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, (sleepers, has_rows)
        sleepers = ask(project, SLEEPERS[with_server])
        has_rows = any(path.stat().st_size for path in project.output.glob("*.part"))
    yield process, KILL[with_server].format(sleepers[0][0])
    process.kill()


def test_a_connection_lost_during_the_query_is_one_line_and_nothing_is_sent(
    project: Project, slow: tuple[subprocess.Popen[str], str], server: FakeIterable
) -> None:
    process, kill = slow
    change(project, "UTC", kill)
    reason = "terminating connection|Lost connection|was killed"
    check_failed(project, server, project.finish(process), reason)


def test_sigterm_during_a_slow_query_ends_the_run_at_once(
    project: Project,
    slow: tuple[subprocess.Popen[str], str],
    with_server: str,
    server: FakeIterable,
) -> None:
    process, kill = slow
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    done = project.finish(process)
    assert time.monotonic() - began < 10
    assert (done.code, done.out) == (143, "")
    assert done.err == "main.py: interrupted before anything of this query was sent\n"
    check_nothing_happened(project, server, done)
    if ask(project, SLEEPERS[with_server]):  # MariaDB notices only when it has a row
        change(project, "UTC", kill)

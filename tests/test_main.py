"""The whole job, end to end: main.py as a process, sample data, the stand-in over real HTTP."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shutil
import socket
import stat
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.fake_iterable import FakeIterable, Seen
from tests.project import AS_OF, ROOT, Finished, Project, check_counts, new_project, outputs

MakeProject = Callable[[FakeIterable], Project]
Json = dict[str, Any]

# What the default query finds in the sample data
LINES = [
    "id|email|first_name|last_name|plan_type|candidate|page|device|browser|location|event_time",
    "1|amara.okafor@example.com|Amara|Okafor|pro|candidate-7|"
    "pricing|desktop|Chrome|Lagos, NG|2026-01-13 08:45:12",
    "2|sofia.nunez@example.com|Sofía|Núñez|pro|candidate-3|"
    "pricing|mobile|Safari|Madrid, ES|2026-01-11 17:30:00",
    "3|wei.zhang@example.com|Wei|Zhang|pro||"
    "settings|desktop|Edge|Singapore, SG|2026-01-06 12:00:00",
    "4|liam.obrien@example.com|Liam|O'Brien|pro|candidate-12|"
    "settings|desktop|Firefox|Dublin, IE|2026-01-13 12:00:00",
    "5|lukasz.wisniewski@example.com|Łukasz|Wiśniewski|pro|candidate-5|"
    "settings|desktop|Firefox||2026-01-12 07:03:44",
]
COLUMNS, *CELLS = [line.split("|") for line in LINES]
EMAILS = [cells[1] for cells in CELLS]
REPORTS = {
    "engagement_by_page": [
        {"page": "pricing", "views": 5, "users": 3},
        {"page": "settings", "views": 5, "users": 5},
    ]
}
COUNTS = ("successful", "partial_failures", "total_failures", "unchanged", "not_sent")
SECRET, WRONG_SECRET = (
    "the-jwt-secret-of-this-test-0123456789",
    "another-jwt-secret-entirely-0123456789",
)
JWT = {"USE_JWT_AUTH": "true", "ITERABLE_JWT_SECRET": SECRET}


def event_id(*parts: Any) -> str:
    """The id of an event, apart from the code: another one would double every event ever sent."""
    namespace = uuid.UUID("6f1d3c52-8a0e-5b7c-9d44-2f6a1e0b9c73")
    return str(uuid.uuid5(namespace, json.dumps(parts, separators=(",", ":"), sort_keys=True)))


def calls_of(cells: list[str]) -> tuple[Json, Json]:
    """The user update and the event that a row of the default query means."""
    row: Json = {name: cell or None for name, cell in zip(COLUMNS, cells, strict=True)}
    moment = datetime.fromisoformat(row["event_time"]).replace(tzinfo=timezone.utc)
    user = {name: row[name] for name in ("first_name", "last_name", "plan_type", "candidate")}
    fields = {name: row[name] for name in ("page", "device", "browser", "location", "candidate")}
    id_ = event_id(
        row["email"], "page_view", int(row["id"]), f"{row['event_time']} +00:00", row["page"]
    )
    event = {"email": row["email"], "eventName": "page_view", "dataFields": fields, "id": id_}
    return {"email": row["email"], "dataFields": user}, {
        **event,
        "createdAt": int(moment.timestamp()),
    }


# --demo


@pytest.fixture(
    scope="module", params=["in an empty directory", "among settings of something else"]
)
def demo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    directory, env = tmp_path_factory.mktemp("demo"), dict(os.environ)
    if "settings" in request.param:
        foreign = {
            **JWT,
            "DATABASE_URL": "sqlite:///none.db",
            "QUERIES_FILE": "none.sql",
            "QUERY": "none",
            "WORKERS": "0",
            "ITERABLE_API_KEY": "another",
            "ITERABLE_API_BASE_URL": "http://127.0.0.1:9",
            "DATABASE_TIMEZONE": "Mars",
            "OUTPUT_DIR": "/none",
            "LOG_FILE": "/none/log",
        }
        (directory / ".env").write_text(
            "".join(f"{name}={value}\n" for name, value in foreign.items())
        )
        env |= {**foreign, "HTTP_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "http://127.0.0.1:9"}
    command = [sys.executable, str(ROOT / "main.py"), "--demo"]
    done = subprocess.run(
        command, cwd=directory, env=env, capture_output=True, text=True, umask=0, check=False
    )
    (directory / ".env").unlink(missing_ok=True)
    return Finished(done.returncode, done.stdout, done.stderr, directory)


def test_the_demo_delivers_the_sample_data_whatever_is_set(demo: Finished) -> None:
    assert (demo.code, demo.err) == (0, "")
    assert demo.rows == [COLUMNS, *CELLS]
    results = demo.results
    assert (results["total_users"], results["successful"], results["reports"]) == (5, 5, REPORTS)
    check_counts(results, 5)


def test_the_demo_prints_summary_report_and_where_its_files_are(demo: Finished) -> None:
    files = [demo.directory / name for name in outputs(demo.directory)]
    assert [re.sub(r"\d", "9", path.name) for path in files] == [
        "integration_results_99999999_999999.json",
        "query_results_99999999_999999.csv",
    ]
    assert all(re.search(rf"\s{re.escape(str(path))}$", demo.out, re.MULTILINE) for path in files)
    for text in (
        r"\bcompleted\b",
        r"\b5 delivered\b",
        "engagement_by_page",
        r"pricing +5 +3\n",
        r"settings +5 +5\n",
    ):
        assert re.search(text, demo.out), text


def test_the_demo_leaves_private_files_and_no_process_behind(demo: Finished) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in demo.directory.iterdir()}
    assert len(modes) == 4, "CSV, results, log and lock"
    assert set(modes.values()) == {0o600}
    host, port = demo.results["run"]["base_url"].removeprefix("http://").split(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)))


# The default run, and the runs after it


@dataclass
class History:
    """What three runs over the same rows left behind."""

    first: Finished
    users: dict[str, Json]
    events: dict[str, Json]
    requests: list[Seen]
    views: Finished
    older: dict[str, bytes]
    again: Finished
    server: FakeIterable


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    directory = tmp_path_factory.mktemp("history")
    with FakeIterable(api_key="test-api-key") as server:
        project = new_project(directory, server)
        first = project.run()
        first = replace(first, directory=Path(shutil.copytree(project.output, directory / "first")))
        users, events, requests = server.users, server.events, server.requests
        views = project.run("--query", "pro_users_page_views")
        for second in range(120):  # a run of this very second has been here
            stamp = f"{datetime.now() + timedelta(seconds=second):%Y%m%d_%H%M%S}"
            for name in (f"query_results_{stamp}.csv", f"integration_results_{stamp}.json"):
                with open(project.output / name, "a", encoding="utf-8") as file:
                    file.write("" if file.tell() else "older")
        older = {name: (project.output / name).read_bytes() for name in outputs(project.output)}
        again = project.run("--quiet")
        yield History(first, users, events, requests, views, older, again, server)


def test_users_and_events_arrive_exactly_as_meant(history: History) -> None:
    calls = [calls_of(cells) for cells in CELLS]
    for update, event in calls:  # a user's update goes before their event
        calls_seen = [
            (seen.path, seen.body)
            for seen in history.requests
            if seen.body["email"] == update["email"]
        ]
        assert calls_seen == [("/api/users/update", update), ("/api/events/track", event)]
    assert history.events == {event["id"]: event for _, event in calls}
    assert history.users == {
        update["email"]: {name: value for name, value in update["dataFields"].items() if value}
        for update, _ in calls
    }
    for seen in history.requests:
        assert seen.headers["api-key"] == "test-api-key"
        assert seen.headers.keys().isdisjoint({"authorization", "cookie"})


def test_the_results_file_says_what_became_of_every_row(history: History) -> None:
    results, lines = history.first.results, history.first.results_text.splitlines()
    assert list(results) == [
        "run",
        "total_users",
        *COUNTS,
        "failure_reasons",
        "requests",
        "reports",
        "records",
    ]
    assert {name: value for name, value in results.items() if name not in ("run", "records")} == {
        "total_users": 5,
        "successful": 5,
        "partial_failures": 0,
        "total_failures": 0,
        "unchanged": 0,
        "not_sent": 0,
        "failure_reasons": {},
        "requests": {"sent": 10, "retried": 0, "rate_limited": 0},
        "reports": REPORTS,
    }
    assert [json.loads(line.rstrip(",")) for line in lines if line.startswith('{"row"')] == results[
        "records"
    ]
    for number, (cells, record) in enumerate(zip(CELLS, results["records"], strict=True), 1):
        id_, success = calls_of(cells)[1]["id"], {"code": "Success", "msg": ""}
        assert datetime.fromisoformat(record["timestamp"]).utcoffset() == timedelta(0)
        assert list(record.items()) == [
            ("row", number),
            ("email", cells[1]),
            ("event_id", id_),
            ("timestamp", record["timestamp"]),
            ("users_update", {"success": True, "response": {**success, "params": None}}),
            ("events_track", {"success": True, "response": {**success, "params": {"id": id_}}}),
            ("overall_success", True),
        ]


def test_the_results_file_says_what_the_run_was(history: History) -> None:
    run = history.first.results["run"]
    changing = {name: run[name] for name in ("id", "started_at", "finished_at", "seconds")}
    assert list(run.items()) == list(
        {
            "id": changing["id"],
            "status": "completed",
            "started_at": changing["started_at"],
            "finished_at": changing["finished_at"],
            "seconds": changing["seconds"],
            "query": "pro_users_recent_engagement",
            "since": "2026-01-06T12:00:00+00:00",
            "until": "2026-01-13T12:00:00+00:00",
            "send_mode": "single",
            "authentication": "api_key",
            "base_url": history.server.url,
            "csv_file": next(history.first.directory.glob("*.csv")).name,
            "warnings": [],
        }.items()
    )
    assert str(uuid.UUID(run["id"])) == run["id"]
    started, finished = (
        datetime.fromisoformat(run[name]) for name in ("started_at", "finished_at")
    )
    assert started.utcoffset() == finished.utcoffset() == timedelta(0)
    assert started <= finished
    assert 0 < run["seconds"] < 60


def test_the_csv_equals_the_rows_and_the_run_ends_well(history: History) -> None:
    assert (history.first.code, history.first.err) == (0, "")
    assert history.first.rows == [COLUMNS, *CELLS]
    assert all(name in history.first.out for name in outputs(history.first.directory))


def test_a_second_run_and_the_other_query_add_no_event_twice(history: History) -> None:
    assert history.events.items() <= history.server.events.items(), (
        "one view has one id, and one payload"
    )
    assert len(history.server.events) == 10, "every qualifying view"
    assert {
        writes for id_, writes in history.server.event_writes.items() if id_ in history.events
    } == {3}
    assert {
        writes for id_, writes in history.server.event_writes.items() if id_ not in history.events
    } == {1}
    assert history.server.users == history.users


def test_a_quiet_success_prints_nothing_and_overwrites_nothing(history: History) -> None:
    assert (history.again.code, history.again.out, history.again.err) == (0, "", "")
    assert (history.views.code, history.again.results["successful"]) == (0, 5)
    new = [name for name in outputs(history.again.directory) if name not in history.older]
    kinds = [re.sub(r"_\d{8}_\d{6}_\d\.", ".", name) for name in new]
    assert kinds == ["integration_results.json", "query_results.csv"]
    assert history.again.results["run"]["csv_file"] == new[1]
    assert all(
        (history.again.directory / name).read_bytes() == data
        for name, data in history.older.items()
    )


# Dry runs, and which rows are taken


def test_a_dry_run_shows_every_request_and_sends_none(
    make_project: MakeProject, server: FakeIterable
) -> None:
    done = make_project(server).run("--dry-run", ITERABLE_API_KEY="", USE_JWT_AUTH="true")
    results = done.results
    assert (done.code, results["run"]["status"], server.requests) == (0, "dry_run", [])
    assert results["requests"] == {"sent": 0, "retried": 0, "rate_limited": 0}
    for cells, record in zip(CELLS, results["records"], strict=True):
        update, event = calls_of(cells)
        assert record["users_update"] == {"success": None, "request": update}
        assert record["events_track"] == {"success": None, "request": event}
        assert (record["email"], record["event_id"], record["overall_success"]) == (
            cells[1],
            event["id"],
            None,
        )
    assert done.rows == [COLUMNS, *CELLS]


def test_no_more_rows_are_taken_than_the_limit(project: Project, server: FakeIterable) -> None:
    done = project.run("--limit", "2")
    assert (done.code, done.rows, done.results["total_users"]) == (0, [COLUMNS, *CELLS[:2]], 2)
    assert sorted(server.users) == sorted(EMAILS[:2])


def test_zero_rows_are_a_success_with_both_files(project: Project, server: FakeIterable) -> None:
    done = project.run("--as-of", "2020-01-01")
    assert (done.code, done.rows, server.requests) == (0, [COLUMNS], [])
    assert (done.results["run"]["status"], done.results["records"]) == ("completed", [])
    assert done.results["reports"] == {"engagement_by_page": []}
    check_counts(done.results, 0)


# Credentials


def test_a_jwt_enabled_key_delivers_all_rows_and_the_log_keeps_every_secret(
    make_project: MakeProject,
) -> None:
    with FakeIterable(api_key="test-api-key", jwt_secret=SECRET) as server:
        done = make_project(server).run(
            "--verbose", USE_JWT_AUTH="true", ITERABLE_JWT_SECRET=SECRET
        )
        assert (len(server.users), len(server.events)) == (5, 5)
        assert len({seen.headers["authorization"] for seen in server.requests}) >= 5, (
            "a token per user"
        )
    assert (done.code, done.results["successful"], done.results["run"]["authentication"]) == (
        0,
        5,
        "jwt",
    )
    assert done.err.count("HTTP 200") == done.log.count("HTTP 200") == 10, "every attempt"
    assert not re.search(
        f"{SECRET}|test-api-key|eyJ", done.out + done.err + done.log + done.results_text
    )
    assert "@example.com" not in done.out + done.err + done.log


@pytest.mark.parametrize(
    ("jwt_secret", "fault", "settings", "code", "advice"),
    [
        (
            None,
            None,
            {"ITERABLE_API_KEY": "wrong-key"},
            "BadApiKey",
            "ITERABLE_API_KEY.*ITERABLE_API_BASE_URL",
        ),
        (
            SECRET,
            None,
            {**JWT, "ITERABLE_JWT_SECRET": WRONG_SECRET},
            "InvalidJwtPayload",
            "ITERABLE_JWT_SECRET.*clock",
        ),
        (SECRET, None, {}, "BadAuthorizationHeader", "ITERABLE_API_KEY.*JWT-enabled.*USE_JWT_AUTH"),
        (SECRET, None, {"SEND_MODE": "bulk"}, "Unauthorized", "ITERABLE_API_KEY.*server-side"),
        (None, {"kind": "status", "status": 403}, {}, "Forbidden", "ITERABLE_API_KEY.*server-side"),
        (SECRET, {"kind": "echo_headers"}, JWT, "BadApiKey", "ITERABLE_API_KEY"),
    ],
)
def test_refused_credentials_end_the_run_at_once_with_advice(
    make_project: MakeProject,
    jwt_secret: str | None,
    fault: Json | None,
    settings: dict[str, str],
    code: str,
    advice: str,
) -> None:
    with FakeIterable(api_key="test-api-key", jwt_secret=jwt_secret) as server:
        if fault:
            server.add_fault(**fault)
        project = make_project(server)
        project.add_customers(295)
        done = project.run(LOG_LEVEL="DEBUG", WORKERS="2", **settings)
        assert len(server.requests) <= 2
        assert not server.users
    assert (done.code, done.results["run"]["status"], len(done.rows)) == (4, "aborted", 301)
    assert re.search(advice, done.out + done.err)
    assert any(re.search(advice, warning) for warning in done.results["run"]["warnings"])
    tried = 300 if "SEND_MODE" in settings else len(server.requests)
    assert (done.results["failure_reasons"][code], done.results["total_failures"]) == (tried, tried)
    check_counts(done.results, 300)
    assert not re.search(
        f"{SECRET}|{WRONG_SECRET}|test-api-key|wrong-key|eyJ",
        done.out + done.err + done.log + done.results_text,
    )


# Rows and calls that fail


def test_a_bad_cell_or_a_refusal_is_that_rows_failure_alone(
    project: Project, server: FakeIterable
) -> None:
    server.conflicts, server.forgotten = {"conflict@example.com"}, {"forgotten@example.com"}
    project.sql("""
        CREATE TABLE people (n INTEGER, email TEXT, value);
        INSERT INTO people VALUES
            (1, 'first@example.com', 'x'),
            (2, NULL, 'x'),
            (3, '  ', 'x'),
            (4, 'bytes@example.com', x'00ff'),
            (5, 'infinite@example.com', 9e999),
            (6, 'broken@example.com', CAST(x'61ff' AS TEXT)),
            (7, CAST(x'61ff' AS TEXT) || '@example.com', 'x'),
            (8, 'conflict@example.com', 'x'),
            (9, 'forgotten@example.com', 'x'),
            (10, 'nobody', 'x'),
            (11, ' Upper@Example.com', 'x'),
            (12, 'last@example.com', NULL)""")
    project.queries("""-- name: people
        -- email: email
        -- user fields: value
        -- event: seen
        -- event fields: value
        -- event id: n
        SELECT n, email, value FROM people ORDER BY n""")
    done = project.run("--quiet", "--query", "people", LOG_LEVEL="DEBUG")
    results = done.results
    answers = [
        [record[call]["response"] for call in ("users_update", "events_track")]
        for record in results["records"]
    ]
    assert [f"{update['code']} {event['code']}" for update, event in answers] == [
        "Success Success",
        *["NoIdentifier NoIdentifier"] * 2,
        *["InvalidValue InvalidValue"] * 4,
        "EmailAlreadyExists Success",
        "ForgottenUserError ForgottenUserError",
        "InvalidEmailAddressError InvalidEmailAddressError",
        *["Success Success"] * 2,
    ]
    for row, kind in ((4, "bytes"), (5, "inf"), (6, "UTF-8")):
        assert re.search(rf"value.*{kind}", answers[row - 1][0]["msg"]), "column and type"
    assert (results["successful"], results["partial_failures"], results["total_failures"]) == (
        3,
        1,
        8,
    )
    check_counts(results, 12)
    assert sorted(server.users) == ["first@example.com", "last@example.com", "upper@example.com"]
    assert len(server.events) == 4
    assert len(done.rows) == 13
    assert (done.code, done.out, results["run"]["status"]) == (1, "", "completed_with_failures")
    assert all(
        text in done.err for text in (*results["failure_reasons"], *outputs(done.directory))
    ), done.err
    assert not re.search(r"@example|nobody", done.log + done.err, re.IGNORECASE)


def test_a_user_in_several_rows_keeps_their_order(project: Project, server: FakeIterable) -> None:
    server.add_fault("status", status=503, path="users/update", user="same@example.com", times=2)
    project.sql("""
        CREATE TABLE steps AS
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40)
        SELECT i, CASE i % 4
            WHEN 0 THEN 'same@example.com'
            WHEN 1 THEN 'Same@Example.com '
            ELSE i || '@example.com' END AS email
        FROM n""")
    project.queries(
        "-- name: steps\n-- email: email\n-- user fields: i\nSELECT i, email FROM steps ORDER BY i"
    )
    done = project.run("--query", "steps", WORKERS="64")
    stored = [
        seen.body["dataFields"]["i"]
        for seen in server.requests
        if seen.status == 200 and seen.body["email"] == "same@example.com"
    ]
    assert stored == [i for i in range(1, 41) if i % 4 < 2]
    assert (done.code, [record["row"] for record in done.results["records"]]) == (
        0,
        list(range(1, 41)),
    )


@pytest.mark.parametrize(
    ("keys", "update", "event"),
    [
        (
            ["userId: id", "user fields: name", "event: seen", "event id: id, n"],
            {"userId": "1", "dataFields": {"name": "Ada"}, "preferUserId": True},
            {
                "userId": "1",
                "eventName": "seen",
                "dataFields": {},
                "id": event_id("1", "seen", 1, 2.5),
            },
        ),
        (
            ["email: email", "user fields: n, name"],
            {"email": "ada@example.com", "dataFields": {"n": 2.5, "name": "Ada"}},
            None,
        ),
        (
            ["email: email", "event: seen", "event fields: name", "event time: at"],
            None,
            {
                "email": "ada@example.com",
                "eventName": "seen",
                "dataFields": {"name": "Ada"},
                "createdAt": 1768293912,
                "id": event_id("ada@example.com", "seen", 1768293912, {"name": "Ada"}),
            },
        ),
    ],
)
def test_the_comment_above_a_query_says_what_is_sent(
    project: Project, server: FakeIterable, keys: list[str], update: Json | None, event: Json | None
) -> None:
    comment = "".join(f"-- {key}\n" for key in keys)
    project.queries(f"""-- name: q\n{comment}
        SELECT 1 AS id, ' ADA@example.com ' AS email, 'Ada' AS name, 2.5 AS n,
            '2026-01-13T08:45:12Z' AS at""")
    done = project.run(QUERY="q")
    [record] = done.results["records"]
    assert [seen.body for seen in server.requests] == [call for call in (update, event) if call]
    assert (done.code, done.results["successful"], record["overall_success"]) == (0, 1, True)
    assert (record["users_update"] is None, record["events_track"] is None) == (
        update is None,
        event is None,
    )
    assert record["event_id"] == (event and event["id"])
    assert record[keys[0].partition(":")[0]] == (update or event or {}).get(
        keys[0].partition(":")[0]
    )


def test_more_than_500_rows_go_out_in_bulk(project: Project, server: FakeIterable) -> None:
    server.forgotten, server.dropped_fields = {"user101@example.com"}, {"plan_type"}
    project.add_customers(496)
    done = project.run()
    paths = [(seen.path, seen.status) for seen in server.requests]
    assert paths == [("/api/users/bulkUpdate", 200), ("/api/events/trackBulk", 200)]
    assert (len(server.users), len(server.events), done.code) == (500, 500, 1)
    assert (done.results["run"]["send_mode"], done.results["failure_reasons"]) == (
        "bulk",
        {"ForgottenUserError": 2},
    )
    assert done.results["records"][0]["events_track"]["response"] == {
        "code": "Success",
        "bulk": True,
    }
    assert [
        record["row"] for record in done.results["records"] if not record["overall_success"]
    ] == [6]
    assert ["plan_type" in warning for warning in done.results["run"]["warnings"]] == [True], (
        "Iterable dropped it"
    )
    check_counts(done.results, 501)


@pytest.mark.parametrize(
    ("rows", "settings", "mode"),
    [
        (6, {"SEND_MODE": "bulk"}, "bulk"),
        (500, {}, "single"),
        (501, {"SEND_MODE": "single"}, "single"),
        (501, JWT, "single"),
    ],
)
def test_the_send_mode_can_be_forced(
    project: Project, rows: int, settings: dict[str, str], mode: str
) -> None:
    project.add_customers(rows - 5)
    done = project.run("--dry-run", **settings)
    assert (done.results["total_users"], done.results["run"]["send_mode"]) == (rows, mode)


def test_calls_without_an_answer_are_made_again(project: Project, server: FakeIterable) -> None:
    server.add_fault("status", status=429, params={"rateLimitReset": 0}, user=EMAILS[0], times=1)
    server.add_fault("status", status=503, user=EMAILS[1], path="users/update", times=2)
    server.add_fault("drop_before", user=EMAILS[2], times=1)
    server.add_fault("drop_after", user=EMAILS[3], path="events/track", times=1)
    server.add_fault("truncated", user=EMAILS[4], times=1)
    done = project.run()
    assert (done.code, done.results["successful"], len(server.users), len(server.events)) == (
        0,
        5,
        5,
        5,
    )
    assert done.results["requests"] == {"sent": 16, "retried": 6, "rate_limited": 1}
    assert server.event_writes.total() == 6, "one was written again, under its id"


def test_what_keeps_failing_is_given_up_and_the_other_call_is_made(
    project: Project, server: FakeIterable
) -> None:
    server.add_fault("status", status=503, user=EMAILS[0], path="users/update")
    server.add_fault("status", status=400, user=EMAILS[1], path="events/track")
    done = project.run(MAX_RETRIES="4")
    assert (done.code, done.results["partial_failures"], len(server.users), len(server.events)) == (
        1,
        2,
        4,
        4,
    )
    assert done.results["failure_reasons"] == {"GenericError": 1, "BadParams": 1}
    assert done.results["requests"]["sent"] == 8 + 4 + 1
    check_counts(done.results, 5)


def test_a_run_that_nobody_answers_is_aborted(project: Project, server: FakeIterable) -> None:
    server.down()
    done = project.run()
    assert (done.code, done.results["run"]["status"]) == (4, "aborted")
    assert server.url in done.out + done.err
    assert set(done.results["failure_reasons"]) <= {"ConnectionError", "Interrupted"}
    check_counts(done.results, 5)


# Two runs, and a terminal


def test_runs_cannot_overlap_and_a_killed_one_leaves_nothing_in_the_way(
    project: Project, server: FakeIterable
) -> None:
    server.add_fault("hang")
    process = project.start("--verbose", "--as-of", AS_OF)
    assert process.stderr
    assert any("pro_users_recent_engagement" in line for line in process.stderr), (
        "it holds the lock when it logs"
    )
    refused = project.run("--quiet")
    assert (refused.code, refused.out) == (75, "")
    assert re.fullmatch(
        rf"main\.py: .*{project.output}.*\b{process.pid}\b.* 20\d\d-\d\d-\d\dT.*\n", refused.err
    )
    process.kill()
    process.communicate()
    assert all(name.endswith(".part") for name in outputs(project.output)), "whole or not at all"
    assert len(outputs(project.output)) == 2
    server.set_faults([])
    done = project.run()
    assert (done.code, done.results["successful"], len(server.events)) == (0, 5, 5)
    assert not [name for name in outputs(project.output) if name.endswith(".part")]


@pytest.mark.parametrize("flags", [(), ("--quiet",)])
def test_a_terminal_sees_progress_unless_it_should_be_quiet(
    make_project: MakeProject, flags: tuple[str, ...]
) -> None:
    master, slave = pty.openpty()
    with FakeIterable(
        api_key="test-api-key", latency=0.3
    ) as server:  # a row takes over half a second
        project = make_project(server)
        command, env = project.command(*flags, "--as-of", AS_OF)
        with subprocess.Popen(command, env=env, cwd=project.directory, stdout=slave, stderr=slave):
            os.close(slave)
            seen = b""
            with contextlib.suppress(OSError):  # Linux, where the other side is closed
                while piece := os.read(master, 4096):
                    seen += piece
    os.close(master)
    if flags:
        assert seen == b""
    else:
        assert b"of 5 rows" in seen
        assert re.search(rb"(\n|\x1b\[K)Status", seen), "the summary begins on a clean line"


def test_a_dry_run_counts_what_would_fail(project: Project) -> None:
    project.queries("""
        -- name: q
        -- email: email
        -- user fields: b
        -- event: e
        -- event id: email
        SELECT 'a@example.com' AS email, x'00' AS b""")
    done = project.run("--dry-run", "--query", "q")
    assert (done.code, done.results["failure_reasons"]) == (1, {"InvalidValue": 1})
    assert done.results["records"][0]["events_track"]["request"]["eventName"] == "e"


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", ">/dev/full", "2>/dev/full"])
def test_a_terminal_that_is_gone_harms_nothing(
    project: Project, server: FakeIterable, closed: str
) -> None:
    command, env = project.command("--as-of", AS_OF)
    shell = ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", *command]
    env["PYTHONUNBUFFERED"] = "1"  # an error comes with the first write, not with the last
    assert subprocess.run(shell, env=env, cwd=project.directory, check=False).returncode == 0
    assert (len(server.events), len(outputs(project.output))) == (5, 2)
    assert (
        subprocess.run(
            [*shell, "--query", "none"], env=env, cwd=project.directory, check=False
        ).returncode
        == 2
    )


def test_a_terminal_that_goes_away_while_sending_harms_nothing(make_project: MakeProject) -> None:
    master, slave = pty.openpty()
    with FakeIterable(api_key="test-api-key", latency=0.3) as server:
        project = make_project(server)
        project.add_customers(40)
        command, env = project.command("--as-of", AS_OF, WORKERS="4")
        with subprocess.Popen(
            command, env=env, cwd=project.directory, stdout=slave, stderr=slave
        ) as process:
            os.close(slave)
            seen = b""
            while b"of 45 rows" not in seen:
                seen += os.read(master, 4096)
            os.close(master)
    assert (process.returncode, len(server.events), len(outputs(project.output))) == (0, 45, 2)

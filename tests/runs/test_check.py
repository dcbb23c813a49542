"""--check: what is wrong before anything is sent."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from tests.fake_iterable import FakeIterable
from tests.project import JWT, Finished, Project
from tests.runs.sabotage import sabotage

FIELDS = """
-- name: q
-- email: email
-- user fields: plan, score, city, born, tags, flag
SELECT 'a@example.com' AS email, 'pro' AS plan, 7 AS score, 'Rome' AS city,
    '2001-02-03' AS born, NULL AS tags, 1 AS flag
"""


def check(project: Project, *args: str, **settings: str) -> Finished:
    """Runs --check, which leaves nothing."""
    before = contents(project)
    done = project.run("--check", *args, **settings)
    after = contents(project)
    for files in (before, after):
        files.pop("test.env", None)  # run() writes it
    assert after == before
    return done


def contents(project: Project) -> dict[str, bytes]:
    """What each file of a project holds."""
    found = {}
    for path in project.directory.rglob("*"):
        found[str(path.relative_to(project.directory))] = (
            path.read_bytes() if path.is_file() else b""
        )
    return found


def posts(server: FakeIterable) -> list[str]:
    """The paths of what was sent."""
    return [seen.path for seen in server.requests if "getFields" not in seen.path]


def test_all_is_well(project: Project, server: FakeIterable) -> None:
    project.run()
    sent = len(posts(server))
    for path in project.output.iterdir():
        path.unlink()
    done = check(project)
    assert (done.code, done.err) == (0, "")
    assert "wrong" not in done.out
    labels = [line.split()[0] for line in done.out.splitlines() if line[:1].isalpha()]
    assert labels == [
        "Settings",
        "Output",
        "Database",
        "Report",
        "Query",
        "Iterable",
        "Fields",
    ]
    assert "ok pro_users_recent_engagement: looked at all 5 rows" in done.screen
    assert f"ok {server.url} takes the key; the project has" in done.screen
    assert "Iterable does not tell the types of event fields" in done.screen
    assert len(posts(server)) == sent
    assert "@" not in done.out
    assert check(project, "--quiet").out == ""


def test_fields_of_another_type_are_wrong_and_new_ones_a_note(
    project: Project, server: FakeIterable
) -> None:
    server.add_user_fields(
        {"plan": "long", "score": "double", "born": "date", "tags": "string", "flag": "boolean"}
    )
    project.queries(FIELDS)
    done = check(project, "--query", "q")
    text = done.screen
    assert done.code == 1
    assert "q: plan goes out as text, but is long in Iterable, which refuses it: send" in text
    assert "q: flag goes out as integer, but is boolean in Iterable" in text
    assert "in '-- user fields' write flag boolean" in text
    assert "note q: new to the project, Iterable creates them: city" in text
    assert text.count("wrong") == 2
    for name in ("score", "born", "tags"):
        assert f"q: {name}" not in text
    project.queries(FIELDS.replace("2001-02-03", "2026-01-13T08:45:12Z"))
    assert "q: born" not in check(project, "--query", "q").screen
    project.queries(FIELDS.replace("user fields", "new fields: no\n-- user fields"))
    assert "Iterable drops them: city" in check(project, "--query", "q").screen


def test_rows_that_would_fail_are_wrong(project: Project) -> None:
    project.queries(
        FIELDS.replace("7 AS", "x'00' AS") + "UNION ALL SELECT NULL, 1, 1.5, 1, 1, 1, 1"
    )
    done = check(project, "--query", "q")
    assert done.code == 1
    text = done.screen
    assert "wrong InvalidValue in row 1: column score: Iterable has no type for bytes." in text
    assert "wrong NoIdentifier in row 2: column email: the row has no email." in text
    assert "note Field plan goes out as integer and text" in text
    text = check(project, "--query", "q", TOLERATED_FAILURES="NoIdentifier").screen
    assert "wrong InvalidValue in row 1" in text
    assert "note NoIdentifier in row 2" in text


@pytest.mark.parametrize(
    ("settings", "code", "complaint"),
    [
        ({"ITERABLE_API_KEY": "another-key"}, 4, "wrong Iterable refused the credentials"),
        (
            {"ITERABLE_API_BASE_URL": "http://127.0.0.1:9"},
            4,
            "http://127.0.0.1:9 said ConnectionError",
        ),
        ({"DATABASE_URL": "sqlite:///none.db"}, 3, "none.db"),
        ({"OUTPUT_DIR": "/dev/null/none"}, 2, "wrong /dev/null/none cannot be written"),
        ({"LOOKBACK_DAYS": "many"}, 2, "LOOKBACK_DAYS must be"),
        ({"ITERABLE_API_KEY": ""}, 2, "ITERABLE_API_KEY is not set"),
    ],
)
def test_what_would_end_a_run_has_its_exit_code(
    project: Project, settings: dict[str, str], code: int, complaint: str
) -> None:
    done = check(project, "--quiet", **settings)
    assert (done.code, done.out) == (code, "")
    assert complaint in done.screen


def test_all_that_is_wrong_is_said_at_once(project: Project, server: FakeIterable) -> None:
    project.queries("""
        -- name: a
        -- email: nothing
        -- user fields: x
        SELECT 1 AS x
        ;
        -- name: b
        -- email: x
        -- user fields: x
        SELECT 'x@example.com' AS x FROM nowhere""")
    done = check(project, "--query", "a,b", ITERABLE_API_KEY="another-key")
    assert done.code == 4
    text = done.screen
    assert "'email' names 'nothing', but the columns are x" in text
    assert "nowhere" in text
    assert "refused the credentials" in text


def test_with_jwt_the_fields_cannot_be_asked_for(project: Project, server: FakeIterable) -> None:
    done = check(project, **JWT)
    assert (done.code, server.requests) == (0, [])
    assert "a JWT-enabled key cannot ask for the project's fields" in done.screen


def test_no_more_than_100_rows_are_read(project: Project) -> None:
    endless = """
        -- name: q
        -- email: email
        -- user fields: n
        WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r)
        SELECT n, CASE WHEN n > 102 THEN abs(-9223372036854775807 - 1) END AS x,
            'user' || n || '@example.com' AS email FROM r"""
    project.queries(endless)
    done = check(project, "--query", "q")
    assert "q: looked at the first 100 rows" in done.screen
    assert done.code == 0, "the driver looks a row ahead; SQLite refuses a later one"


def test_an_answer_that_was_asked_for_again_is_no_news(
    project: Project, server: FakeIterable
) -> None:
    server.add_fault("status", path="getFields", status=503, times=1)
    done = check(project, "--quiet")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert len(server.requests) == 2


def test_each_column_that_would_fail_is_told_of(project: Project) -> None:
    project.queries("""
        -- name: q
        -- email: mail
        -- user fields: a integer, b date
        SELECT 'x@example.com' AS mail, 'many' AS a, '2001-02-03' AS b
        UNION ALL SELECT 'y@example.com', 'more', '2001-02-03'
        UNION ALL SELECT 'z@example.com', 1, '' UNION ALL SELECT 7, 1, NULL""")
    done = check(project, "--query", "q")
    assert done.screen.count("wrong") == 3
    assert "InvalidValue in row 1: column a: text that is no integer" in done.screen
    assert "InvalidValue in row 3: column b: empty text that is no date" in done.screen
    assert "InvalidValue in row 4: column mail: email cannot be made of int" in done.screen
    done = check(project, "--query", "q", "--limit", "2")
    assert done.screen.count("wrong") == 1
    assert "q: looked at the first 2 rows" in done.screen
    assert "q: looked at the first row" in check(project, "--query", "q", "--limit", "1").screen


def test_nobody_listening_changes_nothing(project: Project, server: FakeIterable) -> None:
    command, env = project.command("--check")
    env["PYTHONUNBUFFERED"] = "1"
    with open("/dev/full", "w") as full:
        run = subprocess.run(
            command,
            env=env,
            cwd=project.directory,
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (run.returncode, run.stderr) == (0, b"")


@pytest.mark.parametrize("name", [".iterable_integration.lock", "iterable_integration.log"])
def test_links_in_the_place_of_our_files_are_wrong(project: Project, name: str) -> None:
    (project.output / name).symlink_to("/dev/null")
    done = check(project)
    assert done.code == 2
    assert f"{name} is a symbolic link" in done.screen
    assert project.run().code == 2, "as a run has it"


def test_a_link_at_the_log_is_right_where_the_log_is_another(project: Project) -> None:
    (project.output / "iterable_integration.log").symlink_to("/dev/null")
    assert check(project, LOG_FILE="other.log").code == 0


@pytest.mark.parametrize("content", [b"", None])
def test_a_ledger_that_is_sound_is_read_and_left_as_it_is(
    project: Project, content: bytes | None
) -> None:
    ledger = project.output / "delivery_ledger.sqlite3"
    if content is None:
        project.run("--only-changes")
    else:
        ledger.write_bytes(content)
    assert check(project).code == 0
    assert project.run("--only-changes", "--dry-run").code == 0
    assert [path.name for path in project.output.glob("delivery*")] == [ledger.name]


def test_a_damaged_ledger_is_wrong(project: Project) -> None:
    (project.output / "delivery_ledger.sqlite3").write_text("nonsense" * 1000)
    done = check(project)
    assert done.code == 2
    assert "delivery_ledger.sqlite3 cannot be used" in done.screen
    assert project.run().code == 2, "as a run has it"


def test_a_log_that_cannot_be_made_is_wrong(project: Project) -> None:
    done = check(project, LOG_FILE="/nonexistent/x.log")
    assert done.code == 2
    assert "The log /nonexistent/x.log cannot be written" in done.screen
    assert project.run(LOG_FILE="/nonexistent/x.log").code == 2, "as a run has it"
    os.mkfifo(project.directory / "pipe.log")
    for name in ("pipe.log", "out"):
        assert check(project, LOG_FILE=str(project.directory / name)).code == 2


def test_a_signal_ends_it_at_once(project: Project, server: FakeIterable) -> None:
    project.queries("""
        -- name: endless
        -- email: email
        -- user fields: plan
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
        SELECT 'a@example.com' AS email, 'pro' AS plan FROM n WHERE i < 0""")
    stop_while_it_runs = """
import signal, threading
take_sample = main.take_sample
def take_sample_and_stop(*args):
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    return take_sample(*args)
main.take_sample = take_sample_and_stop
"""
    sabotage(project, stop_while_it_runs)
    done = project.run("--check", "--query", "endless")
    assert (done.code, done.out, server.requests) == (143, "", [])
    assert "interrupted" in done.err


def test_two_queries_that_send_a_field_as_two_kinds_are_noted(project: Project) -> None:
    project.queries("""
        -- name: a
        -- email: email
        -- user fields: score
        SELECT 'a@example.com' AS email, 1 AS score;
        -- name: b
        -- email: email
        -- user fields: score
        SELECT 'b@example.com' AS email, 1.5 AS score""")
    done = check(project, "--query", "a,b")
    assert "Field score goes out as fraction and integer: write" in done.screen
    assert "'-- user fields: score decimal' in each query" in done.screen


def test_a_gap_is_noted(project: Project) -> None:
    project.as_of = None
    project.run("--quiet")
    [results] = project.output.glob("*.json")
    until = re.compile('"until": "[^"]*"')
    results.write_text(until.sub('"until": "2020-01-01T00:00:00+00:00"', results.read_text()))
    assert "note Between 2020-01-01 00:00Z and" in check(project).screen

"""Settings, flags and files that end a run before anything is sent."""

from __future__ import annotations

import os

import pytest

from tests.fake_iterable import FakeIterable
from tests.project import ROOT, Project, outputs
from tests.runs.endings import check_ended_early, check_ended_with_a_sentence, named_settings
from tests.settings import NAMES, WRONG

REPORT = "engagement_by_page"
NO_TABLE = "no such table: customers"


def test_everything_that_is_wrong_is_said_at_once(project: Project, server: FakeIterable) -> None:
    done = project.run("--days", "0", **{name: texts[0] for name, texts in WRONG.items()})
    lines = check_ended_early(project, server, done, 2)
    expected = [name for name in NAMES if name in WRONG]
    expected[expected.index("LOOKBACK_DAYS")] = "--days"
    assert named_settings(lines) == expected
    assert list(project.output.iterdir()) == []


def test_without_settings_it_explains_itself_in_a_few_lines(project: Project) -> None:
    done = project.run(**dict.fromkeys(project.settings, ""))
    assert (done.code, done.out) == (2, "")
    for text in (
        "DATABASE_URL",
        "ITERABLE_API_KEY",
        "python main.py --demo",
        str(project.env_file),
    ):
        assert text in done.err
    assert "ITERABLE_JWT_SECRET" not in done.err, "it is needed with USE_JWT_AUTH only"
    assert len(done.err.splitlines()) < 8


@pytest.mark.parametrize(
    ("flags", "settings", "code", "texts"),
    [
        (["--output-dir", "test.env"], {}, 2, ["test.env is a file", "--output-dir"]),
        ([], {"LOG_FILE": "none/a.log"}, 2, ["LOG_FILE"]),
        (["--as-of", "tomorrow"], {}, 2, ["--as-of", "'tomorrow"]),
        (["--as-of", "2026-02-30"], {}, 2, ["--as-of", "a day or a time that there is"]),
        ([], {"QUERIES_FILE": "none.sql"}, 2, ["none.sql"]),
        (["--query", "none"], {}, 2, ["'none'", "queries.sql", "pro_users_page_views"]),
        (["--query", REPORT], {}, 2, [f"'{REPORT}'", "queries.sql, line", "--query"]),
        ([], {"DATABASE_URL": "sqlite:///none.db"}, 3, ["none.db", "DATABASE_URL"]),
        ([], {"DATABASE_URL": "sqlite:///test.env"}, 3, ["test.env", "not a database"]),
        ([], {"DATABASE_URL": "sqlite:///empty.db"}, 3, ["queries.sql, line ", NO_TABLE]),
        ([], {"DATABASE_URL": "postgresql://me:hush@127.0.0.1:9/app"}, 3, ["postgresql"]),
    ],
)
def test_a_run_that_cannot_begin_says_why_in_a_sentence(
    project: Project,
    server: FakeIterable,
    flags: list[str],
    settings: dict[str, str],
    code: int,
    texts: list[str],
) -> None:
    (project.directory / "empty.db").touch()
    done = project.run(*flags, **settings)
    check_ended_with_a_sentence(project, server, done, code, *texts)
    assert not (project.directory / "none.db").exists()
    assert "hush" not in done.err
    for path in project.output.iterdir():
        assert "hush" not in path.read_text()


def test_a_query_that_fails_halfway_sends_nothing(project: Project, server: FakeIterable) -> None:
    project.queries("""
        -- name: q
        -- email: e
        -- user fields: n
        WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 3000)
        SELECT n, n || '@example.com' AS e, abs(CASE n WHEN 2500 THEN ~9223372036854775807 END)
        FROM t""")
    check_ended_with_a_sentence(project, server, project.run(QUERY="q"), 3, "'q'", "overflow")


@pytest.mark.parametrize(
    ("flags", "texts"),
    [
        (["--as-of", "9999-12-31T23:59:59Z"], ["--as-of"]),
        (["--as-of", "0001-01-01"], ["--as-of"]),
        (["--as-of", "2026-02-30"], ["--as-of", "'2026-02-30"]),
        (["--as-of", "13.01.2026"], ["--as-of", "'13.01.2026"]),
        (["--as-of", "2026-01-13T24:30"], ["--as-of"]),
        (["--as-of", "\udcff\x1b[2J"], ["--as-of"]),
        (["--limit", "9" * 20], ["--limit"]),
        (["--limit", "-1"], ["--limit"]),
        (["--query", "\x1b[2J\n"], ["2J"]),
        (["--env-file", "app.db/x"], ["app.db/x"]),
        (["--env-file", "app.db"], ["app.db"]),
        (["--env-file", "odd.env"], ["odd.env", "2"]),
    ],
)
def test_a_wrong_flag_is_told_in_a_sentence(
    project: Project, server: FakeIterable, flags: list[str], texts: list[str]
) -> None:
    # line 2 has a quote too few
    (project.directory / "odd.env").write_text('QUERY=x\nLOOKBACK_DAYS="30\n')
    done = project.run(*flags, DATABASE_TIMEZONE="Asia/Tokyo")
    check_ended_with_a_sentence(project, server, done, 2, *texts)


@pytest.mark.parametrize("name", ["pipe", "/dev/zero"])
def test_an_env_file_that_is_no_file_is_told_at_once(
    project: Project, server: FakeIterable, name: str
) -> None:
    os.mkfifo(project.directory / "pipe")
    done = project.run("--env-file", name)
    check_ended_with_a_sentence(project, server, done, 2, name, "a pipe or a device")


def test_an_env_file_may_be_a_link(project: Project) -> None:
    link = project.directory / "link.env"
    link.symlink_to(project.env_file)
    assert project.run("--env-file", str(link)).code == 0


def test_a_path_with_nul_is_a_mistake_of_settings(project: Project, server: FakeIterable) -> None:
    names = ["DATABASE_URL", "QUERIES_FILE", "OUTPUT_DIR", "LOG_FILE"]
    done = project.run(**dict.fromkeys(names, "sqlite:///a\0b"))
    assert named_settings(check_ended_early(project, server, done, 2)) == names


def test_an_empty_flag_leaves_the_setting_as_it_is(project: Project) -> None:
    empty = ["--output-dir", "", "--query", "", "--days", ""]
    done = project.run("--dry-run", *empty, QUERY="pro_users_page_views")
    assert (done.code, done.results["run"]["query"]) == (0, "pro_users_page_views")
    assert len(outputs(project.output)) == 2


@pytest.mark.parametrize(
    "content", ["a directory", b"", b"\0" * 1000, bytes(range(256)), b"-- name: q\xff", "10 MB"]
)
def test_a_queries_file_that_is_none_is_told_in_a_sentence(
    project: Project, server: FakeIterable, content: bytes | str
) -> None:
    path = project.directory / "odd.sql"
    if content == "10 MB":
        # it is correct, but nobody wrote it, and with other comments it would be read for minutes
        path.write_bytes((ROOT / "queries.sql").read_bytes() + b"\n-- " + b"x" * 10_000_000)
    elif isinstance(content, str):
        path.mkdir()
    else:
        path.write_bytes(content)
    done = project.run(QUERIES_FILE=str(path))
    check_ended_with_a_sentence(project, server, done, 2, str(path))


@pytest.mark.parametrize("place", ["LOG_FILE", "lock"])
def test_a_pipe_in_the_place_of_a_file_holds_nothing_up(
    project: Project, server: FakeIterable, place: str
) -> None:
    path = project.output / ".iterable_integration.lock"
    settings = {}
    if place == "LOG_FILE":
        path = project.directory / "pipe.log"
        settings = {"LOG_FILE": str(path)}
    os.mkfifo(path)
    done = project.run(**settings)
    assert (done.code, server.requests) == (2, [])
    assert path.name in done.err
    assert "None" not in done.err

"""Settings and command line: what they mean, how mistakes are told, what documents them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

import main
from main import REQUIRED, RunError, Settings
from tests.fake_iterable import FakeIterable
from tests.project import ROOT, Finished, Project, outputs

NAMES = [setting.name.upper() for setting in fields(Settings)]
SWITCHES = ["--demo", "--dry-run", "--only-changes", "--quiet", "--verbose"]
OPTIONS = ["--query", "--days", "--as-of", "--limit", "--output-dir", "--env-file"]
MINIMUM = {"DATABASE_URL": "sqlite:///app.db", "ITERABLE_API_KEY": "test-api-key"}


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """Loads the settings of a command line and an env file, in an empty working directory."""
    monkeypatch.chdir(tmp_path)

    def load(*flags: str, env_file: str | bytes = "", **settings: str) -> Settings:
        text = "".join(f"{name}='{value}'\n" for name, value in settings.items()).encode()
        Path("test.env").write_bytes(
            text + (env_file.encode() if isinstance(env_file, str) else env_file)
        )
        args = main.parse_args(["--env-file", "test.env", *flags])
        return main.load_settings(args, main.read_env(args))

    return load


def complaints(load: Callable[..., Settings], *flags: str, **settings: str) -> list[str]:
    """The lines about single settings in the error that loading them gives."""
    with pytest.raises(RunError) as caught:
        load(*flags, **settings)
    assert caught.value.code == 2
    return [line.strip() for line in str(caught.value).splitlines() if line.startswith(" ")]


# Values


def test_what_is_not_set_has_its_default(load: Callable[..., Settings]) -> None:
    assert asdict(load(**MINIMUM)) == {
        "database_url": "sqlite:///app.db",
        "database_timezone": ZoneInfo("UTC"),
        "queries_file": ROOT / "queries.sql",
        "query": "pro_users_recent_engagement",
        "lookback_days": 7,
        "iterable_api_key": "test-api-key",
        "use_jwt_auth": False,
        "iterable_jwt_secret": None,
        "iterable_api_base_url": "https://api.iterable.com",
        "send_mode": "auto",
        "workers": None,
        "rate_limit_factor": 0.95,
        "max_retries": 3,
        "backoff_factor": 2,
        "initial_backoff": 1,
        "request_timeout": 30,
        "send_only_changes": False,
        "output_dir": Path(),
        "log_file": None,
        "log_level": "INFO",
    }


@pytest.mark.parametrize(
    ("flags", "environment", "env_file", "days"),
    [
        (["--days", "1"], "2", "LOOKBACK_DAYS=3", 1),
        ([], "2", "LOOKBACK_DAYS=3", 2),
        ([], "", "LOOKBACK_DAYS=3", 3),
        ([], None, "LOOKBACK_DAYS=3", 3),
        ([], None, "LOOKBACK_DAYS=", 7),
        ([], None, "LOOKBACK_DAYS=' '", 7),
        ([], None, "", 7),
        (["--days", "0.5"], None, "", 0.5),
        ([], None, "export LOOKBACK_DAYS=3", 3),
    ],
)
def test_flags_go_before_the_environment_the_env_file_and_defaults(
    load: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
    environment: str | None,
    env_file: str,
    days: float,
) -> None:
    if environment is not None:
        monkeypatch.setenv("LOOKBACK_DAYS", environment)
    assert load(*flags, env_file=env_file, **MINIMUM).lookback_days == days


def test_every_flag_that_stands_for_a_setting_overrides_it(load: Callable[..., Settings]) -> None:
    changed = load(
        "--query", "a", "--days", "2", "--output-dir", "b", **MINIMUM, QUERY="x", OUTPUT_DIR="y"
    )
    assert changed == replace(load(**MINIMUM), query="a", lookback_days=2.0, output_dir=Path("b"))


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("USE_JWT_AUTH", "TRUE", True),
        ("USE_JWT_AUTH", "False", False),
        ("SEND_MODE", "Bulk", "bulk"),
        ("LOG_LEVEL", "debug", "DEBUG"),
        ("WORKERS", "512", 512),
        ("INITIAL_BACKOFF", "0.01", 0.01),
        ("ITERABLE_API_BASE_URL", "https://api.eu.iterable.com/", "https://api.eu.iterable.com"),
        ("ITERABLE_API_BASE_URL", "http://127.0.0.1:80", "http://127.0.0.1:80"),
        ("RATE_LIMIT_FACTOR", "1000", 1000.0),
        ("ITERABLE_API_BASE_URL", "http://localhost:80", "http://localhost:80"),
        ("ITERABLE_API_BASE_URL", "http://[::1]:80", "http://[::1]:80"),
        ("MAX_RETRIES", "1", 1),
        ("DATABASE_TIMEZONE", "Asia/Tokyo", ZoneInfo("Asia/Tokyo")),
        ("DATABASE_URL", "postgresql://me:${PATH}$x@db/app", "postgresql://me:${PATH}$x@db/app"),
    ],
)
def test_a_value_is_read_as_it_stands(
    load: Callable[..., Settings], name: str, text: str, value: object
) -> None:
    others = {**MINIMUM, "ITERABLE_JWT_SECRET": "a-secret"}
    assert getattr(load(**{**others, name: text}), name.lower()) == value
    assert getattr(load(**others, env_file=f"{name}={text}\n"), name.lower()) == value, "unquoted"


def test_an_env_file_is_found_in_the_working_directory_before_the_one_beside_main(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(main, "HERE", tmp_path)
    for found, folder in (("beside main.py", tmp_path), ("here", tmp_path / "here")):
        (folder / ".env").write_text(f"QUERY='{found}'\n")
        assert main.read_env(main.parse_args([]))["QUERY"] == found


# Mistakes

WRONG = {
    "DATABASE_URL": ["app.db", "/var/app.db"],
    "DATABASE_TIMEZONE": ["Mars/Olympus", "../etc/passwd", "Europe"],
    "LOOKBACK_DAYS": ["0", "-1", "nan", "inf", "week"],
    "ITERABLE_API_KEY": ["a key", "schlüssel"],
    "ITERABLE_JWT_SECRET": ["a secret", "se\tcret"],
    "USE_JWT_AUTH": ["maybe", "2"],
    "SEND_MODE": ["fast"],
    "ITERABLE_API_BASE_URL": [
        "api.iterable.com",
        "http://api.iterable.com",
        "https://api.iterable.com/api",
        "https://",
        "https://me@api.iterable.com",
        "http://127.0.0.1.evil.com",
        "http://127.999.0.1",
        "https://api.iterable.com?x",
    ],
    "WORKERS": ["0", "513", "1.5", "many"],
    "RATE_LIMIT_FACTOR": ["0", "-1", "nan"],
    "MAX_RETRIES": ["0", "1.5", "21"],
    "BACKOFF_FACTOR": ["0.5", "x"],
    "INITIAL_BACKOFF": ["-1", "61"],
    "REQUEST_TIMEOUT": ["0", "inf"],
    "LOG_LEVEL": ["LOUD"],
}
TELLING = re.compile(
    r"must be .*(such as|from .+ to|\bor\b)"
)  # what is right, with an example, a range or a choice


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_named_with_what_it_must_be(
    load: Callable[..., Settings], name: str
) -> None:
    for text in WRONG[name]:
        [complaint] = complaints(load, **{**MINIMUM, name: text})
        assert complaint.startswith(f"{name} ")
        assert TELLING.search(complaint), complaint
        assert "key" not in name.lower() or text not in complaint, "a secret is not shown"


def test_everything_that_is_wrong_is_said_at_once(project: Project, server: FakeIterable) -> None:
    done = project.run("--days", "0", **{name: texts[0] for name, texts in WRONG.items()})
    lines = [line.split()[0] for line in done.err.splitlines() if line.startswith(" ")]
    assert lines == [
        "--days" if name == "LOOKBACK_DAYS" else name for name in NAMES if name in WRONG
    ]
    assert (done.code, done.out, server.requests, list(project.output.iterdir())) == (2, "", [], [])


def test_without_settings_it_explains_itself_in_a_few_lines(project: Project) -> None:
    done = project.run(**dict.fromkeys(project.settings, ""))
    assert (done.code, done.out) == (2, "")
    for text in ("DATABASE_URL", "ITERABLE_API_KEY", "python main.py --demo", ".env.example"):
        assert text in done.err
    assert "ITERABLE_JWT_SECRET" not in done.err, "it is needed with USE_JWT_AUTH only"
    assert len(done.err.splitlines()) < 8


@pytest.mark.parametrize(
    ("flags", "settings", "names"),
    [
        ([], {}, ["DATABASE_URL", "ITERABLE_API_KEY"]),
        (["--dry-run"], {}, ["DATABASE_URL"]),
        ([], {**MINIMUM, "USE_JWT_AUTH": "true"}, ["ITERABLE_JWT_SECRET"]),
        (
            [],
            {**MINIMUM, "USE_JWT_AUTH": "true", "ITERABLE_JWT_SECRET": "s", "SEND_MODE": "bulk"},
            ["SEND_MODE"],
        ),
        (["--days", "x", "--dry-run"], MINIMUM, ["--days"]),
    ],
)
def test_what_a_run_needs_depends_on_what_it_does(
    load: Callable[..., Settings], flags: list[str], settings: dict[str, str], names: list[str]
) -> None:
    assert [line.split()[0] for line in complaints(load, *flags, **settings)] == names


def test_an_env_file_that_cannot_be_read_is_named(load: Callable[..., Settings]) -> None:
    for name in ("none.env", "."):
        with pytest.raises(RunError, match=re.escape(name)):
            load("--env-file", name)
    with pytest.raises(RunError, match=r"test\.env"):
        load(env_file=b"QUERY=\xff\n")


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--demo", "--dry-run"], "--dry-run"),
        (["--quiet", "--verbose"], "--verbose"),
        (["--limit", "0"], "--limit"),
        (["--limit", "few"], "--limit"),
        (["--queri", "x"], "--queri"),
        (["--que", "x"], "--que"),
        (["now"], "now"),
    ],
)
def test_a_wrong_command_line_is_refused(
    capsys: pytest.CaptureFixture[str], flags: list[str], named: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        main.parse_args(flags)
    error = capsys.readouterr().err
    assert (caught.value.code, error.startswith("usage: python main.py [--demo")) == (2, True)
    assert named in error.splitlines()[-1]


# The window


@pytest.mark.parametrize(
    ("flags", "zone", "since", "until", "rows"),
    [
        (
            ["--as-of", "2026-01-13 12:00:00"],
            "",
            "2026-01-06T12:00:00+00:00",
            "2026-01-13T12:00:00+00:00",
            "12345",
        ),
        (
            ["--as-of", "2026-01-13T12:00:01Z"],
            "",
            "2026-01-06T12:00:01+00:00",
            "2026-01-13T12:00:01+00:00",
            "1245",
        ),
        (
            ["--as-of", "2026-01-13 13:00+01:00"],
            "",
            "2026-01-06T12:00:00+00:00",
            "2026-01-13T12:00:00+00:00",
            "12345",
        ),
        (
            ["--as-of", "2026-01-13"],
            "",
            "2026-01-06T00:00:00+00:00",
            "2026-01-13T00:00:00+00:00",
            "123458",
        ),
        (["--days", "2"], "", "2026-01-11T12:00:00+00:00", "2026-01-13T12:00:00+00:00", "1245"),
        (["--days", "0.25"], "", "2026-01-13T06:00:00+00:00", "2026-01-13T12:00:00+00:00", "14"),
        ([], "Asia/Tokyo", "2026-01-06T12:00:00+09:00", "2026-01-13T12:00:00+09:00", "12345"),
        (
            ["--as-of", "2026-03-29 12:00", "--days", "1"],
            "Europe/Berlin",
            "2026-03-28T11:00:00+01:00",
            "2026-03-29T12:00:00+02:00",
            "",
        ),  # 24 hours, though the day has 23
        (
            ["--as-of", "2026-01-13 03:00:01Z"],
            "Asia/Tokyo",
            "2026-01-06T12:00:01+09:00",
            "2026-01-13T12:00:01+09:00",
            "1245",
        ),
    ],
)
def test_the_window_is_the_days_before_as_of_in_the_databases_zone(
    project: Project, flags: list[str], zone: str, since: str, until: str, rows: str
) -> None:
    done = project.run("--dry-run", *flags, DATABASE_TIMEZONE=zone)
    for name, expected in (("since", since), ("until", until)):
        assert datetime.fromisoformat(done.results["run"][name]) == datetime.fromisoformat(expected)
    assert "".join(row[0] for row in done.rows[1:]) == rows


# What ends a run before anything is sent


def check_nothing_happened(project: Project, done: Finished, code: int, *texts: str) -> None:
    """The run ended with one sentence that has these texts, and without files."""
    assert (done.code, done.out, done.err.count("\n")) == (code, "", 1), done.err
    assert done.err.startswith("main.py: ")
    for text in texts:
        assert text in done.err
    assert not outputs(project.directory) + outputs(project.output)


@pytest.mark.parametrize(
    ("flags", "settings", "code", "texts"),
    [
        (["--output-dir", "none"], {}, 2, ["none", "--output-dir"]),
        ([], {"LOG_FILE": "none/a.log"}, 2, ["LOG_FILE"]),
        (["--as-of", "tomorrow"], {}, 2, ["--as-of", "'tomorrow"]),
        ([], {"QUERIES_FILE": "none.sql"}, 2, ["none.sql"]),
        (["--query", "none"], {}, 2, ["'none'", "queries.sql", "pro_users_page_views"]),
        (
            ["--query", "engagement_by_page"],
            {},
            2,
            ["'engagement_by_page'", "queries.sql, line", "--query"],
        ),
        ([], {"DATABASE_URL": "sqlite:///none.db"}, 3, ["none.db", "DATABASE_URL"]),
        ([], {"DATABASE_URL": "sqlite:///test.env"}, 3, ["test.env", "not a database"]),
        (
            [],
            {"DATABASE_URL": "sqlite:///empty.db"},
            3,
            ["queries.sql, line ", "no such table: customers"],
        ),
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
    check_nothing_happened(project, done, code, *texts)
    assert not server.requests
    assert not (project.directory / "none.db").exists()
    assert "hush" not in done.err + "".join(path.read_text() for path in project.output.iterdir())


GOOD = ["email: email", "event: seen", "event id: n"]


@pytest.mark.parametrize(
    ("keys", "line", "texts"),
    [
        (["event: seen", "event id: n"], 1, ["'email'", "'userId'"]),
        (["userId: n", *GOOD], 1, ["'email'", "'userId'"]),
        (["email: email"], 1, ["user fields", "event"]),
        (["email: mail", "user fields: n"], 2, ["'mail'", "n, email"]),
        ([*GOOD[:2], "event id: n, m"], 4, ["'m'", "event id"]),
        ([*GOOD, "event fields: x"], 5, ["'x'", "event fields"]),
        ([*GOOD, "event time: at"], 5, ["'at'", "event time"]),
        ([*GOOD, "user fields: email"], 5, ["'email'", "identity"]),
        (["email: email", "event: seen"], 3, ["event time", "event id"]),
        (["email: email", "user fields: n", "event fields: n"], 4, ["event fields", "event"]),
        ([*GOOD, "User_fields: n"], 5, ["User_fields", "-- user fields:"]),
        ([*GOOD, "event: other"], 5, ["'event'"]),
    ],
)
def test_a_mapping_that_makes_no_sense_is_an_error_at_its_line(
    project: Project, server: FakeIterable, keys: list[str], line: int, texts: list[str]
) -> None:
    comment = "".join(f"-- {key}\n" for key in keys)
    project.queries(f"-- name: q\n{comment}SELECT 1 AS n, 'a@example.com' AS email\n")
    check_nothing_happened(
        project, project.run(QUERY="q"), 2, f"queries.sql, line {line}, query 'q': ", *texts
    )
    assert not server.requests


def test_a_mistake_in_another_query_of_the_file_is_an_error_too(project: Project) -> None:
    project.queries(
        "-- name: q\n-- email: e\n-- user fields: e2\nSELECT 'a@example.com' AS e, 1 AS e2;\n"
        "-- name: other\n-- email: e\nSELECT 1 AS e"
    )
    check_nothing_happened(project, project.run(QUERY="q"), 2, "line 5, query 'other'")


def test_a_query_that_fails_halfway_sends_nothing(project: Project, server: FakeIterable) -> None:
    project.queries(
        "-- name: q\n-- email: e\n-- user fields: n\n"
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 3000)\n"
        "SELECT n, n || '@example.com' AS e, "
        "abs(CASE n WHEN 2500 THEN ~9223372036854775807 END) FROM t"
    )
    check_nothing_happened(project, project.run(QUERY="q"), 3, "'q'", "overflow")
    assert not server.requests


def test_a_report_may_hold_anything(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    project.queries(
        "-- name: q\n-- email: e\n-- user fields: e2\nSELECT 'a@example.com' AS e, 1 AS e2;\n"
        "-- name: odd\nSELECT CAST(x'61ff' AS TEXT) AS broken, 'Łódź' AS text, x'00' AS data, NULL"
    )
    done = project.run(QUERY="q")
    assert (done.code, done.err, done.results["reports"]["odd"][0]["text"]) == (0, "", "Łódź")


# What documents it


@pytest.fixture(scope="module")
def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def shown_default(setting: Any) -> str:
    """A default as the documentation shows it."""
    return "queries.sql" if setting.name == "queries_file" else str(setting.metadata["default"])


def test_the_readme_has_both_commands_each_on_a_line_of_its_own(readme: str) -> None:
    install = (
        "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt && .venv/bin/python"
    )
    for rest in ("main.py --demo", "-m pytest"):
        assert readme.splitlines().count(f"{install} {rest}") == 1


def test_the_readme_shows_the_help_which_names_every_flag(readme: str) -> None:
    for flag in ("--help", "-h"):
        command = [sys.executable, str(ROOT / "main.py"), flag]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert shown in re.findall(r"```\w*\n(.*?)```", readme, re.DOTALL)
    assert sorted(re.findall(r"^  (--\S+)", shown, re.MULTILINE)) == sorted([*SWITCHES, *OPTIONS])
    for option in [*SWITCHES, *(f"{option}=1" for option in OPTIONS)]:
        main.parse_args([option])


def test_the_readme_lists_every_setting_with_default_and_help(readme: str) -> None:
    rows = [
        line
        for line in readme.splitlines()
        if line.startswith(tuple(f"| {name} |" for name in NAMES))
    ]
    assert rows == [
        f"| {name} | {shown_default(setting)} | {setting.metadata['help']} |"
        for name, setting in zip(NAMES, fields(Settings), strict=True)
    ]


def test_env_example_lists_every_setting_with_default_and_help() -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    entries = re.findall(r"^# (.+)\n(# )?([A-Z_]+)=(.*)$", text, re.MULTILINE)
    assert len(entries) == len(re.findall(r"^#? ?[A-Z_]+ ?=", text, re.MULTILINE)), (
        "no entry without a line of text"
    )
    assert [(entry[0], entry[2]) for entry in entries] == [
        (setting.metadata["help"], setting.name.upper()) for setting in fields(Settings)
    ]
    for (_, comment, name, default), setting in zip(entries, fields(Settings), strict=True):
        if (
            comment
        ):  # it shows the default, and it is optional, but for the secret that only JWT needs
            assert default == shown_default(setting)
        assert bool(comment) == (setting.name not in REQUIRED or name == "ITERABLE_JWT_SECRET")


def test_env_example_needs_no_more_than_the_key(load: Callable[..., Settings]) -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    text = text.replace("ITERABLE_API_KEY=", "ITERABLE_API_KEY=test-api-key")
    loaded = load(env_file=text)
    assert loaded == replace(
        Settings(), database_url=loaded.database_url, iterable_api_key="test-api-key"
    )
    everything = load(env_file=re.sub(r"^# ([A-Z_]+=)", r"\1", text, flags=re.MULTILINE))
    assert replace(everything, queries_file=loaded.queries_file) == loaded

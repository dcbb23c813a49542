"""What settings and the command line mean, and how mistakes in them are told."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

import main
from main import RunError
from tests.project import JWT, KEY, ROOT
from tests.settings import WRONG, Load

MINIMUM = {"DATABASE_URL": "sqlite:///app.db", "ITERABLE_API_KEY": KEY}


def complaints(load: Load, *flags: str, **settings: str) -> list[str]:
    """The lines about single settings in the error that loading them gives."""
    with pytest.raises(RunError) as caught:
        load(*flags, **settings)
    assert caught.value.code == 2
    return [line.strip() for line in str(caught.value).splitlines() if line.startswith(" ")]


def test_what_is_not_set_has_its_default(load: Load) -> None:
    assert asdict(load(**MINIMUM)) == {
        "database_url": "sqlite:///app.db",
        "database_timezone": ZoneInfo("UTC"),
        "queries_file": ROOT / "queries.sql",
        "query": ("pro_users_recent_engagement",),
        "lookback_days": 7,
        "iterable_api_key": KEY,
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
        "tolerated_failures": (),
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
    load: Load,
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
    environment: str | None,
    env_file: str,
    days: float,
) -> None:
    if environment is not None:
        monkeypatch.setenv("LOOKBACK_DAYS", environment)
    assert load(*flags, env_file=env_file, **MINIMUM).lookback_days == days


def test_every_flag_that_stands_for_a_setting_overrides_it(load: Load) -> None:
    flags = ["--query", "a", "--days", "2", "--output-dir", "b"]
    changed = load(*flags, **MINIMUM, QUERY="x", OUTPUT_DIR="y")
    assert changed == replace(
        load(**MINIMUM), query=("a",), lookback_days=2.0, output_dir=Path("b")
    )


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("USE_JWT_AUTH", "TRUE", True),
        ("USE_JWT_AUTH", "False", False),
        ("SEND_MODE", "Bulk", "bulk"),
        ("LOG_LEVEL", "debug", "DEBUG"),
        ("LOG_LEVEL", "info", "INFO"),
        ("LOG_LEVEL", "warning", "WARNING"),
        ("LOG_LEVEL", "error", "ERROR"),
        ("BACKOFF_FACTOR", "1", 1.0),
        ("BACKOFF_FACTOR", "10", 10.0),
        ("WORKERS", "512", 512),
        ("INITIAL_BACKOFF", "0.01", 0.01),
        ("ITERABLE_API_BASE_URL", "https://api.eu.iterable.com/", "https://api.eu.iterable.com"),
        ("ITERABLE_API_BASE_URL", "http://127.0.0.1:80", "http://127.0.0.1:80"),
        ("RATE_LIMIT_FACTOR", "1000", 1000.0),
        ("ITERABLE_API_BASE_URL", "http://localhost:80", "http://localhost:80"),
        ("ITERABLE_API_BASE_URL", "http://[::1]:80", "http://[::1]:80"),
        ("MAX_RETRIES", "1", 1),
        ("ITERABLE_API_KEY", "eight-88", "eight-88"),
        ("DATABASE_TIMEZONE", "Asia/Tokyo", ZoneInfo("Asia/Tokyo")),
        ("QUERY", "b, a", ("b", "a")),
        ("QUERY", "all", ("all",)),
        ("TOLERATED_FAILURES", "ForgottenUserError,A.b-c", ("ForgottenUserError", "A.b-c")),
        ("DATABASE_URL", "postgresql://me:${PATH}$x@db/app", "postgresql://me:${PATH}$x@db/app"),
    ],
)
def test_a_value_is_read_as_it_stands(load: Load, name: str, text: str, value: object) -> None:
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


# what is right, with an example, a range or a choice
TELLING = re.compile(r"must be .*(such as|from .+ to|\bor\b)")


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_named_with_what_it_must_be(load: Load, name: str) -> None:
    for text in WRONG[name]:
        [complaint] = complaints(load, **{**MINIMUM, name: text})
        assert complaint.startswith(f"{name} ")
        assert TELLING.search(complaint), complaint
        assert "key" not in name.lower() or text not in complaint, "a secret is not shown"


@pytest.mark.parametrize(
    ("flags", "settings", "names"),
    [
        ([], {}, ["DATABASE_URL", "ITERABLE_API_KEY"]),
        (["--dry-run"], {}, ["DATABASE_URL"]),
        ([], {**MINIMUM, "USE_JWT_AUTH": "true"}, ["ITERABLE_JWT_SECRET"]),
        ([], {**MINIMUM, **JWT, "SEND_MODE": "bulk"}, ["SEND_MODE"]),
        (["--days", "x", "--dry-run"], MINIMUM, ["--days"]),
    ],
)
def test_what_a_run_needs_depends_on_what_it_does(
    load: Load, flags: list[str], settings: dict[str, str], names: list[str]
) -> None:
    found = [line.split()[0] for line in complaints(load, *flags, **settings)]
    assert found == names


def test_an_env_file_that_cannot_be_read_is_named(load: Load) -> None:
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
    assert caught.value.code == 2
    assert error.startswith("usage: main.py [--demo")
    assert named in error.splitlines()[-1]


def test_without_an_env_file_the_advice_says_how_to_make_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(main, "HERE", tmp_path)
    faults = {"workers": "WORKERS must be 1"}
    options = main.parse_args([])
    without = str(main.settings_error(faults, options))
    assert "Copy the example and fill it in: install -m 600 .env.example .env" in without
    monkeypatch.setattr(main, "HERE", tmp_path / "elsewhere")
    assert "install -m 600 elsewhere/.env.example .env" in str(main.settings_error(faults, options))
    assert "mend them there" not in without


def test_a_misspelt_name_is_told_beside_what_is_missing(load: Load) -> None:
    env_file = f"DATABASE_URL=sqlite:///app.db\nITERABLE_APIKEY={KEY}\nOTHER=1\n"
    with pytest.raises(RunError) as caught:
        load(env_file=env_file)
    text = str(caught.value)
    assert "test.env sets ITERABLE_APIKEY, which is no setting: is ITERABLE_API_KEY meant?" in text
    assert "They come from the environment and from test.env: mend them there" in text
    assert "OTHER" not in text


def test_what_is_wrong_on_the_command_line_is_not_looked_for_elsewhere(load: Load) -> None:
    with pytest.raises(RunError) as caught:
        load("--days", "0", **MINIMUM)
    [_, line] = str(caught.value).splitlines()
    assert line == "  --days must be a number from 0.001 to 36500"


def test_a_url_with_a_special_password_shows_the_encodings(load: Load) -> None:
    [line] = complaints(load, **{**MINIMUM, "DATABASE_URL": "postgresql://me:p@ss/w@h/d"})
    assert "@ is %40" in line
    assert "p@ss" not in line


def test_what_is_wrong_in_the_environment_is_told_apart(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOKBACK_DAYS", "many")
    with pytest.raises(
        RunError, match="LOOKBACK_DAYS in the environment must be a number"
    ) as wrong:
        load(env_file="LOOKBACK_DAYS=3\nWORKERS=many", **MINIMUM)
    assert "WORKERS must be a whole number" in str(wrong.value)

"""README and .env.example, held to the code."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields, replace
from typing import Any

import pytest

import main
from main import Settings
from tests.project import KEY, ROOT
from tests.settings import NAMES, Load

SWITCHES = ["--demo", "--dry-run", "--check", "--only-changes", "--quiet", "--verbose"]


OPTIONS = ["--query", "--days", "--as-of", "--limit", "--output-dir", "--env-file"]


@pytest.fixture(scope="module")
def readme() -> str:
    """The README."""
    return (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def env_example() -> str:
    """.env.example."""
    return (ROOT / ".env.example").read_text(encoding="utf-8")


def shown_default(setting: Any) -> str:
    """A default as the documentation shows it."""
    return "queries.sql" if setting.name == "queries_file" else str(setting.metadata["default"])


def test_the_readme_has_both_commands_each_on_a_line_of_its_own(readme: str) -> None:
    install = "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt"
    for rest in ("main.py --demo", "-m pytest"):
        assert readme.splitlines().count(f"{install} && .venv/bin/python {rest}") == 1


def test_the_readme_shows_the_help_which_names_every_flag(readme: str) -> None:
    blocks = re.findall(r"```\w*\n(.*?)```", readme, re.DOTALL)
    for flag in ("--help", "-h"):
        command = [sys.executable, str(ROOT / "main.py"), flag]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert shown in blocks
    flags = re.findall(r"^  (--\S+)", shown, re.MULTILINE)
    assert sorted(flags) == sorted([*SWITCHES, *OPTIONS])
    for switch in SWITCHES:
        main.parse_args([switch])
    for option in OPTIONS:
        main.parse_args([f"{option}=1"])


def test_the_readme_lists_every_setting_with_default_and_help(readme: str) -> None:
    starts = tuple(f"| {name} |" for name in NAMES)
    rows = [line for line in readme.splitlines() if line.startswith(starts)]
    expected = []
    for setting in fields(Settings):
        name, text = setting.name.upper(), setting.metadata["help"]
        expected.append(f"| {name} | {shown_default(setting)} | {text} |")
    assert rows == expected


def test_env_example_lists_every_setting_with_default_and_help(env_example: str) -> None:
    entries = re.findall(r"^# (.+)\n(# )?([A-Z_]+)=(.*)$", env_example, re.MULTILINE)
    required = [entry.name for entry in main.required_settings(main.parse_args([]), {})]
    all_entries = re.findall(r"^#? ?[A-Z_]+ ?=", env_example, re.MULTILINE)
    assert len(entries) == len(all_entries), "none without a line of text"
    for (text, mark, name, default), setting in zip(entries, fields(Settings), strict=True):
        assert text == setting.metadata["help"]
        assert name == setting.name.upper()
        # What is optional is commented out and shows its default.
        assert (mark == "") == (setting.name in required)
        if mark:
            assert default == shown_default(setting)


def test_env_example_needs_no_more_than_the_key(load: Load, env_example: str) -> None:
    text = env_example.replace("ITERABLE_API_KEY=", f"ITERABLE_API_KEY={KEY}")
    loaded = load(env_file=text)
    minimum = f"DATABASE_URL={loaded.database_url}\nITERABLE_API_KEY={KEY}\n"
    assert loaded == load(env_file=minimum)
    everything = load(env_file=re.sub(r"^# ([A-Z_]+=)", r"\1", text, flags=re.MULTILINE))
    assert replace(everything, queries_file=loaded.queries_file) == loaded

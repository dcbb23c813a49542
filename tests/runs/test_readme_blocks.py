"""The README's blocks of output are what the program prints, but for paths and moments."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from main import ADVICE
from tests.fake_iterable import FakeIterable
from tests.project import AS_OF, ROOT, Project
from tests.runs.sample import EMAILS


@pytest.fixture(scope="module")
def readme() -> str:
    """The README."""
    return (ROOT / "README.md").read_text(encoding="utf-8")


def settled(text: str) -> str:
    """Text without what differs from run to run: line breaks, moments, paths, ports."""
    text = " ".join(text.split())
    text = re.sub(r"in \d+\.\d s", "in 0.1 s", text)
    text = re.sub(r"--env-file \S+ ", "", text)
    text = re.sub(r"\S+ \S*main\.py", ".venv/bin/python main.py", text)
    text = re.sub(r"\S*((?:query|integration)_results)_\d{8}_\d{6}", r"\1", text)
    text = re.sub(r"\S*(\.env|/out)\b", "PATH", text)
    text = re.sub(r"into \S+", "into PATH", text)
    text = re.sub(r"sqlite:\S+", "DATABASE", text)
    return re.sub(r"https?:\S+", "URL", text)


def blocks(readme: str) -> list[str]:
    """The README's blocks of text, settled."""
    found = re.findall(r"^ *```text\n(.*?)^ *```", readme, re.DOTALL | re.MULTILINE)
    return [settled(block) for block in found]


def test_the_demo(readme: str, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "main.py"), "--demo"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert settled(done.stdout) in blocks(readme)


def test_the_tour(readme: str, project: Project, server: FakeIterable) -> None:
    server.add_user_fields({"candidate": "long"})
    dry_run = project.run("--dry-run")
    assert f'main.py --dry-run --as-of "{AS_OF}"' in readme
    for done in (project.run("--check"), dry_run):
        assert settled(done.out) in blocks(readme)


def test_failures(readme: str, project: Project, server: FakeIterable) -> None:
    server.add_user_fields({"candidate": "long"})
    server.forgotten = {EMAILS[0]}
    project.sql("UPDATE customers SET email = 'nobody' WHERE id = 3")
    assert settled(project.run().out) in blocks(readme)


def test_the_advice_for_each_code(readme: str) -> None:
    rows = [f"| {code} | {advice} |" for code, advice in ADVICE.items()]
    assert "\n".join(rows) in readme

"""What a terminal sees, and terminals that go away."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.fake_iterable import FakeIterable
from tests.project import KEY, MakeProject, Project, outputs


@pytest.fixture
def slow_server() -> Iterator[FakeIterable]:
    """A stand-in at which a row takes over half a second."""
    with FakeIterable(api_key=KEY, latency=0.3) as server:
        yield server


@contextlib.contextmanager
def started_in_a_terminal(
    project: Project, *args: str, **settings: str
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A run whose output is a terminal, and that terminal's other side."""
    ours, theirs = pty.openpty()
    command, env = project.command(*args, **settings)
    with subprocess.Popen(
        command, env=env, cwd=project.directory, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        yield process, ours


def read_terminal(project: Project, *args: str, **settings: str) -> bytes:
    """All that a terminal sees of a run."""
    seen = b""
    with started_in_a_terminal(project, *args, **settings) as (_, terminal):
        with contextlib.suppress(OSError):  # Linux, where the other side is closed
            while piece := os.read(terminal, 4096):
                seen += piece
        os.close(terminal)
    return seen


@pytest.mark.parametrize("flags", [(), ("--quiet",)])
def test_a_terminal_sees_progress_unless_it_should_be_quiet(
    make_project: MakeProject, slow_server: FakeIterable, flags: tuple[str, ...]
) -> None:
    seen = read_terminal(make_project(slow_server), *flags)
    if flags:
        assert seen == b""
    else:
        assert b"of 5 rows" in seen
        assert re.search(rb"(\n|\x1b\[K)Status", seen), "the summary begins on a clean line"


def test_an_error_of_the_query_begins_on_a_clean_line(project: Project) -> None:
    project.queries("-- name: q\n-- email: x\n-- user fields: x\nSELECT x FROM nowhere")
    seen = read_terminal(project, "--query", "q")
    assert b"Querying q\r\x1b[Kmain.py: Query 'q'" in seen


def test_a_dry_run_shows_the_rows_that_it_planned(project: Project) -> None:
    project.add_customers(30_000)
    shown = re.findall(rb"\[K([\d,]+) of 30,005 rows", read_terminal(project, "--dry-run"))
    assert shown
    assert shown[-1] != b"0"


def test_a_terminal_that_goes_away_while_sending_harms_nothing(
    make_project: MakeProject, slow_server: FakeIterable
) -> None:
    project = make_project(slow_server)
    project.add_customers(40)
    seen = b""
    with started_in_a_terminal(project, WORKERS="4") as (process, terminal):
        while b"of 45 rows" not in seen:
            seen += os.read(terminal, 4096)
        os.close(terminal)
    assert process.returncode == 0
    assert len(slow_server.events) == 45
    assert len(outputs(project.output)) == 2


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", ">/dev/full", "2>/dev/full"])
def test_a_terminal_that_is_gone_harms_nothing(
    project: Project, server: FakeIterable, closed: str
) -> None:
    command, env = project.command()
    env["PYTHONUNBUFFERED"] = "1"  # an error comes with the first write, not with the last
    shell = ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", *command]
    run = subprocess.run(shell, env=env, cwd=project.directory, check=False)
    assert run.returncode == 0
    assert len(server.events) == 5
    assert len(outputs(project.output)) == 2
    wrong = [*shell, "--query", "none"]
    run = subprocess.run(wrong, env=env, cwd=project.directory, check=False)
    assert run.returncode == 2

"""Full disks, and directories that cannot be written."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_iterable import FakeIterable
from tests.project import Finished, Project, outputs
from tests.runs.limits import run_as, small_files, without_privileges

NOBODY = 65534


def mounted(directory: Path, size: int) -> bool:
    """Makes a directory a disk of this size, where that is allowed."""
    mount = shutil.which("mount")
    if mount is None:
        return False
    command = [mount, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def small_disk(directory: Path, size: int) -> Iterator[list[str]]:
    """Makes a directory a small disk, or yields a command that keeps its files as small."""
    if not mounted(directory, size):
        yield small_files(size)
        return
    try:
        yield []
    finally:
        subprocess.run([shutil.which("umount") or "umount", str(directory)], check=True)


def check_ended_in_a_line(done: Finished, code: int, *texts: str) -> None:
    """The run said in one line why it ended."""
    assert (done.code, done.out) == (code, ""), done.err
    assert done.err.count("\n") == 1
    assert done.err.startswith("main.py: ")
    for text in texts:
        assert text in done.err


@pytest.mark.parametrize(
    ("when", "rows", "size"),
    [("at once", 100, 4096), ("querying", 10_000, 200_000), ("sending", 1_000, 200_000)],
)
def test_a_full_disk_ends_the_run_with_one_sentence(
    project: Project, server: FakeIterable, when: str, rows: int, size: int
) -> None:
    project.add_customers(rows - 5)
    with small_disk(project.output, size) as prefix:
        done = run_as(project, prefix, SEND_MODE="single")
        assert outputs(project.output) == []
    check_ended_in_a_line(done, 4, str(project.output), "run again")
    if when == "sending":
        assert 0 < len(server.requests) < 2 * rows
    else:
        assert not server.requests


def test_a_log_that_cannot_be_written_any_more_harms_nothing(
    project: Project, server: FakeIterable
) -> None:
    project.log.write_bytes(b"\n" * 30_000)
    done = run_as(project, small_files(30_000), LOG_LEVEL="DEBUG")
    assert (done.code, done.err) == (0, "")
    assert done.results["successful"] == len(server.events) == 5
    assert project.log.stat().st_size == 30_000


def make_unwritable(project: Project, what: str) -> Path:
    """Makes the output directory one in which a run cannot do its work; returns its path."""
    place = project.output
    if what == "a file":
        place.rmdir()
        place.touch()
    elif what == "read-only":
        place.chmod(0o555)
    elif what == "with somebody else's lock":
        (place / ".iterable_integration.lock").touch(0o000)
    elif what == "with somebody else's log":
        project.log.touch(0o000)
    elif os.geteuid() == 0:
        os.chown(place, NOBODY, NOBODY)
    else:
        return Path("/")
    return place


@pytest.mark.parametrize(
    ("what", "advice"),
    [
        ("a file", "--output-dir"),
        ("read-only", "--output-dir"),
        ("somebody else's", "--output-dir"),
        ("with somebody else's lock", "--output-dir"),
        ("with somebody else's log", "LOG_FILE"),
    ],
)
def test_an_output_directory_that_cannot_be_written_is_named_before_anything_is_done(
    project: Project, server: FakeIterable, what: str, advice: str
) -> None:
    place = make_unwritable(project, what)
    done = run_as(project, without_privileges(), OUTPUT_DIR=str(place))
    check_ended_in_a_line(done, 2, str(place), advice)
    assert not server.requests
    assert what == "a file" or outputs(place) == []

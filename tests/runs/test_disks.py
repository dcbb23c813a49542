"""Full disks, and directories that cannot be written."""

from __future__ import annotations

import contextlib
import os
import re
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
    ("rows", "size"),
    [(100, 4096), (10_000, 200_000)],
    ids=["at once", "querying"],
)
def test_a_full_disk_ends_the_run_before_anything_is_sent(
    project: Project, server: FakeIterable, rows: int, size: int
) -> None:
    project.add_customers(rows - 5)
    with small_disk(project.output, size) as prefix:
        done = run_as(project, prefix, SEND_MODE="single")
        assert outputs(project.output) == []
    check_ended_in_a_line(done, 4, str(project.output), "run again")
    assert not server.requests


def check_csv_and_counts(project: Project, done: Finished) -> dict[str, int]:
    """The CSV alone is there, and the error names it; returns the counts that the error says."""
    check_ended_in_a_line(done, 4, str(project.output), "run again")
    [name] = outputs(project.output)
    assert f"{name}." in done.err
    counts = re.search(r"Rows: ([\d,]+): (.*?)\.", done.err)
    assert counts
    found = {"rows": int(counts[1].replace(",", ""))}
    for number, words in re.findall(r"([\d,]+) ([a-z ]+)", counts[2]):
        found[words] = int(number.replace(",", ""))
    assert len(done.rows) - 1 == found["rows"] == sum(found.values()) - found["rows"]
    return found


def test_a_disk_that_is_full_while_sending_leaves_the_csv_and_tells_the_counts(
    project: Project, server: FakeIterable
) -> None:
    server.add_fault("status", user="amara.okafor@example.com", status=400, code="BadParams")
    project.add_customers(1_995)
    with small_disk(project.output, 600_000) as prefix:
        done = run_as(project, prefix, SEND_MODE="single")
        found = check_csv_and_counts(project, done)
    assert found["failed"] == 1
    assert found["not sent"] > 0
    assert 0 < found["delivered"] <= len(server.events)


def test_a_disk_with_room_for_all_but_the_results_leaves_the_csv_and_tells_the_counts(
    project: Project, server: FakeIterable
) -> None:
    project.add_customers(95)
    first = project.run()
    size = len(first.results_text.encode()) - 300  # the records have room, not the summary
    for name in outputs(project.output):
        (project.output / name).unlink()
    done = run_as(project, small_files(size))
    assert check_csv_and_counts(project, done) == {"rows": 100, "delivered": 100}
    assert "Traceback" not in done.err


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

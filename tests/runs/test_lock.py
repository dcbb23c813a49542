"""Two runs with one output directory, and what lies in it where the run's own files belong."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.fake_iterable import FakeIterable
from tests.project import Project, outputs, wait_until


def test_runs_cannot_overlap_and_a_killed_one_leaves_nothing_in_the_way(
    project: Project, server: FakeIterable
) -> None:
    fault = server.add_fault("hang")
    process = project.start()
    wait_until(lambda: fault.hits, process)
    refused = project.run("--quiet")
    assert (refused.code, refused.out) == (75, "")
    who = rf"{project.output}.*\b{process.pid}\b.* 20\d\d-\d\d-\d\dT"
    assert re.fullmatch(rf"main\.py: .*{who}.*\n", refused.err)
    process.kill()
    process.communicate()
    results, table = outputs(project.output)
    assert results.endswith(".part")
    assert table.endswith(".csv")
    server.set_faults([])
    done = project.run()
    assert (done.code, done.results["successful"]) == (0, 5)
    assert len(server.events) == 5
    assert results not in outputs(project.output)


LOCK = ".iterable_integration.lock"
LOG = "iterable_integration.log"


@pytest.mark.parametrize("name", [LOCK, LOG])
@pytest.mark.parametrize("exists", [True, False])
def test_a_link_in_the_place_of_lock_or_log_is_refused_by_name(
    project: Project, server: FakeIterable, name: str, exists: bool
) -> None:
    target = project.directory / "precious"
    if exists:
        target.write_text("old")
    (project.output / name).symlink_to(target)
    done = project.run()
    assert (done.code, done.out) == (2, "")
    assert done.err.count("\n") == 1
    assert f"{project.output / name}" in done.err
    assert "symbolic link" in done.err
    assert target.exists() == exists
    assert not exists or target.read_text() == "old"
    assert outputs(project.output) == []
    assert server.requests == []


def test_a_log_that_the_user_names_may_be_a_link(project: Project) -> None:
    link, target = project.directory / "link.log", project.directory / "target.log"
    link.symlink_to(target)
    assert project.run(LOG_FILE=str(link)).code == 0
    assert "completed" in target.read_text()


def test_a_rotated_log_that_is_a_link_is_not_followed(project: Project) -> None:
    target = project.directory / "precious"
    target.write_text("old")
    project.log.write_bytes(b"\n" * 5_000_000)
    for number in (1, 2):
        project.log.with_name(f"{LOG}.{number}").symlink_to(target)
    assert project.run().code == 0
    assert project.log.stat().st_size < 5_000
    assert target.read_text() == "old"


def test_leftovers_of_runs_that_ended_are_removed_and_those_of_others_are_left_alone(
    project: Project,
) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    part = ".query_results_20260113_031500.csv.{}.part"
    mine, theirs, theirs_too, odd = (
        project.output / part.format(pid) for pid in (os.getpid(), ended.pid, "x", f"1.{ended.pid}")
    )
    results = project.output / f".integration_results_20260113_031500.json.{ended.pid}.part"
    for path in (mine, theirs, theirs_too, results):
        path.touch()
    odd.mkdir()
    assert project.run().code == 0
    assert {path for path in project.output.iterdir() if path.suffix == ".part"} == {mine, odd}


def test_two_runs_that_share_no_lock_leave_each_other_their_files(
    project: Project, server: FakeIterable
) -> None:
    fault = server.add_fault("hang", times=1)
    process = project.start(REQUEST_TIMEOUT="2")
    wait_until(lambda: fault.hits, process)
    (project.output / LOCK).unlink()
    assert project.run().code == 0
    first = project.finish(process)
    assert first.code == 0
    assert len(outputs(project.output)) == 4

"""Two runs with one output directory."""

from __future__ import annotations

import re

from tests.fake_iterable import FakeIterable
from tests.project import Project, outputs


def test_runs_cannot_overlap_and_a_killed_one_leaves_nothing_in_the_way(
    project: Project, server: FakeIterable
) -> None:
    server.add_fault("hang")
    process = project.start("--verbose")
    assert process.stderr
    # it holds the lock when it logs
    assert any("pro_users_recent_engagement" in line for line in process.stderr)
    refused = project.run("--quiet")
    assert (refused.code, refused.out) == (75, "")
    who = rf"{project.output}.*\b{process.pid}\b.* 20\d\d-\d\d-\d\dT"
    assert re.fullmatch(rf"main\.py: .*{who}.*\n", refused.err)
    process.kill()
    process.communicate()
    left = outputs(project.output)
    assert len(left) == 2
    assert all(name.endswith(".part") for name in left), "whole or not at all"
    server.set_faults([])
    done = project.run()
    assert (done.code, done.results["successful"]) == (0, 5)
    assert len(server.events) == 5
    assert set(left).isdisjoint(outputs(project.output))

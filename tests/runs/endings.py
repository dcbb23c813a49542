"""Runs that end before anything happened."""

from __future__ import annotations

from tests.fake_iterable import FakeIterable
from tests.project import Finished, Project, outputs


def check_ended_early(
    project: Project, server: FakeIterable, done: Finished, code: int, *texts: str
) -> list[str]:
    """The run sent nothing, left no files, and said why in lines that a terminal may show.

    The first of them, which has these texts, is about the run, and others about one setting each.
    They are returned, without argparse's usage.
    """
    assert (done.code, done.out) == (code, ""), done.err
    assert server.requests == []
    assert not outputs(project.directory) + outputs(project.output)
    lines = [line for line in done.err.splitlines() if not line.startswith(("usage: ", "       "))]
    for line in lines:
        assert line.isprintable()
        assert len(line) < 400
    assert lines[0].startswith("main.py: ")
    for text in texts:
        assert text in lines[0]
    return lines


def named_settings(lines: list[str]) -> list[str]:
    """The settings that the indented lines are about."""
    return [line.split()[0] for line in lines if line.startswith(" ")]


def check_ended_with_a_sentence(
    project: Project, server: FakeIterable, done: Finished, code: int, *texts: str
) -> None:
    """As above, in a single line."""
    lines = check_ended_early(project, server, done, code, *texts)
    assert len(lines) == 1, lines

"""The output directory is made where it is missing, for its owner alone."""

from __future__ import annotations

import stat

from tests.project import Project, outputs


def test_a_missing_output_directory_is_made(project: Project) -> None:
    directory = project.directory / "new" / "deeper"
    done = project.run("--output-dir", str(directory))
    assert done.code == 0
    assert len(outputs(directory)) == 2
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700

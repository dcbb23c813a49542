"""Runs of a main.py that something is done to, so that it meets with what nobody foresaw."""

from __future__ import annotations

from tests.project import ROOT, Project

PROGRAM = """
import logging, os, sqlite3, sys, time
from datetime import timedelta
sys.path[0] = {root!r}
import db, iterable_client, main
{code}
exit_code = main.main()
logging.shutdown()
sys.stdout.flush()
os._exit(exit_code)
"""


def sabotage(project: Project, code: str) -> None:
    """Makes this code, which knows main, db and iterable_client, run before main.main()."""
    project.program = project.directory / "sabotaged.py"
    project.program.write_text(PROGRAM.format(root=str(ROOT), code=code), encoding="utf-8")

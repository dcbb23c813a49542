"""Runs of main.py under limits of the system."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.project import Finished, Project

EXEC = "os.execv(sys.argv[1], sys.argv[1:])"


def start_as(project: Project, prefix: list[str], **settings: str) -> subprocess.Popen[str]:
    """Starts main.py by another command."""
    command, env = project.command(**settings)
    pipe = subprocess.PIPE
    return subprocess.Popen([*prefix, *command], env=env, stdout=pipe, stderr=pipe, text=True)


def run_as(project: Project, prefix: list[str], **settings: str) -> Finished:
    """Runs main.py by another command."""
    return project.finish(start_as(project, prefix, **settings))


def ignoring(name: str) -> list[str]:
    """A command that runs another which ignores this signal at first, as nohup does."""
    ignore = f"signal.signal(signal.{name}, signal.SIG_IGN)"
    return [sys.executable, "-c", f"import os, signal, sys; {ignore}; {EXEC}"]


def small_files(size: int) -> list[str]:
    """A command that runs another in which no file can grow beyond this size."""
    limit = f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, resource.RLIM_INFINITY))"
    return [sys.executable, "-c", f"import os, resource, sys; {limit}; {EXEC}"]


def without_privileges() -> list[str]:
    """A command that runs another which permissions bind, though root started it."""
    if os.geteuid() != 0:
        return []
    # PR_CAPBSET_DROP of CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
    drop = "for capability in (1, 2): ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)"
    return [sys.executable, "-c", f"import ctypes, os, sys\n{drop}\n{EXEC}"]

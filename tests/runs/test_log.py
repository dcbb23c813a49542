"""What the log says of a run that failed."""

from __future__ import annotations

import fcntl
import os
import termios
from array import array

import pytest

from tests.fake_iterable import FakeIterable
from tests.project import Finished, Project, wait_until
from tests.runs.limits import run_as, small_files
from tests.runs.sabotage import sabotage


def check_reason_is_logged(done: Finished, code: int, reason: str) -> None:
    """The run ended with this code, and gave one reason on the terminal and in the log."""
    assert done.code == code
    message = done.err.removeprefix("main.py: ").rstrip("\n")
    assert reason in message
    [line] = [line for line in done.log.splitlines() if " ERROR " in line]
    assert line.endswith(message)


def test_a_mistake_in_the_queries_file_is_logged(project: Project) -> None:
    project.queries("-- name: q\n-- email: e\n-- user fields: none\nSELECT 'a@example.com' AS e")
    check_reason_is_logged(project.run(QUERY="q"), 2, "'none'")


def test_a_database_that_fails_is_logged(project: Project) -> None:
    done = project.run(DATABASE_URL="sqlite:///none.db")
    check_reason_is_logged(done, 3, "none.db cannot be opened")


def test_output_that_cannot_be_written_is_logged(project: Project, server: FakeIterable) -> None:
    project.add_customers(1000)
    done = run_as(project, small_files(30_000))
    check_reason_is_logged(done, 4, str(project.output))
    assert server.requests == []


DRIVER = r"""
driver = logging.getLogger("pyhive")
def connect(*args, connect=db.connect):
    driver.debug("a row: amara@example.com")
    driver.info("a row: amara@example.com")
    driver.warning("server says \x1b[2J\r\nERROR main: forged \u202e")
    return connect(*args)
db.connect = connect
"""


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING"])
@pytest.mark.parametrize("flags", [[], ["--verbose"]])
def test_libraries_speak_from_warnings_on_in_one_line_without_control_characters(
    project: Project, level: str, flags: list[str]
) -> None:
    sabotage(project, DRIVER)
    done = project.run(*flags, LOG_LEVEL=level)
    assert done.code == 0
    texts = [done.log, done.err] if flags else [done.log]
    for text in texts:
        [line] = [line for line in text.splitlines() if "pyhive" in line]
        assert line.endswith(r"WARNING pyhive: server says \x1b[2J\r\nERROR main: forged \u202e")
        assert "@example.com" not in text


def test_libraries_heed_a_level_above_warning(project: Project) -> None:
    sabotage(project, DRIVER)
    assert project.run(LOG_LEVEL="ERROR").log == ""


def test_a_traceback_keeps_its_lines_and_shows_no_control_characters(project: Project) -> None:
    code = """
def make_plan(*args):
    raise RuntimeError("server says \\x1b[2J \\u202e")
main.make_plan = make_plan"""
    sabotage(project, code)
    done = project.run()
    assert done.code == 4
    assert "\n  File " in done.log
    assert "\u202e" not in done.log
    assert done.log.replace("\n", "").isprintable()


def test_a_log_into_a_pipe_loses_no_line_to_a_slow_reader(project: Project) -> None:
    pipe = project.directory / "pipe.log"
    os.mkfifo(pipe)
    project.add_customers(1000)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    many = "log = logging.getLogger('main')\nmain.fetch = lambda *args, fetch=main.fetch: ("
    sabotage(project, many + "[log.info('line %d', n) for n in range(3000)], fetch(*args))[1]")
    process = project.start(LOG_FILE=str(pipe))
    wait_until(lambda: is_full(reader), process)
    os.set_blocking(reader, True)
    text = b""
    while piece := os.read(reader, 65_536):
        text += piece
    os.close(reader)
    assert project.finish(process).code == 0
    assert text.count(b" INFO main: line ") == 3000


def is_full(reader: int) -> bool:
    """Whether a pipe has all that it can hold."""
    waiting = array("i", [0])
    fcntl.ioctl(reader, termios.FIONREAD, waiting)
    return waiting[0] > 60_000

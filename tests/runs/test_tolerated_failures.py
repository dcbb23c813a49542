"""TOLERATED_FAILURES: failures that are no bad news."""

from __future__ import annotations

import pytest

from tests.fake_iterable import FakeIterable
from tests.project import Project
from tests.runs.sample import EMAILS


@pytest.fixture(autouse=True)
def one_forgotten(server: FakeIterable) -> None:
    """Iterable has forgotten one of the users."""
    server.forgotten = {EMAILS[0]}


def test_tolerated_failures_alone_are_no_bad_news(project: Project) -> None:
    done = project.run("--quiet", TOLERATED_FAILURES=" ForgottenUserError ")
    assert (done.code, done.out, done.err) == (0, "", "")
    results = done.results
    assert results["run"]["status"] == "completed_with_failures"
    assert results["failure_reasons"] == {"ForgottenUserError": 2}
    assert results["total_failures"] == 1


def test_another_failure_beside_them_is(project: Project, server: FakeIterable) -> None:
    server.conflicts = {EMAILS[1]}
    done = project.run("--quiet", TOLERATED_FAILURES="ForgottenUserError,InvalidValue")
    assert done.code == 1
    assert "EmailAlreadyExists" in done.err
    codes = "ForgottenUserError, EmailAlreadyExists"
    assert project.run(TOLERATED_FAILURES=codes).code == 0


def test_a_run_in_which_no_row_succeeded_is_bad_news_nevertheless(
    project: Project, server: FakeIterable
) -> None:
    server.forgotten = set(EMAILS)
    assert project.run(TOLERATED_FAILURES="ForgottenUserError").code == 1


def test_what_is_tolerated_is_shown_so_and_a_misspelt_code_is_told(project: Project) -> None:
    done = project.run(TOLERATED_FAILURES="ForgottenUserError")
    assert "ForgottenUserError, HTTP 409, tolerated" in done.screen
    assert "or set TOLERATED_FAILURES" not in done.screen
    done = project.run(TOLERATED_FAILURES="ForgottenUser")
    assert done.code == 1
    assert "TOLERATED_FAILURES names ForgottenUser: is ForgottenUserError meant?" in done.screen


def test_unchanged_rows_are_good_ones(project: Project, server: FakeIterable) -> None:
    project.run("--only-changes")
    done = project.run("--only-changes", TOLERATED_FAILURES="ForgottenUserError")
    assert done.results["unchanged"] == 4
    assert done.code == 0

"""The two ways of sending, single and bulk, come to the same: whole runs against the stand-in."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.fake_iterable import FakeIterable
from tests.project import Project, new_project

REFUSED = {  # what Iterable says, and of whom: rows are user101@example.com and so on
    "ForgottenUserError": range(110, 115),
    "UnknownEmailError": range(220, 225),
    "EmailAlreadyExists": range(330, 335),
    "RequestFieldsTypesMismatched": range(440, 445),
    "InvalidEmailAddressError": range(550, 555),
    "NoIdentifier": range(660, 665),
}


def email(number: int) -> str:
    return f"user{number}@example.com"


def refuse(server: FakeIterable, project: Project) -> None:
    """Makes 30 of a project's rows be refused, for six reasons."""
    server.forgotten.update(map(email, REFUSED["ForgottenUserError"]))
    server.not_found.update(map(email, REFUSED["UnknownEmailError"]))
    server.conflicts.update(map(email, REFUSED["EmailAlreadyExists"]))
    server.invalid_data.update(map(email, REFUSED["RequestFieldsTypesMismatched"]))
    for code, text in (("InvalidEmailAddressError", "'no address ' || id"), ("NoIdentifier", "''")):
        rows = REFUSED[code]
        ids = f"{rows.start} AND {rows.stop - 1}"
        project.sql(f"UPDATE customers SET email = {text} WHERE id BETWEEN {ids}")  # noqa: S608


def outcomes(results: dict[str, Any]) -> dict[int, tuple[str, str]]:
    """By row, the codes of its update and its event."""
    return {
        record["row"]: (
            record["users_update"]["response"]["code"],
            record["events_track"]["response"]["code"],
        )
        for record in results["records"]
    }


def test_thirty_refused_rows_of_a_thousand_fail_alone_and_with_the_same_codes_in_both_modes(
    tmp_path: Path,
) -> None:
    found = []
    for mode in ("single", "bulk"):
        (tmp_path / mode).mkdir()
        with FakeIterable(api_key="test-api-key", enforce_limits=False) as server:
            project = new_project(tmp_path / mode, server)
            project.add_customers(995)
            refuse(server, project)
            done = project.run(SEND_MODE=mode, RATE_LIMIT_FACTOR="100")
            assert (done.code, done.results["successful"]) == (1, 970)
            found.append(outcomes(done.results))
            assert len(server.users) == 970
            assert set(server.event_writes.values()) == {1}
    single, bulk = found
    assert single == bulk
    failed = Counter(codes[0] for codes in single.values() if codes[0] != "Success")
    assert failed == {code: len(rows) for code, rows in REFUSED.items()}
    assert sum(codes != ("Success", "Success") for codes in single.values()) == 30


def test_of_many_rows_only_the_request_that_cannot_be_told_apart_is_sent_again_singly(
    project: Project, server: FakeIterable
) -> None:
    project.add_customers(14_995)
    server.forgotten.update(map(email, range(3000, 3010)))  # named in the answers
    server.invalid_data.add(
        email(9000)
    )  # named where users are updated; it spoils its request of events as a whole
    done = project.run()
    assert done.results["run"]["send_mode"] == "bulk"
    assert (done.results["successful"], done.results["failure_reasons"]) == (
        14_989,
        {"ForgottenUserError": 20, "RequestFieldsTypesMismatched": 2},
    )
    assert done.results["requests"]["rate_limited"] == 0
    paths = Counter(seen.path for seen in server.requests)
    assert paths == {
        "/api/users/bulkUpdate": 15,
        "/api/events/trackBulk": 15,
        "/api/events/track": 1000,
    }
    assert len(server.events) == 14_989


@pytest.mark.parametrize(("mode", "rows"), [("single", 1500), ("bulk", 9000)])
def test_a_server_that_enforces_the_limits_has_no_call_to_refuse(
    project: Project, server: FakeIterable, mode: str, rows: int
) -> None:
    project.add_customers(rows - 5)
    done = project.run(SEND_MODE=mode)
    assert (done.code, len(server.users), len(server.events)) == (0, rows, rows)
    assert {seen.status for seen in server.requests} == {200}

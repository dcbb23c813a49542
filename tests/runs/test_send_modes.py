"""Single and bulk: when each is chosen, and that both come to the same."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.fake_iterable import FakeIterable
from tests.project import JWT, Project, check_counts, wait_until
from tests.runs.rows import BOTH_MODES, codes


def test_more_than_500_rows_go_out_in_bulk(project: Project, server: FakeIterable) -> None:
    server.forgotten = {"user101@example.com"}
    server.dropped_fields = {"plan_type"}
    project.add_customers(496)
    done = project.run()
    paths = [(seen.path, seen.status) for seen in server.requests]
    assert paths == [
        ("/api/users/bulkUpdate", 200),
        ("/api/users/update", 409),
        ("/api/events/trackBulk", 200),
        ("/api/events/track", 409),
    ]
    assert len(server.users) == len(server.events) == 500
    results = done.results
    assert (done.code, results["run"]["send_mode"]) == (1, "bulk")
    assert results["failure_reasons"] == {"ForgottenUserError": 2}
    success = {"code": "Success", "bulk": True}
    accepted = {"success": True, "status": 200, "response": success}
    assert results["records"][0]["events_track"] == accepted
    [failed] = [record for record in results["records"] if not record["overall_success"]]
    assert failed["row"] == 6
    words = {"code": "ForgottenUserError", "msg": "ForgottenUserError: user101@example.com"}
    answer = {**words, "params": None}
    assert failed["users_update"] == {"success": False, "status": 409, "response": answer}
    [warning] = results["run"]["warnings"]
    assert "plan_type" in warning, "Iterable dropped it"
    check_counts(results, 501)


@pytest.mark.parametrize(
    ("rows", "settings", "mode"),
    [
        (6, {"SEND_MODE": "bulk"}, "bulk"),
        (500, {}, "single"),
        (501, {"SEND_MODE": "single"}, "single"),
        (501, JWT, "single"),
    ],
)
def test_the_send_mode_can_be_forced(
    project: Project, rows: int, settings: dict[str, str], mode: str
) -> None:
    project.add_customers(rows - 5)
    done = project.run("--dry-run", **settings)
    assert done.results["total_users"] == rows
    assert done.results["run"]["send_mode"] == mode


REFUSED = {  # what Iterable says, and of whom: rows are user101@example.com and so on
    "ForgottenUserError": range(110, 115),
    "UnknownEmailError": range(220, 225),
    "EmailAlreadyExists": range(330, 335),
    "RequestFieldsTypesMismatched": range(440, 445),
    "InvalidEmailAddressError": range(550, 555),
    "NoIdentifier": range(660, 665),
}


def email(number: int) -> str:
    """The address of a row's user."""
    return f"user{number}@example.com"


def emails(reason: str) -> set[str]:
    """The addresses of those whom Iterable refuses for this reason."""
    return {email(number) for number in REFUSED[reason]}


def set_emails(project: Project, reason: str, sql: str) -> None:
    """Changes the addresses of those who are refused for this reason."""
    rows = REFUSED[reason]
    ids = f"{rows.start} AND {rows.stop - 1}"
    project.sql(f"UPDATE customers SET email = {sql} WHERE id BETWEEN {ids}")  # noqa: S608


def refuse(server: FakeIterable, project: Project) -> None:
    """Makes 30 of a project's rows be refused, for six reasons."""
    server.forgotten = emails("ForgottenUserError")
    server.not_found = emails("UnknownEmailError")
    server.conflicts = emails("EmailAlreadyExists")
    server.invalid_data = emails("RequestFieldsTypesMismatched")
    set_emails(project, "InvalidEmailAddressError", "'no address ' || id")
    set_emails(project, "NoIdentifier", "''")


@BOTH_MODES
def test_thirty_refused_rows_of_a_thousand_fail_alone_and_with_the_same_codes_in_both_modes(
    fast_project: Project, unlimited: FakeIterable, mode: str
) -> None:
    fast_project.add_customers(995)
    refuse(unlimited, fast_project)
    done = fast_project.run(SEND_MODE=mode)
    assert (done.code, done.results["successful"]) == (1, 970)
    assert len(unlimited.users) == 970
    assert set(unlimited.event_writes.values()) == {1}
    reasons = {number: code for code, numbers in REFUSED.items() for number in numbers}
    # the sample data's five rows come first
    updates = ["Success"] * 5 + [reasons.get(number, "Success") for number in range(101, 1096)]
    events = ["Success" if code == "EmailAlreadyExists" else code for code in updates]
    assert codes(done, "users_update") == updates
    assert codes(done, "events_track") == events


def test_of_many_rows_only_the_request_that_cannot_be_told_apart_is_sent_again_singly(
    project: Project, server: FakeIterable
) -> None:
    project.add_customers(14_995)
    server.forgotten.update(map(email, range(3000, 3010)))  # named in the answers
    # named where users are updated; it spoils its request of events as a whole
    server.invalid_data.add(email(9000))
    done = project.run()
    results = done.results
    assert (results["run"]["send_mode"], results["successful"]) == ("bulk", 14_989)
    failures = {"ForgottenUserError": 20, "RequestFieldsTypesMismatched": 2}
    assert results["failure_reasons"] == failures
    assert results["requests"]["rate_limited"] == 0
    paths = Counter(seen.path for seen in server.requests)
    assert paths == {
        "/api/users/bulkUpdate": 15,
        "/api/users/update": 3 + 1,  # the first of each reason, for Iterable's own words
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
    assert done.code == 0
    assert len(server.users) == len(server.events) == rows
    assert {seen.status for seen in server.requests} == {200}


def test_at_most_six_bulk_requests_are_made_at_a_time(
    fast_project: Project, unlimited: FakeIterable
) -> None:
    fast_project.add_customers(11_995)
    unlimited.add_fault("hang", seconds=2, times=100)
    process = fast_project.start(SEND_MODE="bulk")
    wait_until(lambda: unlimited.requests, process)
    first = unlimited.requests[0].time
    wait_until(lambda: unlimited.requests[-1].time >= first + 2, process)
    unlimited.set_faults([])
    assert fast_project.finish(process).code == 0
    before_any_answer = [seen for seen in unlimited.requests if seen.time < first + 2]
    assert 1 < len(before_any_answer) <= 6

"""Rows and calls that fail, by themselves."""

from __future__ import annotations

import re

from tests.fake_iterable import FakeIterable
from tests.project import Project, check_counts, outputs
from tests.runs.rows import codes
from tests.runs.sample import EMAILS

PEOPLE = """
CREATE TABLE people (n INTEGER, email TEXT, value);
INSERT INTO people VALUES
    (1, 'first@example.com', 'x'),
    (2, NULL, 'x'),
    (3, '  ', 'x'),
    (4, 'bytes@example.com', x'00ff'),
    (5, 'infinite@example.com', 9e999),
    (6, 'broken@example.com', CAST(x'61ff' AS TEXT)),
    (7, CAST(x'61ff' AS TEXT) || '@example.com', 'x'),
    (8, 'conflict@example.com', 'x'),
    (9, 'forgotten@example.com', 'x'),
    (10, 'nobody', 'x'),
    (11, ' Upper@Example.com', 'x'),
    (12, 'last@example.com', NULL);
"""
QUERY = """
-- name: people
-- email: email
-- user fields: value
-- event: seen
-- event fields: value
-- event id: n
SELECT n, email, value FROM people ORDER BY n
"""


def test_a_bad_cell_or_a_refusal_is_that_rows_failure_alone(
    project: Project, server: FakeIterable
) -> None:
    server.conflicts = {"conflict@example.com"}
    server.forgotten = {"forgotten@example.com"}
    project.sql(PEOPLE)
    project.queries(QUERY)
    done = project.run("--quiet", "--query", "people", LOG_LEVEL="DEBUG")
    results = done.results
    updates = [
        "Success",
        *["NoIdentifier"] * 2,
        *["InvalidValue"] * 4,
        "EmailAlreadyExists",
        "ForgottenUserError",
        "InvalidEmailAddressError",
        *["Success"] * 2,
    ]
    assert codes(done, "users_update") == updates
    events = ["Success" if code == "EmailAlreadyExists" else code for code in updates]
    assert codes(done, "events_track") == events
    for row, kind in ((4, "bytes"), (5, "inf"), (6, "UTF-8")):
        answer = results["records"][row - 1]["users_update"]["response"]
        assert re.search(rf"value.*{kind}", answer["msg"]), "column and type"
    assert done.counts == [3, 1, 8, 0, 0]
    check_counts(results, 12)
    assert sorted(server.users) == ["first@example.com", "last@example.com", "upper@example.com"]
    assert len(server.events) == 4
    assert len(done.rows) == 13
    assert (done.code, results["run"]["status"]) == (1, "completed_with_failures")
    assert done.out == ""
    for text in (*results["failure_reasons"], *outputs(done.directory)):
        assert text in done.err
    assert not re.search(r"@example|nobody(?! to update)", done.log + done.err, re.IGNORECASE)


def test_a_user_in_several_rows_keeps_their_order(project: Project, server: FakeIterable) -> None:
    server.add_fault("status", status=503, path="users/update", user="same@example.com", times=2)
    project.sql("""
        CREATE TABLE steps AS
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40)
        SELECT i, CASE i % 4
            WHEN 0 THEN 'same@example.com'
            WHEN 1 THEN 'Same@Example.com '
            ELSE i || '@example.com' END AS email
        FROM n""")
    project.queries("""
        -- name: steps
        -- email: email
        -- user fields: i
        SELECT i, email FROM steps ORDER BY i""")
    done = project.run("--query", "steps", WORKERS="64")
    accepted = [seen.body for seen in server.requests if seen.status == 200]
    own = [body["dataFields"]["i"] for body in accepted if body["email"] == "same@example.com"]
    assert own == [i for i in range(1, 41) if i % 4 < 2]
    assert done.code == 0
    assert [record["row"] for record in done.results["records"]] == list(range(1, 41))


def test_calls_without_an_answer_are_made_again(project: Project, server: FakeIterable) -> None:
    server.add_fault("status", status=429, params={"rateLimitReset": 0}, user=EMAILS[0], times=1)
    server.add_fault("status", status=503, user=EMAILS[1], path="users/update", times=2)
    server.add_fault("drop_before", user=EMAILS[2], times=1)
    server.add_fault("drop_after", user=EMAILS[3], path="events/track", times=1)
    server.add_fault("truncated", user=EMAILS[4], times=1)
    done = project.run()
    assert (done.code, done.results["successful"]) == (0, 5)
    assert len(server.users) == len(server.events) == 5
    assert done.results["requests"] == {"sent": 16, "retried": 6, "rate_limited": 1}
    assert server.event_writes.total() == 6, "one was written again, under its id"


def test_what_keeps_failing_is_given_up_and_the_other_call_is_made(
    project: Project, server: FakeIterable
) -> None:
    server.add_fault("status", status=503, user=EMAILS[0], path="users/update")
    server.add_fault("status", status=400, user=EMAILS[1], path="events/track")
    done = project.run(MAX_RETRIES="4")
    assert (done.code, done.results["partial_failures"]) == (1, 2)
    assert len(server.users) == len(server.events) == 4
    assert done.results["failure_reasons"] == {"GenericError": 1, "BadParams": 1}
    assert done.results["requests"]["sent"] == 8 + 4 + 1
    check_counts(done.results, 5)


def test_a_row_that_always_gets_a_500_fails_alone(project: Project, server: FakeIterable) -> None:
    server.add_fault("status", status=500, user="user120@example.com")
    project.add_customers(35)
    done = project.run()
    assert done.code == 1
    assert done.counts == [39, 0, 1, 0, 0]
    [failed] = [each for each in done.results["records"] if not each["overall_success"]]
    assert failed["email"] == "user120@example.com"
    assert done.results["failure_reasons"] == {"GenericError": 2}

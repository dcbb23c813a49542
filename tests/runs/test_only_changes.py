"""Runs with --only-changes: what changed is sent, and what was not delivered."""

from __future__ import annotations

import random
import sqlite3
import stat
import time
from pathlib import Path

import pytest

from tests.fake_iterable import FakeIterable
from tests.project import KEY, MakeProject, Project
from tests.runs.rows import BOTH_MODES, make_table
from tests.runs.sample import EMAILS
from tests.wire import items

ONLY = "--only-changes"


EMAIL = "amara.okafor@example.com"  # the first row's
SKIPPED = {"success": True, "skipped": True}


def calls_since(server: FakeIterable, sent: int) -> list[tuple[str, str]]:
    """Operation and user of each call after so many requests, in any order."""
    found = []
    for seen in server.requests[sent:]:
        operation = seen.path.removeprefix("/api/")
        found += [(operation, item["email"]) for item in items(seen)]
    return sorted(found)


def ledger_of(project: Project) -> Path:
    """The ledger's file."""
    return project.output / "delivery_ledger.sqlite3"


CHANGES = """
UPDATE customers SET plan_type = 'pro', last_name = 'Changed' WHERE id = 1;
UPDATE page_views SET browser = 'Lynx' WHERE user_id = 2;
INSERT INTO page_views
VALUES (999, 3, 'pricing', 'desktop', 'Chrome', NULL, '2026-01-13 11:59:59');
"""


@pytest.mark.parametrize(
    ("mode", "update", "event"),
    [
        ("single", "users/update", "events/track"),
        ("bulk", "users/bulkUpdate", "events/trackBulk"),
    ],
)
def test_a_second_run_sends_what_changed_and_only_that_call(
    project: Project, server: FakeIterable, mode: str, update: str, event: str
) -> None:
    project.settings["SEND_MODE"] = mode
    assert project.run(ONLY).counts == [5, 0, 0, 0, 0]
    sent = len(server.requests)
    second = project.run(ONLY)
    assert second.counts == [0, 0, 0, 5, 0]
    assert len(server.requests) == sent
    assert "10 calls saved" in second.out
    assert second.results["records"][0]["users_update"] == SKIPPED
    assert second.results["records"][0]["overall_success"] is True

    project.sql(CHANGES)
    third = project.run(ONLY)
    assert third.counts == [3, 0, 0, 2, 0]
    assert "7 calls saved" in third.out, "those of the rows that changed in part, too"
    first, second_user, third_user = EMAILS[:3]
    expected = [(update, first), (event, second_user), (event, third_user)]
    assert calls_since(server, sent) == sorted(expected)
    assert server.users[first]["last_name"] == "Changed"
    assert project.run(ONLY).counts == [0, 0, 0, 5, 0]


def test_without_the_option_no_ledger_is_read_or_written(
    project: Project, server: FakeIterable
) -> None:
    assert project.run().counts == [5, 0, 0, 0, 0]
    assert not ledger_of(project).exists()
    project.run(ONLY)
    assert project.run().counts == [5, 0, 0, 0, 0]
    assert len(server.requests) == 30
    # the setting does what the option does
    assert project.run(SEND_ONLY_CHANGES="true").counts == [0, 0, 0, 5, 0]


def test_a_call_that_failed_is_sent_again_and_one_that_did_not_is_not(
    project: Project, server: FakeIterable
) -> None:
    server.add_fault("status", path="events/track", user=EMAIL, status=400, code="BadParams")
    assert project.run(ONLY).counts == [4, 1, 0, 0, 0]
    server.set_faults([])
    sent = len(server.requests)
    assert project.run(ONLY).counts == [1, 0, 0, 4, 0]
    assert calls_since(server, sent) == [("events/track", EMAIL)]


def test_a_call_whose_answer_was_lost_is_not_taken_for_the_one_before(
    project: Project, server: FakeIterable
) -> None:
    project.run(ONLY)
    project.sql("UPDATE customers SET last_name = 'New' WHERE id = 1")
    server.add_fault("drop_after", path="users/update", user=EMAIL)
    assert project.run(ONLY).counts == [0, 1, 0, 4, 0]
    server.set_faults([])
    # as it was when it was accepted
    project.sql("UPDATE customers SET last_name = 'Okafor' WHERE id = 1")
    assert project.run(ONLY).counts == [1, 0, 0, 4, 0]
    assert server.users[EMAIL]["last_name"] == "Okafor"


@BOTH_MODES
def test_of_several_rows_of_a_user_the_last_is_what_stays_run_after_run(
    project: Project, server: FakeIterable, mode: str
) -> None:
    rows = [("a@example.com", f"value {n % 3}") for n in range(1, 12)]
    make_table(project, "email: email\nuser fields: field", "email, field", rows)
    for _ in range(3):
        done = project.run(ONLY, "--query", "q", SEND_MODE=mode)
        assert done.code == 0
        assert server.users["a@example.com"]["field"] == "value 2"


def test_of_several_events_of_one_id_the_last_is_what_stays(
    project: Project, server: FakeIterable
) -> None:
    keys = "email: email\nevent: seen\nevent fields: number\nevent id: same"
    rows = [(number, "a@example.com", 7) for number in range(1, 6)]
    make_table(project, keys, "number, email, same", rows)
    # of the first, which is sent again later
    fault = server.add_fault("status", status=500, times=1)
    assert project.run(ONLY, QUERY="q", INITIAL_BACKOFF="0.2").counts == [5, 0, 0, 0, 0]
    assert fault.hits == 1
    assert [event["dataFields"] for event in server.events.values()] == [{"number": 5}]


def test_two_queries_that_update_a_user_do_not_undo_each_other(
    project: Project, server: FakeIterable
) -> None:
    project.queries("""
        -- name: first
        -- email: email
        -- user fields: first_name
        SELECT email, first_name FROM customers;
        -- name: last
        -- email: email
        -- user fields: last_name
        SELECT email, last_name FROM customers;""")
    for name in ("first", "last"):
        assert project.run(ONLY, "--query", name).counts == [16, 0, 0, 0, 0]
    for name in ("first", "last"):
        assert project.run(ONLY, "--query", name).counts == [0, 0, 0, 16, 0]


def test_a_dry_run_without_a_key_says_why_it_shows_every_call(project: Project) -> None:
    project.run(ONLY)
    done = project.run(ONLY, "--dry-run", ITERABLE_API_KEY="")
    assert (done.code, done.counts[3]) == (0, 0)
    assert "Without ITERABLE_API_KEY" in done.screen
    assert "once more" not in done.screen


def test_another_query_or_key_is_another_matter(project: Project, server: FakeIterable) -> None:
    project.run(ONLY)
    views = project.run(ONLY, "--query", "pro_users_page_views")
    assert views.counts[3] == 5, "the events of the default query are the same events"
    server.reset()
    with FakeIterable(api_key="another-key") as other:
        done = project.run(ONLY, ITERABLE_API_KEY="another-key", ITERABLE_API_BASE_URL=other.url)
        assert done.counts == [5, 0, 0, 0, 0]
    [warning] = done.results["run"]["warnings"]
    assert "does not know this API key and base URL" in warning
    assert "everything is sent once more" in done.screen
    # the first key's entries are still there
    again = project.run(ONLY)
    assert again.counts == [0, 0, 0, 5, 0]
    assert again.results["run"]["warnings"] == []


def test_a_dry_run_shows_what_would_be_sent_and_changes_nothing(
    project: Project, server: FakeIterable
) -> None:
    project.run(ONLY)
    project.sql("UPDATE customers SET last_name = 'New' WHERE id = 1")
    before = ledger_of(project).read_bytes()
    sent = len(server.requests)
    done = project.run(ONLY, "--dry-run")
    first, *others = done.results["records"]
    assert first["users_update"]["request"]["dataFields"]["last_name"] == "New"
    for record in others:
        assert record["users_update"] == SKIPPED
    assert done.results["unchanged"] == 4
    assert ledger_of(project).read_bytes() == before
    assert len(server.requests) == sent


def test_the_ledger_is_private_and_names_nobody(project: Project) -> None:
    project.run(ONLY)
    assert stat.S_IMODE(ledger_of(project).stat().st_mode) == 0o600
    data = ledger_of(project).read_bytes()
    for word in ("example", "Okafor", "pricing", KEY):
        assert word.encode() not in data


def test_a_damaged_ledger_ends_the_run_before_anything_is_sent(
    project: Project, server: FakeIterable
) -> None:
    ledger_of(project).write_text("no database" * 100)
    done = project.run(ONLY)
    assert done.code == 2
    assert server.requests == []
    assert "delete" in done.err
    assert "everything is sent once more" in done.err


def test_killed_at_any_moment_it_skips_nothing_that_was_not_accepted(
    make_project: MakeProject, unlimited: FakeIterable
) -> None:
    chance = random.Random(7)
    project = make_project(unlimited)
    project.add_customers(395)
    for number in range(20):
        target = len(unlimited.requests) + chance.randrange(1, 60)
        mode = "bulk" if number % 4 == 3 else "single"
        process = project.start(ONLY, SEND_MODE=mode, RATE_LIMIT_FACTOR="0.5")
        while process.poll() is None and len(unlimited.requests) < target:
            time.sleep(0.001)
        process.kill()
        process.communicate()
    done = project.run(ONLY, SEND_MODE="single")
    assert len(unlimited.users) == len(unlimited.events) == 400
    assert done.results["successful"] + done.results["unchanged"] == 400
    sent = len(unlimited.requests)
    assert project.run(ONLY).counts == [0, 0, 0, 400, 0]
    assert len(unlimited.requests) == sent


def test_a_dry_run_says_what_is_unchanged(project: Project) -> None:
    project.run(ONLY)
    done = project.run(ONLY, "--dry-run")
    assert "Rows 5, all unchanged To send nothing File" in done.screen
    assert "Next" not in done.out
    project.sql("UPDATE customers SET plan_type = 'pro', last_name = 'Changed' WHERE id = 1")
    done = project.run(ONLY, "--dry-run")
    assert "Rows 5 4 unchanged To send 1 call in 1 single request," in done.screen


def test_a_dry_run_writes_no_byte_of_what_a_killed_run_left(project: Project) -> None:
    project.run(ONLY)
    ledger = sqlite3.connect(ledger_of(project))
    ledger.execute("DELETE FROM delivered WHERE key = 0")
    ledger.execute("UPDATE delivered SET day = day")
    ledger.commit()
    files = [ledger_of(project), ledger_of(project).with_name(f"{ledger_of(project).name}-wal")]
    before = [path.read_bytes() for path in files]
    for path, data in zip(files, before, strict=True):  # as if it had been killed here
        path.with_suffix(".kept").unlink(missing_ok=True)
        (project.directory / path.name).write_bytes(data)
    ledger.close()
    for path in files:
        path.write_bytes((project.directory / path.name).read_bytes())
    done = project.run(ONLY, "--dry-run")
    assert done.results["unchanged"] == 5
    assert [path.read_bytes() for path in files] == before

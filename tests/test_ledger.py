"""Only what changed: the ledger by itself, and runs with --only-changes against the stand-in."""
from __future__ import annotations

import random
import signal
import sqlite3
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from db import Ledger, LedgerError
from tests.project import AS_OF, Finished, Project, new_project
from tests.fake_iterable import FakeIterable

ONLY = "--only-changes"
MARKS = [  # of two calls: to change these would send everything once more
    (-1086782136704404051, bytes.fromhex("1f32a00cdc4f6424bc92de7bdc0fb79f")),
    (7883437637401596839, bytes.fromhex("18070cbbb431cd6d9b96284508940f00")),
]


# The ledger


def open_ledger(path: Path, project: str = "p", writable: bool = True, today: int = 20_000) -> Ledger:
    return Ledger(path / "ledger.sqlite3", project, writable, today)


def deliver(ledger: Ledger, calls: dict[str, Any], accepted: bool = True) -> list[bool]:
    """Begins and ends the calls, by name; tells which of them were delivered before."""
    marks = [ledger.mark(name, payload) for name, payload in calls.items()]
    before = ledger.begin(marks)
    ledger.end((mark, accepted) for mark, was_delivered in zip(marks, before, strict=True) if not was_delivered)
    return before


def test_what_was_accepted_is_known_to_the_next_run_until_another_payload_is_sent(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    assert deliver(ledger, {"a": {"n": 1}, "b": {"n": 1}}) == [False, False]
    assert deliver(ledger, {"a": {"n": 2}}) == [False]
    ledger.close()
    ledger = open_ledger(tmp_path)
    assert deliver(ledger, {"a": {"n": 2}, "b": {"n": 1}, "c": {"n": 1}}) == [True, True, False]
    assert deliver(ledger, {"a": {"n": 3}}, accepted=False) == [False]
    assert deliver(ledger, {"a": {"n": 2}, "b": {"n": 1}}) == [False, True]


def test_thousands_of_calls_are_looked_up_at_once(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    calls = {str(number): {"n": number} for number in range(10_000)}
    assert deliver(ledger, calls) == [False] * 10_000
    assert deliver(ledger, {**calls, "7": {"n": 0}}) == [number != 7 for number in range(10_000)]


def test_a_key_has_sixty_four_bits_and_a_digest_is_of_name_payload_and_secret(tmp_path: Path) -> None:
    ledgers = [open_ledger(tmp_path, secret) for secret in "pq"]
    marks = [ledger.mark(name, {"n": n}) for ledger in ledgers for name in "ab" for n in (1, 2)]
    keys, digests = zip(*marks, strict=True)
    assert (len(set(keys)), len(set(digests))) == (4, 8)
    keys = tuple(ledgers[0].mark(str(number), None)[0] for number in range(1000))
    assert -(2**63) <= min(keys) < -(2**62)
    assert 2**62 < max(keys) < 2**63


def test_keys_and_digests_are_those_of_the_ledgers_that_users_have(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    payload = {"email": "a@example.com", "dataFields": {"n": 1, "x": 1.5, "ok": True, "no": None, "é": ["東"]}}
    assert [ledger.mark(name, payload) for name in ("a", "é")] == MARKS
    ledger.close()
    with sqlite3.connect(tmp_path / "old.sqlite3") as old:
        old.executescript(f"""
            PRAGMA application_id = 400730910;
            CREATE TABLE delivered (key INTEGER PRIMARY KEY, digest BLOB, day INTEGER);
            CREATE TABLE projects (project BLOB PRIMARY KEY) WITHOUT ROWID;
            INSERT INTO delivered VALUES ({MARKS[0][0]}, x'{MARKS[0][1].hex()}', 19990);
            INSERT INTO projects VALUES (x'e0a026604a43e43e0d0379c458b49a1a')""")  # noqa: S608
    old.close()
    ledger = Ledger(tmp_path / "old.sqlite3", "p", today=20_000)
    assert not ledger.is_new_project
    assert deliver(ledger, {"a": payload, "é": payload}) == [True, False]


@pytest.mark.parametrize(("days", "kept"), [(0, True), (89, True), (97, True), (98, False)])
def test_what_was_not_seen_for_ninety_days_is_forgotten(tmp_path: Path, days: int, kept: bool) -> None:
    ledger = open_ledger(tmp_path, today=20_000)
    deliver(ledger, {"a": 1})
    ledger.close()
    open_ledger(tmp_path, today=20_000 + days).close()
    assert deliver(open_ledger(tmp_path, today=20_000 + days), {"a": 1}) == [kept]


def test_what_is_seen_is_kept_and_rewritten_once_a_week_only(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, today=20_000)
    deliver(ledger, {"a": 1})
    ledger.close()
    days = []
    for today in range(20_001, 20_200):
        ledger = open_ledger(tmp_path, today=today)
        assert deliver(ledger, {"a": 1}) == [True]
        ledger.close()
        with sqlite3.connect(tmp_path / "ledger.sqlite3") as connection:
            days.append(connection.execute("SELECT day FROM delivered").fetchone()[0])
        connection.close()
    assert sorted(set(days)) == [20_000, *range(20_007, 20_200, 7)]


def test_another_key_is_noticed_and_a_new_ledger_is_none(tmp_path: Path) -> None:
    found = []
    for secret in "ppqqp":
        unused = open_ledger(tmp_path, secret)  # of a run that ended before it sent anything
        deliver(unused, {"a": 1}, accepted=False)
        unused.close()
        ledger = open_ledger(tmp_path, secret)
        found.append((unused.is_new_project, ledger.is_new_project))
        deliver(ledger, {"a": 1})
        ledger.close()
    assert found == [(False, False), (False, False), (True, True), (False, False), (False, False)]


def test_a_reader_neither_makes_a_ledger_nor_changes_one(tmp_path: Path) -> None:
    open_ledger(tmp_path, writable=False).close()
    assert list(tmp_path.iterdir()) == []
    ledger = open_ledger(tmp_path)
    deliver(ledger, {"a": 1})
    ledger.close()
    before = (tmp_path / "ledger.sqlite3").read_bytes()
    reader = open_ledger(tmp_path, writable=False, today=20_050)
    assert deliver(reader, {"a": 1, "b": 1}, accepted=False) == [True, False]
    assert deliver(reader, {"a": 2}, accepted=False) == [False]
    assert deliver(reader, {"a": 1, "b": 1}, accepted=False) == [False, False], "as in a run"
    reader.close()
    assert (tmp_path / "ledger.sqlite3").read_bytes() == before


def spoil_pages(path: Path) -> None:
    ledger = Ledger(path, "p")
    deliver(ledger, {str(number): number for number in range(5000)})
    ledger.close()
    data = bytearray(path.read_bytes())
    data[4096 * 3 : 4096 * 9] = b"\x07" * 4096 * 6
    path.write_bytes(data)


def make_other(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()


@pytest.mark.parametrize("spoil", [spoil_pages, make_other, lambda path: path.write_text("no database" * 100)])
def test_a_damaged_or_foreign_file_is_refused_with_what_deleting_it_costs(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(tmp_path / "ledger.sqlite3")
    with pytest.raises(LedgerError, match=r"ledger\.sqlite3.*delete .*everything is sent once more"):
        open_ledger(tmp_path)


def test_a_ledger_that_cannot_be_opened_is_not_called_damaged(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite3").mkdir()
    with pytest.raises(sqlite3.OperationalError, match="unable to open database file"):
        open_ledger(tmp_path)


def test_a_ledger_that_was_killed_before_it_had_tables_is_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite3").touch()
    assert deliver(open_ledger(tmp_path), {"a": 1}) == [False]


@pytest.mark.parametrize("at_once", [True, False])
def test_what_was_accepted_before_a_later_call_failed_is_not_recorded(tmp_path: Path, at_once: bool) -> None:
    ledger = open_ledger(tmp_path)
    first, second = ledger.mark("a", 1), ledger.mark("a", 2)
    assert ledger.begin([first, second]) == [False, False]
    for ended in ([[(first, True), (second, False)]] if at_once else [[(first, True)], [(second, False)]]):
        ledger.end(ended)
    assert deliver(ledger, {"a": 1}, accepted=False) == deliver(ledger, {"a": 2}) == [False]


def test_of_three_calls_the_last_is_sent_though_it_is_like_the_first(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    deliver(ledger, {"a": 1})
    first, second = ledger.mark("a", 1), ledger.mark("a", 2)
    assert ledger.begin([first, second, first]) == [True, False, False]
    assert ledger.begin([first]) == [False], "the others are in flight"
    ledger.end([(second, True), (first, True)])
    assert ledger.begin([first]) == [False]
    ledger.end([(first, True), (first, True)])
    assert deliver(ledger, {"a": 1}) == [True]


# Runs


def calls(server: FakeIterable) -> list[tuple[str, str]]:
    """The calls since the last reset: operation and user, bulk requests taken apart."""
    found = []
    for seen in server.requests:
        body = seen.body or {}
        items = body.get("users") or body.get("events") or [body]
        found += [(seen.path.removeprefix("/api/"), item["email"]) for item in items]
    return found


def counts(done: Finished) -> list[int]:
    results = done.results
    names = ("successful", "partial_failures", "total_failures", "unchanged", "not_sent")
    assert sum(results[name] for name in names) == results["total_users"] == len(done.rows) - 1
    return [results[name] for name in names]


@pytest.mark.parametrize("mode", ["single", "bulk"])
def test_a_second_run_sends_what_changed_and_only_that_call(project: Project, server: FakeIterable, mode: str) -> None:
    assert counts(project.run(ONLY, SEND_MODE=mode)) == [5, 0, 0, 0, 0]
    sent = len(server.requests)
    second = project.run(ONLY, SEND_MODE=mode)
    assert (counts(second), len(server.requests)) == ([0, 0, 0, 5, 0], sent)
    assert "10 calls saved" in second.out
    assert second.results["records"][0]["users_update"] == {"success": True, "skipped": True}
    assert second.results["records"][0]["overall_success"] is True
    project.sql("""
        UPDATE customers SET plan_type = 'pro', last_name = 'Changed' WHERE id = 1;
        UPDATE page_views SET browser = 'Lynx' WHERE user_id = 2;
        INSERT INTO page_views VALUES (999, 3, 'pricing', 'desktop', 'Chrome', NULL, '2026-01-13 11:59:59');""")
    third = project.run(ONLY, SEND_MODE=mode)
    assert counts(third) == [3, 0, 0, 2, 0]
    paths = ("users/bulkUpdate", "events/trackBulk") if mode == "bulk" else ("users/update", "events/track")
    emails = [record["email"] for record in third.results["records"]]
    new = calls(server)[len(calls(server)) - 3 :]
    assert sorted(new) == sorted([(paths[0], emails[0]), (paths[1], emails[1]), (paths[1], emails[2])])
    assert server.users[emails[0]]["last_name"] == "Changed"
    assert counts(project.run(ONLY, SEND_MODE=mode)) == [0, 0, 0, 5, 0]


def test_without_the_option_no_ledger_is_read_or_written(project: Project, server: FakeIterable) -> None:
    assert counts(project.run()) == [5, 0, 0, 0, 0]
    assert not list(project.output.glob("*ledger*"))
    project.run(ONLY)
    assert counts(project.run()) == [5, 0, 0, 0, 0]
    assert len(server.requests) == 30
    assert counts(project.run(SEND_ONLY_CHANGES="true")) == [0, 0, 0, 5, 0], "the setting does what the option does"


def test_a_call_that_failed_is_sent_again_and_one_that_did_not_is_not(project: Project, server: FakeIterable) -> None:
    email = "amara.okafor@example.com"
    server.add_fault("status", path="events/track", user=email, status=400, code="BadParams")
    assert counts(project.run(ONLY)) == [4, 1, 0, 0, 0]
    server.set_faults([])
    sent = len(server.requests)
    assert counts(project.run(ONLY)) == [1, 0, 0, 4, 0]
    assert calls(server)[sent:] == [("events/track", email)]


def test_a_call_whose_answer_was_lost_is_not_taken_for_the_one_before(project: Project, server: FakeIterable) -> None:
    email = "amara.okafor@example.com"
    project.run(ONLY)
    project.sql("UPDATE customers SET last_name = 'New' WHERE id = 1")
    server.add_fault("drop_after", path="users/update", user=email)
    assert counts(project.run(ONLY)) == [0, 1, 0, 4, 0]
    server.set_faults([])
    project.sql("UPDATE customers SET last_name = 'Okafor' WHERE id = 1")  # as it was when it was accepted
    assert counts(project.run(ONLY)) == [1, 0, 0, 4, 0]
    assert server.users[email]["last_name"] == "Okafor"


@pytest.mark.parametrize("mode", ["single", "bulk"])
def test_of_several_rows_of_a_user_the_last_is_what_stays_run_after_run(
    project: Project, server: FakeIterable, mode: str
) -> None:
    rows = " UNION ALL ".join(f"SELECT {n}, 'a@example.com', 'value {n % 3}'" for n in range(1, 12))
    project.queries(f"""-- name: several\n-- email: email\n-- user fields: field
        SELECT email, field FROM (SELECT 1 AS n, '' AS email, '' AS field UNION ALL {rows}) x
        WHERE email > '' ORDER BY n""")  # noqa: S608
    for _ in range(3):
        done = project.run(ONLY, "--query", "several", SEND_MODE=mode)
        assert done.code == 0
        assert server.users["a@example.com"]["field"] == "value 2"


def test_of_several_events_of_one_id_the_last_is_what_stays(project: Project, server: FakeIterable) -> None:
    project.queries("""-- name: q\n-- email: email\n-- event: seen\n-- event fields: number\n-- event id: same
        SELECT id AS number, 'a@example.com' AS email, 7 AS same FROM customers WHERE id <= 5 ORDER BY id""")
    fault = server.add_fault("status", status=500, times=1)  # of the first, which is sent again later
    assert counts(project.run(ONLY, QUERY="q", INITIAL_BACKOFF="0.2")) == [5, 0, 0, 0, 0]
    assert fault.hits == 1
    assert [event["dataFields"] for event in server.events.values()] == [{"number": 5}]


def test_two_queries_that_update_a_user_do_not_undo_each_other(project: Project, server: FakeIterable) -> None:
    project.queries("\n".join(
        f"-- name: {field}\n-- email: email\n-- user fields: {field}\nSELECT email, {field} FROM customers;"
        for field in ("first_name", "last_name")
    ))  # fmt: skip
    unchanged = [counts(project.run(ONLY, "--query", name))[3] for name in ("first_name", "last_name") * 2]
    assert unchanged == [0, 0, 16, 16]


def test_a_dry_run_without_a_key_says_why_it_shows_every_call(project: Project) -> None:
    project.run(ONLY)
    done = project.run(ONLY, "--dry-run", ITERABLE_API_KEY="")
    assert (done.code, counts(done)[3]) == (0, 0)
    assert "Without ITERABLE_API_KEY" in done.out
    assert "once more" not in done.out


def test_another_query_or_key_is_another_matter(project: Project, server: FakeIterable) -> None:
    project.run(ONLY)
    views = project.run(ONLY, "--query", "pro_users_page_views")
    assert counts(views)[3] == 5, "the events of the default query are the same events"
    server.reset()
    with FakeIterable(api_key="another-key") as other:
        done = project.run(ONLY, ITERABLE_API_KEY="another-key", ITERABLE_API_BASE_URL=other.url)
        assert counts(done) == [5, 0, 0, 0, 0]
    assert "everything is sent once more" in done.out
    assert counts(project.run(ONLY)) == [0, 0, 0, 5, 0], "the first key's entries are still there"


def test_a_dry_run_shows_what_would_be_sent_and_changes_nothing(project: Project, server: FakeIterable) -> None:
    project.run(ONLY)
    project.sql("UPDATE customers SET last_name = 'New' WHERE id = 1")
    ledger = project.output / "delivery_ledger.sqlite3"
    before, sent = ledger.read_bytes(), len(server.requests)
    done = project.run(ONLY, "--dry-run")
    first, *others = done.results["records"]
    assert first["users_update"]["request"]["dataFields"]["last_name"] == "New"
    assert all(record["users_update"] == {"success": True, "skipped": True} for record in others)
    assert done.results["unchanged"] == 4
    assert (ledger.read_bytes(), len(server.requests)) == (before, sent)


def test_the_ledger_is_private_and_names_nobody(project: Project) -> None:
    project.run(ONLY)
    ledger = project.output / "delivery_ledger.sqlite3"
    assert stat.S_IMODE(ledger.stat().st_mode) == 0o600
    data = ledger.read_bytes()
    assert not [word for word in (b"example", b"Okafor", b"pricing", b"test-api-key") if word in data]


def test_a_damaged_ledger_ends_the_run_before_anything_is_sent(project: Project, server: FakeIterable) -> None:
    (project.output / "delivery_ledger.sqlite3").write_text("no database" * 100)
    done = project.run(ONLY)
    assert (done.code, len(server.requests)) == (2, 0)
    assert "delete" in done.err
    assert "everything is sent once more" in done.err


def test_killed_at_any_moment_it_skips_nothing_that_was_not_accepted(tmp_path: Path) -> None:
    chance = random.Random(7)
    with FakeIterable(api_key="test-api-key", enforce_limits=False) as server:
        project = new_project(tmp_path, server)
        project.add_customers(395)
        for number in range(20):
            target = len(server.requests) + chance.randrange(1, 60)
            mode = "bulk" if number % 4 == 3 else "single"
            process = project.start(ONLY, "--as-of", AS_OF, SEND_MODE=mode, RATE_LIMIT_FACTOR="0.5")
            while process.poll() is None and len(server.requests) < target:
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
            process.communicate()
        done = project.run(ONLY, SEND_MODE="single")
        assert done.results["total_users"] == 400 == len(server.users) == len(server.events)
        assert done.results["successful"] + done.results["unchanged"] == 400
        sent = len(server.requests)
        assert counts(project.run(ONLY)) == [0, 0, 0, 400, 0]
        assert len(server.requests) == sent

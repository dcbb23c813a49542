"""Rows at the limits: identifiers, times, many columns, one user in all rows, large cells."""

from __future__ import annotations

import math

import pytest

from tests.fake_iterable import FakeIterable
from tests.project import Project
from tests.runs.rows import BOTH_MODES, canonical, cells_of, codes, make_table
from tests.wire import event_id, sent_items

USER_IDS = [
    (7, "7"),
    (-(2**63), str(-(2**63))),
    ("007", "007"),
    ("A b", "A b"),
    ("a b", "a b"),
    ("=1", "=1"),
]
NO_USER_IDS = [
    ("x" * 53, "InvalidUserIdError"),
    ("é", "InvalidUserIdError"),
    (None, "NoIdentifier"),
    ("", "NoIdentifier"),
    (" \t", "NoIdentifier"),
    (7.0, "InvalidValue"),
    (b"7", "InvalidValue"),
]


@BOTH_MODES
def test_a_user_id_is_text_and_what_is_none_is_that_rows_failure(
    fast_project: Project, unlimited: FakeIterable, mode: str
) -> None:
    rows = [(id_, n) for n, (id_, _) in enumerate([*USER_IDS, *NO_USER_IDS])]
    keys = "userId: id\nuser fields: n\nevent: seen\nevent id: n"
    make_table(fast_project, keys, "id, n", rows)
    done = fast_project.run(QUERY="q", SEND_MODE=mode)
    expected = ["Success"] * len(USER_IDS) + [code for _, code in NO_USER_IDS]
    assert codes(done, "users_update") == expected
    assert codes(done, "events_track") == expected
    updates = []
    for n, (_, text) in enumerate(USER_IDS):
        updates.append({"userId": text, "dataFields": {"n": n}, "preferUserId": True})
    sent = sent_items(unlimited, "users")
    accepted = [item for item in sent if item["userId"] in unlimited.users]
    assert canonical(accepted) == canonical(updates)


TIMES = [
    ("0001-01-01 00:00", -62135596800),
    (-62135596800, -62135596800),
    ("1969-12-31T23:59:59.9Z", -1),
    (1768293912.75, 1768293912),
]
NO_TIMES = [
    ("0001-01-01 00:00+14:00", "InvalidValue"),
    ("2026-06-30 23:59:60", "InvalidValue"),
    ("9999-12-31 23:59:59", "BadParams"),
    ("10000-01-01 00:00:00", "InvalidValue"),
    (1e308, "InvalidValue"),
    (math.inf, "InvalidValue"),
    (2**63 - 1, "InvalidValue"),
    ("٢٠٢٦-01-13 08:45", "InvalidValue"),
    (None, "InvalidValue"),
    ("", "InvalidValue"),
    (b"2026-01-13 08:45", "InvalidValue"),
    ("=NOW()", "InvalidValue"),
]


@BOTH_MODES
def test_a_time_from_year_1_to_9999_is_sent_and_what_is_none_is_that_rows_failure(
    fast_project: Project, unlimited: FakeIterable, mode: str
) -> None:
    cells = [at for at, _ in TIMES] + [at for at, _ in NO_TIMES]
    rows = [(f"user{n}@example.com", at) for n, at in enumerate(cells)]
    keys = "email: email\nevent: seen\nevent time: at\nevent id: email"
    make_table(fast_project, keys, "email, at", rows)
    done = fast_project.run(QUERY="q", SEND_MODE=mode)
    assert codes(done, "events_track") == [
        *["Success"] * len(TIMES),
        *(code for _, code in NO_TIMES),
    ]
    created = {item["email"]: item["createdAt"] for item in unlimited.events.values()}
    assert created == {f"user{n}@example.com": sent for n, (_, sent) in enumerate(TIMES)}


ODD_NAMES = [
    "dataFields",
    "eventName",
    "id",
    "createdAt",
    "preferUserId",
    "users",
    "=1+1",
    "@a",
    "a b",
    "Ünï🎉",
    "it's",
    "__proto__",
    "key: value",
]


@BOTH_MODES
def test_300_columns_and_names_like_those_of_the_api_or_a_formula_arrive_under_their_names(
    fast_project: Project, unlimited: FakeIterable, mode: str
) -> None:
    names = [*ODD_NAMES, *(f"column_{n}" for n in range(300 - len(ODD_NAMES)))]
    quoted = ", ".join(f'"{name}"' for name in ("email", *names))
    keys = [
        "email: email",
        f"user fields: {', '.join(names)}",
        "event: seen",
        "event id: id",
        f"event fields: email, {', '.join(names)}",
    ]
    make_table(fast_project, "\n".join(keys), quoted, [("a@example.com", *range(300))])
    done = fast_project.run(QUERY="q", SEND_MODE=mode)
    fields = {name: n for n, name in enumerate(names)}
    update = {"email": "a@example.com", "dataFields": fields}
    event = {
        "email": "a@example.com",
        "eventName": "seen",
        "id": event_id("a@example.com", "seen", 2),
        "dataFields": {"email": "a@example.com", **fields},
    }
    assert sent_items(unlimited, "users") == [update]
    assert sent_items(unlimited, "events") == [event]
    assert cells_of(done)[0] == ["email", *names]
    assert "'=1+1" in done.rows[0]


@pytest.mark.parametrize(("mode", "count"), [("single", 400), ("bulk", 3000)])
def test_thousands_of_rows_of_one_user_arrive_in_their_order(
    fast_project: Project, unlimited: FakeIterable, mode: str, count: int
) -> None:
    rows = []
    updates = []
    for n in range(count):
        sometimes = None if n % 3 else n
        rows.append((n, f"{'sS'[n % 2]}ame@example.com", sometimes))
        fields = {"n": n, "sometimes": sometimes}
        updates.append({"email": "same@example.com", "dataFields": fields})
    keys = "email: email\nuser fields: n, sometimes\nevent: seen\nevent id: n"
    make_table(fast_project, keys, "n, email, sometimes", rows)
    done = fast_project.run(QUERY="q", SEND_MODE=mode)
    assert (done.code, done.results["successful"]) == (0, count)
    assert len(unlimited.events) == count
    assert sent_items(unlimited, "users") == updates


@BOTH_MODES
def test_a_row_too_large_for_iterable_fails_alone(
    fast_project: Project, unlimited: FakeIterable, mode: str
) -> None:
    sizes = (40_000, 5_000_000, 40_000)
    rows = [(f"{n}@example.com", "x" * size) for n, size in enumerate(sizes)]
    keys = "email: email\nuser fields: text\nevent: seen\nevent id: email"
    make_table(fast_project, keys, "email, text", rows)
    done = fast_project.run(QUERY="q", SEND_MODE=mode)
    # the single operation's limit is Iterable's affair
    reason = "InvalidValue" if mode == "bulk" else "BatchTooLarge"
    assert codes(done, "users_update") == ["Success", reason, "Success"]
    assert codes(done, "events_track") == ["Success"] * 3
    assert sorted(unlimited.users) == ["0@example.com", "2@example.com"]

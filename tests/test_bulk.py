"""What IterableClient makes of bulk answers, and what it sends again singly."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from iterable_client import (
    BULK_BYTES,
    EVENTS_TRACK,
    EVENTS_TRACK_BULK,
    IN_DOUBT,
    NOT_SENT,
    USERS_BULK_UPDATE,
    USERS_UPDATE,
    Answer,
    IterableClient,
    encode,
    event,
    user_update,
)
from tests.conftest import Connect
from tests.fake_iterable import FakeIterable
from tests.test_client import ADA, ALL, ONCE, REFUSAL, SUCCESS, codes


def item(text: str, number: int) -> dict[str, Any]:
    """The payload of "user" or, for an event, "user/name"."""
    user, _, name = text.partition("/")
    kind, fields = "email" if "@" in user else "userId", {"n": number}
    return (
        event(kind, user, name, fields, 1768293912, f"e{number}")
        if name
        else user_update(kind, user, fields)
    )


def send_bulk(client: IterableClient, items: str) -> tuple[list[dict[str, Any]], list[str]]:
    """The payloads sent, and of each the failure's code, or "ok", or "again" (singly, and ok)."""
    payloads = [item(text, number) for number, text in enumerate(items.split())]
    results = client.send(EVENTS_TRACK_BULK if "/" in items else USERS_BULK_UPDATE, payloads)
    return payloads, [
        ("ok" if "bulk" in told else "again") if ok else told["code"] for ok, told in results
    ]


def sent_singly(server: FakeIterable) -> list[dict[str, Any]]:
    """The bodies of single requests, in the order of the items."""
    bodies = [
        seen.body
        for seen in server.requests
        if seen.path in ("/api/users/update", "/api/events/track")
    ]
    return sorted(bodies, key=lambda body: int(body["dataFields"]["n"]))


def told(succeeded: int, failed: int, /, **lists: Any) -> dict[str, Any]:
    """An answer like UserBulkUpdateListResponse and BulkTrackResponse; `lists`: failedUpdates'."""
    empty: dict[str, Any] = {
        "invalidEmails": [],
        "invalidUserIds": [],
        "notFoundEmails": [],
        "forgottenUserIds": [],
    }
    answer = {
        "successCount": succeeded,
        "failCount": failed,
        "createdFields": [],
        "filteredOutFields": [],
    }
    return {
        **answer,
        "failedUpdates": {**empty, **lists},
        "invalidEmails": [],
        "invalidUserIds": [],
    }


A, B = "a@x.io", "b@x.io"
REASONS = {
    "invalidEmails": "InvalidEmailAddressError",
    "invalidUserIds": "InvalidUserIdError",
    "notFoundEmails": "UnknownEmailError",
    "notFoundUserIds": "UnknownUserIdError",
    "forgottenEmails": "ForgottenUserError",
    "forgottenUserIds": "ForgottenUserError",
    "conflictEmails": "EmailAlreadyExists",
    "conflictUserIds": "UserIdAlreadyExists",
    "invalidDataEmails": "RequestFieldsTypesMismatched",
    "invalidDataUserIds": "RequestFieldsTypesMismatched",
    "blockedEmails": "blockedEmails",
    "blockedUserIds": "blockedUserIds",  # lists that Iterable may add one day
}
NO_OBJECTS: list[Any] = [None, [], ["a@x.io"], "x", 7]
NO_LISTS: list[Any] = [None, "a@x.io", 7, {}, {"a@x.io": "a@x.io"}]
NO_NAMES: list[Any] = [[None], [7], [["a@x.io"]], [{"email": "a@x.io"}]]
NO_COUNTS: list[Any] = [
    {},
    [],
    {"successCount": 2},
    {"successCount": 1.0, "failCount": 1},
    {"successCount": True, "failCount": True},
    {"successCount": "2", "failCount": "0"},
    {"successCount": None, "failCount": None},
    SUCCESS,
    {"code": "Success", "failCount": 0},
    {"code": "Success", "successCount": 2, "failCount": None},
]
BOTH_BULK = ("a@x.io b@x.io c@x.io", "a@x.io/x b@x.io/x c@x.io/x")


@pytest.mark.parametrize(
    ("items", "answer", "expected"),
    [
        *(
            ("7 8", told(1, 1, **{name: ["7"]}), f"{code} ok")
            for name, code in REASONS.items()
            if name.endswith("UserIds")
        ),
        *(
            (f"{A} {B}", told(1, 1, **{name: [A.upper()]}), f"{code} ok")
            for name, code in REASONS.items()
            if name.endswith("Emails")
        ),
        *(
            (f"{A}/x {B}/x", told(1, 1, **{name: [A]}), f"{REASONS[name]} ok")
            for name in ("invalidEmails", "notFoundEmails", "forgottenEmails")
        ),
        *((items, told(3, 0), "ok ok ok") for items in BOTH_BULK),
        *((items, {"successCount": 3, "failCount": 0}, "ok ok ok") for items in BOTH_BULK),
        # names: emails without regard to case, userIds with;
        # the older lists, alone or repeating; noOp is a success
        ("A@x.io b@x.io", told(1, 1, invalidEmails=["a@X.io"]), "InvalidEmailAddressError ok"),
        ("abc ABC", told(1, 1, notFoundUserIds=["ABC"]), "ok UnknownUserIdError"),
        ("7 8", told(1, 1, invalidUserIds=[7]), "InvalidUserIdError ok"),
        (
            f"{A} {B}",
            {"successCount": 1, "failCount": 1, "invalidEmails": [A]},
            "InvalidEmailAddressError ok",
        ),
        (
            "7 8",
            {"successCount": 1, "failCount": 1, "invalidUserIds": ["8"]},
            "ok InvalidUserIdError",
        ),
        (
            f"{A} {B}",
            told(1, 1, forgottenEmails=[A]) | {"invalidEmails": [A]},
            "ForgottenUserError ok",
        ),
        (f"{A} {B}", told(2, 0, noOpEmails=[A]), "ok ok"),
        ("7 8", told(1, 1, noOpUserIds=["7"], invalidUserIds=["8"]), "ok InvalidUserIdError"),
        # counts that do not agree: those who were named failed, the others go again
        (f"{A} {B} c@x.io", told(1, 2, invalidEmails=[A]), "InvalidEmailAddressError again again"),
        (f"{A} {B} c@x.io", told(3, 0, invalidEmails=[A]), "InvalidEmailAddressError again again"),
        (f"{A} {B} c@x.io", told(1, 1, invalidEmails=[A]), "InvalidEmailAddressError again again"),
        (f"{A} {B} c@x.io", told(2, 0), "again again again"),
        (f"{A} {B} c@x.io", told(4, 0), "again again again"),
        (f"{A} {B} c@x.io", told(2, 1), "again again again"),
        (f"{A} {B}", told(1, 1, invalidEmails=["z@x.io"]), "again again"),
        (f"{A} {B}", told(2, 0, invalidEmails=["z@x.io"]), "again again"),
        (f"{A} {B}", told(0, 2, invalidEmails=[A, "z@x.io"]), "InvalidEmailAddressError again"),
        # one user twice: named as often, or less often with failCount telling all of them, or some
        (
            f"{A} {A} {B}",
            told(1, 2, invalidEmails=[A, A]),
            "InvalidEmailAddressError InvalidEmailAddressError ok",
        ),
        (
            f"{A} {A} {B}",
            told(1, 2, invalidEmails=[A]),
            "InvalidEmailAddressError InvalidEmailAddressError ok",
        ),
        (f"{A} {A} {B}", told(2, 1, invalidEmails=[A]), "again again ok"),
        (f"{A} {A} {B}", told(2, 1, invalidEmails=[A]) | {"invalidEmails": [A]}, "again again ok"),
        (f"{A} {A} {B}", told(1, 1, invalidEmails=[A]), "again again again"),
        (f"{A} {A} {B}", told(3, 0, invalidEmails=[A]), "again again again"),
        (f"{A} {A} {B}", told(0, 3, invalidEmails=[A]), "again again again"),
        (
            f"{A} {A} {B}",
            told(2, 1, invalidEmails=[A, A]),
            "InvalidEmailAddressError InvalidEmailAddressError again",
        ),
        (f"{A} {A} {B} {B} c@x.io", told(3, 2, invalidEmails=[A, B]), "again again again again ok"),
        (
            f"{A} {A} {B} c@x.io",
            told(2, 2, invalidEmails=[A, B]),
            "again again InvalidEmailAddressError ok",
        ),
        # events that fail by their name
        (f"{A}/x {B}/y", told(1, 1) | {"disallowedEventNames": ["x"]}, "DisallowedEventName ok"),
        (
            f"{A}/x {B}/y {A}/x",
            told(1, 2) | {"disallowedEventNames": ["x"]},
            "DisallowedEventName ok DisallowedEventName",
        ),
        (f"{A}/x {B}/y", told(2, 0) | {"disallowedEventNames": ["x"]}, "DisallowedEventName again"),
        (f"{A}/x {B}/y", told(1, 1) | {"disallowedEventNames": ["z"]}, "again again"),
        (f"{A}/x {B}/y", told(2, 0) | {"disallowedEventNames": ["z"]}, "again again"),
        (
            f"{A}/x {B}/y c@x.io/y",
            told(1, 2, forgottenEmails=[B]) | {"disallowedEventNames": ["x"]},
            "DisallowedEventName ForgottenUserError ok",
        ),
        # lists that are none, or hold what is no name
        *((f"{A} {B}", told(2, 0) | {"failedUpdates": odd}, "ok ok") for odd in NO_OBJECTS),
        *((f"{A} {B}", told(2, 0, invalidEmails=odd), "ok ok") for odd in NO_LISTS),
        *((f"{A} {B}", told(1, 1, invalidEmails=odd), "again again") for odd in NO_NAMES),
        (f"{A} {B}", told(2, 0) | {"invalidEmails": None, "filteredOutFields": 7}, "ok ok"),
        *(
            (f"{A}/x {B}/y", told(2, 0) | {"disallowedEventNames": odd}, "ok ok")
            for odd in NO_LISTS
        ),
        *(
            (f"{A}/x {B}/y", told(1, 1) | {"disallowedEventNames": odd}, "again again")
            for odd in NO_NAMES
        ),
    ],
)
def test_a_bulk_answer_is_believed_as_far_as_it_goes_and_the_rest_is_sent_again_singly(
    connect: Connect, server: FakeIterable, items: str, answer: dict[str, Any], expected: str
) -> None:
    server.add_fault("status", path="ulk", status=200, body=json.dumps(answer))
    payloads, outcomes = send_bulk(connect(server), items)
    assert outcomes == expected.split()
    unclear = [
        payload for payload, outcome in zip(payloads, outcomes, strict=True) if outcome == "again"
    ]
    assert sent_singly(server) == unclear
    assert len(server.requests) == 1 + len(unclear)


@pytest.mark.parametrize("items", BOTH_BULK)
@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 400, "code": "RequestFieldsTypesMismatched"},
        {"kind": "html", "status": 413},
        {"kind": "html", "status": 400},
        {"kind": "status", "status": 413, "body": ""},
        {"kind": "status", "status": 413},
        {"kind": "status", "status": 422, "code": "BatchTooLarge"},
        *(
            {"kind": "status", "status": 400, "body": json.dumps(body)}
            for body in (told(3, 0), told(3, 0) | REFUSAL, {"code": "BadParams", "failCount": 3})
        ),
    ],
)
def test_a_bulk_request_refused_as_a_whole_is_sent_again_singly(
    connect: Connect, server: FakeIterable, fault: dict[str, Any], items: str
) -> None:
    server.add_fault(path="ulk", **fault)
    payloads, outcomes = send_bulk(connect(server), items)
    assert outcomes == ["again"] * 3
    assert sent_singly(server) == payloads
    assert len(server.requests) == 4


def test_a_row_that_spoils_a_bulk_request_is_the_only_one_that_fails(
    connect: Connect, server: FakeIterable
) -> None:
    client = connect(server)
    client.track_event(ADA, "x", {"n": "text"}, event_id="first")  # from now on, n is text
    results = client.send(
        EVENTS_TRACK_BULK, [event("email", A, "x", {"n": n}, None, f"e{n}") for n in ("1", 2, "3")]
    )
    assert codes(results) == ["Success", "RequestFieldsTypesMismatched", "Success"]
    assert sorted(server.events) == ["e1", "e3", "first"]


@pytest.mark.parametrize(
    ("fault", "code", "attempts"),
    [
        ({"kind": "hang"}, "Timeout", ALL),
        ({"kind": "drop_after"}, "ConnectionError", ALL),
        ({"kind": "status", "status": 503}, "GenericError", ALL),
        ({"kind": "html"}, "InvalidResponse", ALL),
        ({"kind": "empty"}, "InvalidResponse", ALL),
        ({"kind": "redirect"}, "InvalidResponse", ONCE),
        ({"kind": "status", "status": 401}, "BadApiKey", ONCE),
        ({"kind": "status", "status": 404}, "NotFound", ONCE),
        ({"kind": "status", "status": 400, "code": "Unauthorized"}, "Unauthorized", ONCE),
        *(
            ({"kind": "status", "status": 200, "body": json.dumps(body)}, "InvalidResponse", ALL)
            for body in NO_COUNTS
        ),
        *(
            ({"kind": "status", "status": status, "body": json.dumps(body)}, code, attempts)
            for body, code in (
                (told(2, 0), "InvalidResponse"),
                (told(2, 0) | REFUSAL, "GenericError"),
            )
            for status, attempts in ((502, ALL), (409, ONCE))
        ),
    ],
)
def test_a_bulk_request_without_a_usable_answer_fails_as_a_whole(
    connect: Connect, server: FakeIterable, fault: dict[str, Any], code: str, attempts: int
) -> None:
    server.add_fault(**fault)
    payloads, outcomes = send_bulk(
        connect(server, timeout=0.05 if code == "Timeout" else 30), f"{A} {B}"
    )
    assert outcomes == [code] * 2
    assert [seen.body for seen in server.requests] == [{"users": payloads}] * attempts


def test_a_row_that_always_gets_a_500_fails_alone_in_bulk_too(
    connect: Connect, server: FakeIterable
) -> None:
    server.add_fault("status", status=500, user=A)
    _, outcomes = send_bulk(connect(server), f"{A} {B} {ADA}")
    assert outcomes == ["GenericError", "again", "again"]


def test_a_bulk_request_is_at_most_a_thousand_items(connect: Connect, server: FakeIterable) -> None:
    _, outcomes = send_bulk(connect(server), " ".join(f"u{n}" for n in range(2001)))
    assert (outcomes, len(server.users)) == (["ok"] * 2001, 2001)
    assert max(len(seen.body["users"]) for seen in server.requests) <= 1000


@pytest.mark.parametrize(("over", "requests_"), [(0, [2]), (1, [1, 1])])
def test_a_bulk_body_over_four_million_bytes_is_halved(
    connect: Connect, server: FakeIterable, over: int, requests_: list[int]
) -> None:
    texts = ["é" * 1_000_000, ""]  # bytes count, not characters
    payloads = [user_update("userId", f"u{n}", {"text": text}) for n, text in enumerate(texts)]
    payloads[1]["dataFields"]["text"] = "x" * (4_000_000 + over - len(encode({"users": payloads})))
    assert codes(connect(server).send(USERS_BULK_UPDATE, payloads)) == ["Success"] * 2
    assert [len(seen.body["users"]) for seen in server.requests] == requests_
    assert list(server.users) == ["u0", "u1"]


def test_an_item_over_four_million_bytes_fails_unsent_and_the_others_go(
    connect: Connect, server: FakeIterable
) -> None:
    payloads = [
        user_update("userId", f"u{n}", {"t": "x" * size})
        for n, size in enumerate((1, BULK_BYTES, 1))
    ]
    assert codes(connect(server).send(USERS_BULK_UPDATE, payloads)) == [
        "Success",
        "InvalidValue",
        "Success",
    ]
    assert (list(server.users), "u1" in str(server.requests)) == (["u0", "u2"], False)


def test_fields_that_iterable_drops_are_collected(connect: Connect, server: FakeIterable) -> None:
    server.dropped_fields = {"n"}
    client = connect(server)
    assert send_bulk(client, f"{A} {B}")[1] == send_bulk(client, f"{A}/x {B}/x")[1] == ["ok", "ok"]
    assert client.filtered_fields == {"n"}


def test_a_single_operation_takes_each_payload_by_itself_in_order(
    connect: Connect, server: FakeIterable
) -> None:
    server.add_fault("status", user=A, status=409, code="ForgottenUserError")
    payloads = [item(text, n) for n, text in enumerate((A, B))]
    assert codes(connect(server).send(USERS_UPDATE, payloads)) == ["ForgottenUserError", "Success"]
    assert codes(connect(server).send(EVENTS_TRACK, [item(f"{B}/x", 0)])) == ["Success"]
    assert [seen.body for seen in server.requests[:2]] == payloads


def test_updates_of_one_user_keep_their_order_when_a_bulk_request_falls_apart(
    connect: Connect, server: FakeIterable
) -> None:
    server.add_fault("status", path="bulkUpdate", status=400, code="BadParams")
    server.add_fault(
        "status", path="users/update", status=503, times=1
    )  # the first single update needs two attempts
    payloads = [user_update("email", A, {"n": str(number)}) for number in range(6)]
    assert codes(connect(server).send(USERS_BULK_UPDATE, payloads)) == ["Success"] * 6
    assert server.users[A]["n"] == "5"


def test_an_item_of_a_bulk_request_that_went_out_is_in_doubt_and_not_unsent(
    connect: Connect, server: FakeIterable, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.add_fault("status", path="bulkUpdate", status=400, code="BadParams")
    client = connect(server)
    read = client._read

    def read_and_stop(response: requests.Response, bulk: bool) -> Answer:
        client.stop()
        return read(response, bulk)

    monkeypatch.setattr(client, "_read", read_and_stop)
    ((ok, answer),) = client.send(USERS_BULK_UPDATE, [user_update("email", A, {"n": "1"})])
    assert (ok, answer["code"], answer is NOT_SENT) == (False, "Interrupted", False)


def test_a_stop_leaves_in_doubt_what_is_not_answered_and_keeps_the_other_answers(
    connect: Connect, server: FakeIterable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iterable_client.GRACE", 1.5)
    server.add_fault("status", status=400, code="BadParams", path="users/bulkUpdate")
    hang = server.add_fault("hang", path="users/update", user="u7@example.com")
    client = connect(server)
    payloads = [user_update("email", f"u{n}@example.com", {"n": n}) for n in range(20)]
    with ThreadPoolExecutor() as pool:
        sending = pool.submit(client.send, USERS_BULK_UPDATE, payloads)
        while not hang.hits or len(server.users) < 19:
            assert not sending.done()
        client.stop()
        results = sending.result(timeout=10)
    assert results.pop(7) == (False, IN_DOUBT)
    assert codes(results) == ["Success"] * 19

"""What the client makes of bulk answers, and what it then sends again singly."""

from __future__ import annotations

import json
from typing import Any

import pytest

from iterable_client import (
    BULK_ACCEPTED,
    EVENTS_TRACK_BULK,
    USERS_BULK_UPDATE,
    event,
    judge_bulk,
)
from tests.fake_iterable import FakeIterable
from tests.unit.bulk import (
    BOTH_BULK,
    THREE_EVENTS,
    THREE_USERS,
    A,
    B,
    describe,
    items,
    send_bulk,
    sent_singly,
    told,
)
from tests.unit.clients import ADA, ALL, ONCE, REFUSAL, SUCCESS, Connect, codes_of
from tests.wire import Json

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
    "blockedEmails": "blockedEmails",  # lists that Iterable may add one day
    "blockedUserIds": "blockedUserIds",
}
OF_USER_IDS = [(name, code) for name, code in REASONS.items() if name.endswith("UserIds")]
OF_EMAILS = [(name, code) for name, code in REASONS.items() if name.endswith("Emails")]
OF_EVENTS = [
    (name, REASONS[name]) for name in ("invalidEmails", "notFoundEmails", "forgottenEmails")
]
BAD = "InvalidEmailAddressError"
AB = f"{A} {B}"
AAB = f"{A} {A} {B}"
ABC = f"{A} {B} c@x.io"
EVENTS = f"{A}/x {B}/x"
XY = f"{A}/x {B}/y"


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


def answer(status: int, body: Any) -> Json:
    """A fault by which every request gets this answer."""
    return {"kind": "status", "status": status, "body": json.dumps(body)}


@pytest.mark.parametrize(
    ("text", "answer", "expected"),
    [
        *(("7 8", told(1, 1, **{name: ["7"]}), f"{code} ok") for name, code in OF_USER_IDS),
        *((AB, told(1, 1, **{name: [A.upper()]}), f"{code} ok") for name, code in OF_EMAILS),
        *((EVENTS, told(1, 1, **{name: [A]}), f"{code} ok") for name, code in OF_EVENTS),
        (THREE_USERS, told(3, 0), "ok ok ok"),
        (THREE_EVENTS, told(3, 0), "ok ok ok"),
        (THREE_USERS, {"successCount": 3, "failCount": 0}, "ok ok ok"),
        (THREE_EVENTS, {"successCount": 3, "failCount": 0}, "ok ok ok"),
        # names: emails without regard to case, userIds with;
        # the older lists, alone or repeating; noOp is a success
        ("A@x.io b@x.io", told(1, 1, invalidEmails=["a@X.io"]), f"{BAD} ok"),
        ("abc ABC", told(1, 1, notFoundUserIds=["ABC"]), "ok UnknownUserIdError"),
        ("7 8", told(1, 1, invalidUserIds=[7]), "InvalidUserIdError ok"),
        (AB, {"successCount": 1, "failCount": 1, "invalidEmails": [A]}, f"{BAD} ok"),
        (
            "7 8",
            {"successCount": 1, "failCount": 1, "invalidUserIds": ["8"]},
            "ok InvalidUserIdError",
        ),
        (AB, told(1, 1, forgottenEmails=[A]) | {"invalidEmails": [A]}, "ForgottenUserError ok"),
        (AB, told(2, 0, noOpEmails=[A]), "ok ok"),
        ("7 8", told(1, 1, noOpUserIds=["7"], invalidUserIds=["8"]), "ok InvalidUserIdError"),
        # counts that do not agree: those who were named failed, the others go again
        (ABC, told(1, 2, invalidEmails=[A]), f"{BAD} again again"),
        (ABC, told(3, 0, invalidEmails=[A]), f"{BAD} again again"),
        (ABC, told(1, 1, invalidEmails=[A]), f"{BAD} again again"),
        (ABC, told(2, 0), "again again again"),
        (ABC, told(4, 0), "again again again"),
        (ABC, told(2, 1), "again again again"),
        (AB, told(1, 1, invalidEmails=["z@x.io"]), "again again"),
        (AB, told(2, 0, invalidEmails=["z@x.io"]), "again again"),
        (AB, told(0, 2, invalidEmails=[A, "z@x.io"]), f"{BAD} again"),
        # one user twice: named as often, or less often with failCount telling all of them, or some
        (f"{A} {A}", told(0, 2, invalidEmails=[A]), f"{BAD} {BAD}"),
        (AAB, told(1, 2, invalidEmails=[A, A]), f"{BAD} {BAD} ok"),
        (AAB, told(1, 2, invalidEmails=[A]), "again again again"),
        (AAB, told(2, 1, invalidEmails=[A]), "again again again"),
        (AAB, told(2, 1, invalidEmails=[A]) | {"invalidEmails": [A]}, "again again again"),
        (AAB, told(1, 1, invalidEmails=[A]), "again again again"),
        (AAB, told(3, 0, invalidEmails=[A]), "again again again"),
        (AAB, told(0, 3, invalidEmails=[A]), "again again again"),
        (AAB, told(2, 1, invalidEmails=[A, A]), f"{BAD} {BAD} again"),
        (
            f"{A} {A} {B} {B} c@x.io",
            told(3, 2, invalidEmails=[A, B]),
            "again again again again again",
        ),
        (f"{A} {A} {B} c@x.io", told(2, 2, invalidEmails=[A, B]), f"again again {BAD} again"),
        # a list that Iterable has none like, whose name may hold anything
        (AB, told(1, 1, **{"b@x.io listEmails": [A]}), "UnknownReason ok"),
        # events that fail by their name
        (XY, told(1, 1) | {"disallowedEventNames": ["x"]}, "DisallowedEventName ok"),
        (
            f"{A}/x {B}/y {A}/x",
            told(1, 2) | {"disallowedEventNames": ["x"]},
            "DisallowedEventName ok DisallowedEventName",
        ),
        (XY, told(2, 0) | {"disallowedEventNames": ["x"]}, "DisallowedEventName again"),
        (XY, told(1, 1) | {"disallowedEventNames": ["z"]}, "again again"),
        (XY, told(2, 0) | {"disallowedEventNames": ["z"]}, "again again"),
        (
            f"{A}/x {B}/y c@x.io/y",
            told(1, 2, forgottenEmails=[B]) | {"disallowedEventNames": ["x"]},
            "DisallowedEventName ForgottenUserError ok",
        ),
        # lists that are none, or hold what is no name
        *((AB, told(2, 0) | {"failedUpdates": odd}, "ok ok") for odd in NO_OBJECTS),
        *((AB, told(2, 0, invalidEmails=odd), "ok ok") for odd in NO_LISTS),
        *((AB, told(1, 1, invalidEmails=odd), "again again") for odd in NO_NAMES),
        (AB, told(2, 0) | {"invalidEmails": None, "filteredOutFields": 7}, "ok ok"),
        *((XY, told(2, 0) | {"disallowedEventNames": odd}, "ok ok") for odd in NO_LISTS),
        *((XY, told(1, 1) | {"disallowedEventNames": odd}, "again again") for odd in NO_NAMES),
    ],
)
def test_a_bulk_answer_is_believed_as_far_as_it_goes(
    text: str, answer: Json, expected: str
) -> None:
    payloads = items(text)
    judged = [describe(outcome) if outcome else "again" for outcome in judge_bulk(answer, payloads)]
    assert judged == expected.split()


@pytest.mark.parametrize(
    ("text", "answer", "expected"),
    [
        (ABC, told(2, 0), "again again again"),
        (AAB, told(2, 1, invalidEmails=[A]), "again again again"),
        (XY, told(1, 1) | {"disallowedEventNames": ["z"]}, "again again"),
        (THREE_USERS, told(3, 0), "ok ok ok"),
        (THREE_EVENTS, told(3, 0), "ok ok ok"),
    ],
)
def test_what_a_bulk_answer_leaves_open_is_sent_again_singly(
    connect: Connect, server: FakeIterable, text: str, answer: Json, expected: str
) -> None:
    server.add_fault("status", path="ulk", status=200, body=json.dumps(answer))
    payloads, outcomes = send_bulk(connect(server), text)
    assert outcomes == expected.split()
    unclear = payloads if "again" in outcomes else []
    assert sent_singly(server) == unclear
    assert len(server.requests) == 1 + len(unclear)


@pytest.mark.parametrize("text", BOTH_BULK)
@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 400, "code": "RequestFieldsTypesMismatched"},
        {"kind": "html", "status": 413},
        {"kind": "html", "status": 400},
        {"kind": "status", "status": 413, "body": ""},
        {"kind": "status", "status": 413},
        {"kind": "status", "status": 422, "code": "BatchTooLarge"},
        answer(400, told(3, 0)),
        answer(400, told(3, 0) | REFUSAL),
        answer(400, {"code": "BadParams", "failCount": 3}),
        answer(409, told(2, 0)),
        answer(409, told(2, 0) | REFUSAL),
        answer(409, {"code": "ForgottenUserError", "msg": "no"}),
    ],
)
def test_a_bulk_request_refused_as_a_whole_is_sent_again_singly(
    connect: Connect, server: FakeIterable, fault: Json, text: str
) -> None:
    server.add_fault(path="ulk", **fault)
    payloads, outcomes = send_bulk(connect(server), text)
    assert outcomes == ["again"] * 3
    assert sent_singly(server) == payloads
    assert len(server.requests) == 4


def test_a_bulk_request_that_always_takes_too_long_is_sent_again_singly(
    connect: Connect, server: FakeIterable
) -> None:
    server.add_fault("status", path="ulk", status=408)
    payloads, outcomes = send_bulk(connect(server), AB)
    assert outcomes == ["again"] * 2
    assert sent_singly(server) == payloads
    assert len(server.requests) == ALL + 2


def test_a_row_that_spoils_a_bulk_request_is_the_only_one_that_fails(
    connect: Connect, server: FakeIterable
) -> None:
    client = connect(server)
    client.track_event(ADA, "x", {"n": "text"}, event_id="first")  # from now on, n is text
    events = [event("email", A, "x", {"n": n}, None, f"e{n}") for n in ("1", 2, "3")]
    results = client.send(EVENTS_TRACK_BULK, events)
    assert codes_of(results) == ["Success", "RequestFieldsTypesMismatched", "Success"]
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
        *((answer(200, body), "InvalidResponse", ALL) for body in NO_COUNTS),
        (answer(502, told(2, 0)), "InvalidResponse", ALL),
        (answer(502, told(2, 0) | REFUSAL), "GenericError", ALL),
    ],
)
def test_a_bulk_request_without_a_usable_answer_fails_as_a_whole(
    connect: Connect, server: FakeIterable, fault: Json, code: str, attempts: int
) -> None:
    server.add_fault(**fault)
    client = connect(server, timeout=0.05 if code == "Timeout" else 30)
    payloads, outcomes = send_bulk(client, AB)
    assert outcomes == [code] * 2
    assert [seen.body for seen in server.requests] == [{"users": payloads}] * attempts


def test_a_row_that_always_gets_a_500_fails_alone_in_bulk_too(
    connect: Connect, server: FakeIterable
) -> None:
    server.add_fault("status", status=500, user=A)
    _, outcomes = send_bulk(connect(server), f"{A} {B} {ADA}")
    assert outcomes == ["GenericError", "again", "again"]


def test_fields_that_iterable_drops_are_collected(connect: Connect, server: FakeIterable) -> None:
    server.dropped_fields = {"n"}
    client = connect(server)
    for operation, text in ((USERS_BULK_UPDATE, AB), (EVENTS_TRACK_BULK, EVENTS)):
        delivery = client.send(operation, items(text))
        assert delivery.outcomes == [BULK_ACCEPTED] * 2
        assert delivery.filtered_fields == {"n"}

"""What the stand-in for Iterable accepts and refuses, whatever it has stored."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests

from tests.fake_iterable import FakeIterable
from tests.stand_in.asking import (
    ADA,
    BULK_UPDATE,
    JSON_TYPE,
    OK,
    TRACK,
    TRACK_BULK,
    UPDATE,
    VIEW,
    Post,
    told,
)

GOOD = json.dumps(ADA)
NOT_FINITE = '{"email": "a@example.com", "dataFields": {"x": %s}}'
WITH_CHARSET = {"Content-Type": "application/json; charset=utf-8"}
WITH_TOKEN = {"Authorization": "Bearer of.no.interest"}


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "expected"),
    [
        ("POST", "/api/users/updates", {}, "{}", (404, "NotFound")),
        ("GET", UPDATE, {}, "", (405, "GenericError")),
        ("PUT", UPDATE, {}, GOOD, (405, "GenericError")),
        ("POST", UPDATE, {"Api-Key": None}, GOOD, (401, "BadApiKey")),
        ("POST", UPDATE, {"Api-Key": "Key"}, GOOD, (401, "BadApiKey")),
        ("POST", UPDATE, {"Api-Key": "kéy".encode("latin-1")}, GOOD, (401, "BadApiKey")),
        ("POST", UPDATE, {"Content-Type": "text/plain"}, GOOD, (400, "BadJsonBody")),
        ("POST", UPDATE, {"Content-Type": None}, GOOD, (400, "BadJsonBody")),
        ("POST", UPDATE, {}, "", (400, "BadJsonBody")),
        ("POST", UPDATE, {}, '{"email": ', (400, "BadJsonBody")),
        ("POST", UPDATE, {}, '["ada@example.com"]', (400, "BadJsonBody")),
        ("POST", UPDATE, {}, NOT_FINITE % "NaN", (400, "BadJsonBody")),
        ("POST", UPDATE, {}, NOT_FINITE % "-Infinity", (400, "BadJsonBody")),
        ("POST", UPDATE, {}, '{"email": "é@example.com"}'.encode("latin-1"), (400, "BadJsonBody")),
        ("POST", UPDATE, {}, GOOD.encode("utf-16"), (400, "BadJsonBody")),
        ("POST", UPDATE, {}, "[" * 100_000, (400, "BadJsonBody")),
        ("POST", UPDATE, WITH_CHARSET, GOOD, OK),
        ("POST", UPDATE + "?x=1", {}, GOOD, OK),
        ("POST", UPDATE, WITH_TOKEN, GOOD, OK),
    ],
)
def test_a_request_is_refused_unless_method_path_key_and_encoding_are_right(
    server: FakeIterable,
    session: requests.Session,
    method: str,
    path: str,
    headers: dict[str, Any],
    body: str | bytes,
    expected: tuple[int, str],
) -> None:
    data = body.encode() if isinstance(body, str) else body
    headers = {**JSON_TYPE, **headers}
    url = server.url + path
    response = session.request(method, url, data=data, headers=headers, timeout=10)
    assert told(response) == expected
    assert bool(server.users) == (expected[0] == 200)


USER_MISTAKES: list[Any] = [
    {},
    {"email": 1},
    {"email": None},
    {"userId": 7},
    {**ADA, "userId": "7"},
    {**ADA, "dataFields": []},
    {**ADA, "dataFields": None},
    {**ADA, "preferUserId": "true"},
    {**ADA, "preferUserId": 1},
    {**ADA, "mergeNestedObjects": 0},
    {**ADA, "datafields": {}},
    {**ADA, "dataFields": {"email": "b@example.com"}},
]
EVENT_MISTAKES: list[Any] = [
    ADA,
    {"eventName": "e"},
    {**VIEW, "userId": "7"},
    {**VIEW, "eventName": ""},
    {**VIEW, "eventName": 1},
    {**VIEW, "createdAt": "1700000000"},
    {**VIEW, "createdAt": 1.7e9},
    {**VIEW, "createdAt": True},
    {**VIEW, "createdAt": 1700000000000},
    {**VIEW, "createdAt": 2**63},
    {**VIEW, "createdAt": None},
    {**VIEW, "id": 5},
    {**VIEW, "id": ""},
    {**VIEW, "id": "é" * 257},
    {**VIEW, "dataFields": "x"},
    {**VIEW, "campaignId": "1"},
    {**VIEW, "preferUserId": True},
]
BOB = {"email": "b@example.com"}
FINE = {**VIEW, "id": "1"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        *((UPDATE, user) for user in USER_MISTAKES),
        *((BULK_UPDATE, {"users": [BOB, user]}) for user in [*USER_MISTAKES, "x"]),
        *((TRACK, event) for event in EVENT_MISTAKES),
        *((TRACK_BULK, {"events": [FINE, event]}) for event in [*EVENT_MISTAKES, []]),
        (BULK_UPDATE, {}),
        (BULK_UPDATE, {"users": {}}),
        (BULK_UPDATE, {"users": [], "user": []}),
        (BULK_UPDATE, {"users": [], "createNewFields": 1}),
        (BULK_UPDATE, {"users": [{**ADA, "createNewFields": True}]}),
        (TRACK_BULK, {}),
        (TRACK_BULK, {"events": None}),
        (TRACK_BULK, {"events": [], "createNewFields": True}),
    ],
)
def test_a_body_of_the_wrong_shape_is_refused_whole(
    server: FakeIterable, post: Post, path: str, body: Any
) -> None:
    assert told(post(path, body)) == (400, "BadParams")
    assert (server.users, server.events) == ({}, {})


def test_everything_that_the_description_names_is_accepted(
    server: FakeIterable, post: Post
) -> None:
    user = {**ADA, "dataFields": {"a": 1}, "preferUserId": True, "mergeNestedObjects": False}
    event = {
        **VIEW,
        "id": "é" * 256,
        "createdAt": 1768293912,
        "dataFields": {"page": "pricing"},
        "createNewFields": True,
        "campaignId": 1,
        "templateId": 2,
    }
    assert told(post(UPDATE, {**user, "createNewFields": True})) == OK
    updated = post(BULK_UPDATE, {"users": [user], "createNewFields": False}).json()
    assert updated["successCount"] == 1
    tracked = post(TRACK, event).json()
    assert tracked == {"code": "Success", "msg": "", "params": {"id": "é" * 256}}
    assert post(TRACK_BULK, {"events": [event]}).json()["successCount"] == 1
    assert server.events == {"é" * 256: event}


def test_bulk_answers_have_exactly_the_described_properties(post: Post) -> None:
    common = {
        "successCount",
        "failCount",
        "createdFields",
        "filteredOutFields",
        "failedUpdates",
        "invalidEmails",
        "invalidUserIds",
    }
    lists = {
        "invalidEmails",
        "invalidUserIds",
        "notFoundEmails",
        "notFoundUserIds",
        "forgottenEmails",
        "forgottenUserIds",
    }
    only_users = {
        "conflictEmails",
        "conflictUserIds",
        "invalidDataEmails",
        "invalidDataUserIds",
    }
    users = post(BULK_UPDATE, {"users": []}).json()
    events = post(TRACK_BULK, {"events": []}).json()
    assert users.keys() == common
    assert users["failedUpdates"].keys() == lists | only_users
    assert events.keys() == common | {"disallowedEventNames"}
    assert events["failedUpdates"].keys() == lists


def test_a_body_over_the_limit_is_read_to_its_end_and_answered_413(
    server: FakeIterable, session: requests.Session
) -> None:
    url = server.url + BULK_UPDATE
    body = b'{"users": [' + b" " * 4_000_000 + b"]}"
    refused = session.post(url, data=body, headers=JSON_TYPE, timeout=10)
    assert told(refused) == (413, "BatchTooLarge")
    shorter = body[:11] + body[24:]
    just_fits = session.post(url, data=shorter, headers=JSON_TYPE, timeout=10)
    assert (just_fits.status_code, len(just_fits.request.body or b"")) == (200, 4_000_000)


NO_EMAILS = [
    "",
    "ada",
    "ada@",
    "@example.com",
    "ada@example",
    "a@b@example.com",
    "a da@example.com",
    "ada@example.com ",
    "ada@.com",
    "ada@example.",
    "ada@example..com",
    "a" * 243 + "@example.com",
]
NO_USER_IDS = ["", "7 ", "é", "a\nb", "a" * 53]


@pytest.mark.parametrize(
    ("who", "code"),
    [
        *(({"email": text}, "InvalidEmailAddressError") for text in NO_EMAILS),
        *(({"userId": text}, "InvalidUserIdError") for text in NO_USER_IDS),
    ],
)
def test_malformed_identifiers_are_refused(
    server: FakeIterable, post: Post, who: dict[str, str], code: str
) -> None:
    name = next(iter(who.values()))
    listed = "invalidEmails" if "email" in who else "invalidUserIds"
    assert told(post(UPDATE, {**who, "preferUserId": True})) == (400, code)
    assert told(post(TRACK, {**who, "eventName": "e"})) == (400, code)
    for path, body in (
        (BULK_UPDATE, {"users": [{**who, "preferUserId": True}, ADA]}),
        (TRACK_BULK, {"events": [{**who, "eventName": "e"}, VIEW]}),
    ):
        answer = post(path, body).json()
        assert (answer["successCount"], answer["failCount"]) == (1, 1)
        assert answer["failedUpdates"][listed] == answer[listed] == [name]
    assert list(server.users) == ["ada@example.com"]


@pytest.mark.parametrize(
    "who",
    [
        {"email": "a" * 242 + "@example.com"},
        {"email": "o'neil+x@sub.example.co.uk"},
        {"email": "jörg@exämple.com"},
        {"userId": "a" * 52},
        {"userId": " a b"},
        {"userId": "ada@example.com"},
    ],
)
def test_unusual_but_well_formed_identifiers_are_accepted(post: Post, who: dict[str, str]) -> None:
    assert told(post(UPDATE, {**who, "preferUserId": True})) == OK

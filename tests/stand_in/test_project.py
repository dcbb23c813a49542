"""What the stand-in for Iterable stores, and whom and what it was told to refuse."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from tests.fake_iterable import FakeIterable
from tests.stand_in.asking import (
    ADA,
    BULK_UPDATE,
    OK,
    TRACK,
    TRACK_BULK,
    UPDATE,
    VIEW,
    Post,
    told,
)


@pytest.mark.parametrize(
    ("refused", "status", "codes", "listed"),
    [
        ("forgotten", 409, ("ForgottenUserError", "ForgottenUserError"), "forgotten"),
        ("not_found", 400, ("UnknownEmailError", "UnknownUserIdError"), "notFound"),
        ("invalid_data", 400, ("RequestFieldsTypesMismatched",) * 2, "invalidData"),
        ("conflicts", 409, ("EmailAlreadyExists", "UserIdAlreadyExists"), "conflict"),
    ],
)
def test_users_whom_a_test_refuses_are_named_as_they_were_sent(
    server: FakeIterable, post: Post, refused: str, status: int, codes: tuple[str, str], listed: str
) -> None:
    getattr(server, refused).update({"ada@example.com", "U7"})
    users = [{"email": "Ada@Example.com"}, {"userId": "U7", "preferUserId": True}]
    assert [told(post(UPDATE, user)) for user in users] == [(status, code) for code in codes]
    answer = post(BULK_UPDATE, {"users": [*users, {"email": "b@example.com"}]}).json()
    assert (answer["successCount"], answer["failCount"]) == (1, 2)
    named = {name: users for name, users in answer["failedUpdates"].items() if users}
    assert named == {listed + "Emails": ["Ada@Example.com"], listed + "UserIds": ["U7"]}
    assert list(server.users) == ["b@example.com"]


@pytest.mark.parametrize(
    ("refused", "expected"),
    [
        ("forgotten", (409, "ForgottenUserError")),
        ("not_found", (400, "UnknownEmailError")),
        ("invalid_data", (400, "RequestFieldsTypesMismatched")),
        ("conflicts", OK),
    ],
)
def test_events_of_refused_users_are_refused_but_for_conflicts(
    server: FakeIterable, post: Post, refused: str, expected: tuple[int, str]
) -> None:
    getattr(server, refused).add("ada@example.com")
    assert told(post(TRACK, {**VIEW, "id": "1"})) == expected
    assert list(server.events) == (["1"] if expected[0] == 200 else [])


def test_a_bulk_request_stores_the_events_of_the_others(server: FakeIterable, post: Post) -> None:
    server.forgotten.add("ada@example.com")
    server.not_found.add("7")
    events = [
        {**VIEW, "id": "1"},
        {"userId": "7", "eventName": "e", "id": "2"},
        {"email": "b@example.com", "eventName": "e", "id": "3"},
    ]
    answer = post(TRACK_BULK, {"events": events}).json()
    assert (answer["successCount"], answer["failCount"]) == (1, 2)
    assert answer["failedUpdates"]["forgottenEmails"] == ["ada@example.com"]
    assert answer["failedUpdates"]["notFoundUserIds"] == ["7"]
    assert list(server.events) == ["3"]


def test_an_unknown_user_id_needs_prefer_user_id(server: FakeIterable, post: Post) -> None:
    unknown = (400, "UnknownUserIdError")
    assert told(post(UPDATE, {"userId": "7"})) == unknown
    assert told(post(UPDATE, {"userId": "7", "preferUserId": False})) == unknown
    answer = post(BULK_UPDATE, {"users": [{"userId": "7"}]}).json()
    assert answer["failedUpdates"]["notFoundUserIds"] == ["7"]
    assert told(post(UPDATE, {"userId": "7", "preferUserId": True})) == OK
    assert told(post(UPDATE, {"userId": "7"})) == OK
    assert list(server.users) == ["7"]


def test_data_fields_are_merged_into_the_profile_and_null_clears(
    server: FakeIterable, post: Post
) -> None:
    fields = {"plan": "pro", "age": 3, "address": {"city": "x", "zip": "1"}}
    post(UPDATE, {"email": "Ada@Example.com", "dataFields": fields})
    before = server.users
    changes = {"age": None, "address": {"city": "y"}}
    post(BULK_UPDATE, {"users": [{**ADA, "dataFields": changes}]})
    assert server.users == {"ada@example.com": {"plan": "pro", "address": {"city": "y"}}}
    assert before["ada@example.com"]["age"] == 3, "what a test holds does not change"


def test_an_event_with_a_known_id_replaces_and_one_without_gets_one(
    server: FakeIterable, post: Post
) -> None:
    first = {**VIEW, "id": "1", "dataFields": {"a": 1}}
    second = {**VIEW, "id": "1", "dataFields": {"b": 1}}
    post(TRACK, first)
    post(TRACK_BULK, {"events": [first, second]})
    assert server.events == {"1": second}
    assert server.event_writes == {"1": 3}
    made_up = post(TRACK, VIEW).json()["params"]["id"]
    assert server.events[made_up] == {**VIEW, "id": made_up}
    assert post(TRACK_BULK, {"events": [VIEW, VIEW]}).json()["successCount"] == 2
    assert len(server.events) == 4


@pytest.mark.parametrize(
    ("first", "second", "fits"),
    [
        ("a", "b", True),
        (1, 2, True),
        (1.5, 2.0, True),
        (True, False, True),
        ({"a": 1}, {"b": "x"}, True),
        ([1], ["x"], True),
        (1.5, 2, True),
        (None, 1, True),
        (1, None, True),
        ({"a": 1}, {"a": None}, True),
        (1, 2.0, False),
        (1, "1", False),
        ("1", 1, False),
        (1, True, False),
        (True, 1, False),
        ([1], 1, False),
        ({}, "x", False),
        ("x", {}, False),
        ([], {}, False),
        ({"a": 1}, {"a": "1"}, False),
        (1, 2**63, False),
    ],
)
def test_a_fields_type_is_fixed_at_first_sight(
    post: Post, first: Any, second: Any, fits: bool
) -> None:
    expected = OK if fits else (400, "RequestFieldsTypesMismatched")
    for path, item in ((UPDATE, ADA), (TRACK, VIEW)):
        assert told(post(path, {**item, "dataFields": {"x": first}})) == OK
        assert told(post(path, {**item, "dataFields": {"x": second}})) == expected


def test_in_bulk_updates_a_mismatch_is_that_users_alone(server: FakeIterable, post: Post) -> None:
    users = [
        {**ADA, "dataFields": {"n": 1}},
        {"email": "B@example.com", "dataFields": {"n": "1", "new": "x"}},
        {"userId": "7", "preferUserId": True, "dataFields": {"n": 1.5}},
        {"email": "c@example.com", "dataFields": {"n": 2, "new": 1}},
    ]
    answer = post(BULK_UPDATE, {"users": users}).json()
    assert (answer["successCount"], answer["failCount"]) == (2, 2)
    assert answer["failedUpdates"]["invalidDataEmails"] == ["B@example.com"]
    assert answer["failedUpdates"]["invalidDataUserIds"] == ["7"]
    assert answer["createdFields"] == ["n", "new"], "a refused user fixes no types"
    assert server.users == {"ada@example.com": {"n": 1}, "c@example.com": {"n": 2, "new": 1}}


def test_in_bulk_events_a_mismatch_spoils_the_whole_request(
    server: FakeIterable, post: Post
) -> None:
    good = {**VIEW, "dataFields": {"n": 1}}
    bad = {**VIEW, "dataFields": {"n": "1"}}
    answer = post(TRACK_BULK, {"events": [good, bad]})
    assert told(answer) == (400, "RequestFieldsTypesMismatched")
    assert server.events == {}
    assert told(post(TRACK, bad)) == OK, "what was not stored fixed no types"


def test_event_field_types_hold_for_one_event_name(post: Post) -> None:
    number, text = {"n": 1}, {"n": "1"}
    assert told(post(TRACK, {**VIEW, "dataFields": number})) == OK
    assert told(post(TRACK, {**VIEW, "eventName": "other", "dataFields": text})) == OK
    assert told(post(UPDATE, {**ADA, "dataFields": text})) == OK


@pytest.mark.parametrize(
    "option", [{"disallowed_event_names": {"secret"}}, {"allowed_event_names": {"page_view"}}]
)
def test_disallowed_events_are_not_stored_though_the_answer_is_200(
    session: requests.Session, option: Any
) -> None:
    secret = {**ADA, "eventName": "secret", "id": "s"}
    events = [secret, {**VIEW, "id": "1"}, secret]
    with FakeIterable(api_key="key", **option) as server:
        single = session.post(server.url + TRACK, json=secret, timeout=10)
        bulk = session.post(server.url + TRACK_BULK, json={"events": events}, timeout=10)
        assert told(single) == OK
        assert single.json()["msg"] == "Event with name secret is disallowed from tracking."
        answer = bulk.json()
        assert (answer["successCount"], answer["failCount"]) == (1, 2)
        assert answer["disallowedEventNames"] == ["secret"]
        assert list(server.events) == ["1"]


def test_dropped_fields_are_reported_in_bulk_and_silently_dropped_singly(
    server: FakeIterable, post: Post
) -> None:
    server.dropped_fields.add("x")
    fields = {"x": 1, "y": 2}
    assert told(post(UPDATE, {**ADA, "dataFields": fields})) == OK
    assert told(post(TRACK, {**VIEW, "id": "1", "dataFields": fields})) == OK
    for path, body in (
        (BULK_UPDATE, {"users": [{**ADA, "dataFields": fields}]}),
        (TRACK_BULK, {"events": [{**VIEW, "id": "2", "dataFields": fields}]}),
    ):
        answer = post(path, body).json()
        assert (answer["successCount"], answer["filteredOutFields"]) == (1, ["x"])
    assert server.users["ada@example.com"] == {"y": 2}
    assert [event["dataFields"] for event in server.events.values()] == [{"y": 2}, {"y": 2}]

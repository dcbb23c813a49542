"""What the stand-in for Iterable accepts and refuses, over real HTTP. No test here sleeps or measures time."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
import requests

from tests.fake_iterable import FakeIterable, Request

UPDATE, BULK_UPDATE = "/api/users/update", "/api/users/bulkUpdate"
TRACK, TRACK_BULK = "/api/events/track", "/api/events/trackBulk"
ADA = {"email": "ada@example.com"}
VIEW = {**ADA, "eventName": "page_view"}
SECRET = "s" * 64
ENDED = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)

Post = Callable[..., requests.Response]


@pytest.fixture
def server() -> Iterator[FakeIterable]:
    with FakeIterable(api_key="key") as server:
        yield server


@pytest.fixture
def post(server: FakeIterable, session: requests.Session) -> Post:
    """post(path, body): the answer of `server`."""
    return lambda path, body, **more: session.post(server.url + path, json=body, timeout=10, **more)


def told(response: requests.Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


def ask(server: FakeIterable, path: str, body: Any, api_key: str = "test-api-key") -> tuple[int, Any]:
    """Status and JSON of a request that skips the wire."""
    headers = {"api-key": api_key, "content-type": "application/json"}
    reply = server.handle(Request("POST", path, headers, json.dumps(body).encode()))
    head, _, content = reply.data.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(content)


def token(secret: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    now = int(time.time())
    whole = {"email": "ada@example.com", "iat": now, "exp": now + 3600, **claims}
    return jwt.encode({name: value for name, value in whole.items() if value is not None}, secret, algorithm)


# ------------------------------------------------------------------------------------- requests as a whole


JSON_TYPE = {"Content-Type": "application/json"}


@pytest.mark.parametrize(("method", "path", "headers", "body", "expected"), [
    ("POST", "/api/users/updates", {}, "{}", (404, "NotFound")),
    ("GET", UPDATE, {}, "", (405, "GenericError")),
    ("PUT", UPDATE, {}, json.dumps(ADA), (405, "GenericError")),
    ("POST", UPDATE, {"Api-Key": None}, json.dumps(ADA), (401, "BadApiKey")),
    ("POST", UPDATE, {"Api-Key": "Key"}, json.dumps(ADA), (401, "BadApiKey")),
    ("POST", UPDATE, {"Api-Key": "kéy".encode("latin-1")}, json.dumps(ADA), (401, "BadApiKey")),
    ("POST", UPDATE, {"Content-Type": "text/plain"}, json.dumps(ADA), (400, "BadJsonBody")),
    ("POST", UPDATE, {"Content-Type": None}, json.dumps(ADA), (400, "BadJsonBody")),
    ("POST", UPDATE, {}, "", (400, "BadJsonBody")),
    ("POST", UPDATE, {}, '{"email": ', (400, "BadJsonBody")),
    ("POST", UPDATE, {}, '["ada@example.com"]', (400, "BadJsonBody")),
    ("POST", UPDATE, {}, '{"email": "a@example.com", "dataFields": {"x": NaN}}', (400, "BadJsonBody")),
    ("POST", UPDATE, {}, '{"email": "a@example.com", "dataFields": {"x": -Infinity}}', (400, "BadJsonBody")),
    ("POST", UPDATE, {}, '{"email": "é@example.com"}'.encode("latin-1"), (400, "BadJsonBody")),
    ("POST", UPDATE, {}, json.dumps(ADA).encode("utf-16"), (400, "BadJsonBody")),
    ("POST", UPDATE, {}, "[" * 100_000, (400, "BadJsonBody")),
    ("POST", UPDATE, {"Content-Type": "application/json; charset=utf-8"}, json.dumps(ADA), (200, "Success")),
    ("POST", UPDATE + "?x=1", {}, json.dumps(ADA), (200, "Success")),
    ("POST", UPDATE, {"Authorization": "Bearer of.no.interest"}, json.dumps(ADA), (200, "Success")),
])
def test_a_request_is_refused_unless_method_path_key_and_encoding_are_right(
    server: FakeIterable, session: requests.Session, method: str, path: str, headers: dict[str, Any],
    body: str | bytes, expected: tuple[int, str],
) -> None:
    data = body.encode() if isinstance(body, str) else body
    response = session.request(method, server.url + path, data=data, headers={**JSON_TYPE, **headers}, timeout=10)
    assert told(response) == expected
    assert bool(server.users) == (expected[0] == 200)


USER_MISTAKES: list[Any] = [
    {}, {"email": 1}, {"email": None}, {"userId": 7}, {**ADA, "userId": "7"}, {**ADA, "dataFields": []},
    {**ADA, "dataFields": None}, {**ADA, "preferUserId": "true"}, {**ADA, "preferUserId": 1},
    {**ADA, "mergeNestedObjects": 0}, {**ADA, "datafields": {}}, {**ADA, "dataFields": {"email": "b@example.com"}},
    {**ADA, "dataFields": {"userId": "7"}},
]
EVENT_MISTAKES: list[Any] = [
    ADA, {"eventName": "e"}, {**VIEW, "userId": "7"}, {**VIEW, "eventName": ""}, {**VIEW, "eventName": 1},
    {**VIEW, "createdAt": "1700000000"}, {**VIEW, "createdAt": 1.7e9}, {**VIEW, "createdAt": True},
    {**VIEW, "createdAt": 1700000000000}, {**VIEW, "createdAt": 2**63}, {**VIEW, "createdAt": None},
    {**VIEW, "id": 5}, {**VIEW, "id": ""}, {**VIEW, "id": "é" * 257}, {**VIEW, "dataFields": "x"},
    {**VIEW, "campaignId": "1"}, {**VIEW, "preferUserId": True},
]


@pytest.mark.parametrize(("path", "body"), [
    *((UPDATE, user) for user in USER_MISTAKES),
    *((BULK_UPDATE, {"users": [{"email": "b@example.com"}, user]}) for user in [*USER_MISTAKES, "x"]),
    *((TRACK, event) for event in EVENT_MISTAKES),
    *((TRACK_BULK, {"events": [{**VIEW, "id": "1"}, event]}) for event in [*EVENT_MISTAKES, []]),
    (BULK_UPDATE, {}), (BULK_UPDATE, {"users": {}}), (BULK_UPDATE, {"users": [], "user": []}),
    (BULK_UPDATE, {"users": [], "createNewFields": 1}), (BULK_UPDATE, {"users": [{**ADA, "createNewFields": True}]}),
    (TRACK_BULK, {}), (TRACK_BULK, {"events": None}), (TRACK_BULK, {"events": [], "createNewFields": True}),
])
def test_a_body_of_the_wrong_shape_is_refused_whole(server: FakeIterable, post: Post, path: str, body: Any) -> None:
    assert told(post(path, body)) == (400, "BadParams")
    assert (server.users, server.events) == ({}, {})


def test_everything_that_the_description_names_is_accepted(server: FakeIterable, post: Post) -> None:
    user = {**ADA, "dataFields": {"a": 1}, "preferUserId": True, "mergeNestedObjects": False}
    event = {**VIEW, "id": "é" * 256, "createdAt": 1768293912, "dataFields": {"page": "pricing"},
             "createNewFields": True, "campaignId": 1, "templateId": 2}
    assert told(post(UPDATE, {**user, "createNewFields": True})) == (200, "Success")
    assert post(BULK_UPDATE, {"users": [user], "createNewFields": False}).json()["successCount"] == 1
    assert post(TRACK, event).json() == {"code": "Success", "msg": "", "params": {"id": "é" * 256}}
    assert post(TRACK_BULK, {"events": [event]}).json()["successCount"] == 1
    assert server.events == {"é" * 256: event}


def test_bulk_answers_have_exactly_the_described_properties(post: Post) -> None:
    common = {"successCount", "failCount", "createdFields", "filteredOutFields", "failedUpdates", "invalidEmails",
              "invalidUserIds"}
    lists = {kind + who for kind in ("invalid", "notFound", "forgotten") for who in ("Emails", "UserIds")}
    only_users = {kind + who for kind in ("conflict", "invalidData") for who in ("Emails", "UserIds")}
    users, events = post(BULK_UPDATE, {"users": []}).json(), post(TRACK_BULK, {"events": []}).json()
    assert users.keys() == common
    assert users["failedUpdates"].keys() == lists | only_users
    assert events.keys() == common | {"disallowedEventNames"}
    assert events["failedUpdates"].keys() == lists


def test_a_body_over_the_limit_is_read_to_its_end_and_answered_413(
    server: FakeIterable, session: requests.Session
) -> None:
    body = b'{"users": [' + b" " * 4_000_000 + b"]}"
    refused = session.post(server.url + BULK_UPDATE, data=body, headers=JSON_TYPE, timeout=10)
    assert told(refused) == (413, "BatchTooLarge")
    just_fits = session.post(server.url + BULK_UPDATE, data=body[:11] + body[24:], headers=JSON_TYPE, timeout=10)
    assert (just_fits.status_code, len(just_fits.request.body or b"")) == (200, 4_000_000)


# ------------------------------------------------------------------------------------------ who is refused


@pytest.mark.parametrize(("who", "code"), [
    *(({"email": email}, "InvalidEmailAddressError") for email in (
        "", "ada", "ada@", "@example.com", "ada@example", "a@b@example.com", "a da@example.com", "ada@example.com ",
        "ada@.com", "ada@example.", "ada@example..com", "a" * 243 + "@example.com")),
    *(({"userId": user_id}, "InvalidUserIdError") for user_id in ("", "7 ", "é", "a\nb", "a" * 53)),
])
def test_malformed_identifiers_are_refused(server: FakeIterable, post: Post, who: dict[str, str], code: str) -> None:
    name = next(iter(who.values()))
    listed = "invalidEmails" if "email" in who else "invalidUserIds"
    assert told(post(UPDATE, {**who, "preferUserId": True})) == (400, code)
    assert told(post(TRACK, {**who, "eventName": "e"})) == (400, code)
    for path, body in ((BULK_UPDATE, {"users": [{**who, "preferUserId": True}, ADA]}),
                       (TRACK_BULK, {"events": [{**who, "eventName": "e"}, VIEW]})):
        answer = post(path, body).json()
        assert (answer["successCount"], answer["failCount"]) == (1, 1)
        assert answer["failedUpdates"][listed] == answer[listed] == [name]
    assert list(server.users) == ["ada@example.com"]


@pytest.mark.parametrize("who", [
    {"email": "a" * 242 + "@example.com"}, {"email": "o'neil+x@sub.example.co.uk"}, {"email": "jörg@exämple.com"},
    {"userId": "a" * 52}, {"userId": " a b"}, {"userId": "ada@example.com"},
])
def test_unusual_but_well_formed_identifiers_are_accepted(post: Post, who: dict[str, str]) -> None:
    assert told(post(UPDATE, {**who, "preferUserId": True})) == (200, "Success")


@pytest.mark.parametrize(("refused", "status", "codes", "listed"), [
    ("forgotten", 409, ("ForgottenUserError", "ForgottenUserError"), "forgotten"),
    ("not_found", 400, ("UnknownEmailError", "UnknownUserIdError"), "notFound"),
    ("invalid_data", 400, ("RequestFieldsTypesMismatched",) * 2, "invalidData"),
    ("conflicts", 409, ("EmailAlreadyExists", "UserIdAlreadyExists"), "conflict"),
])
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


@pytest.mark.parametrize(("refused", "expected"), [
    ("forgotten", (409, "ForgottenUserError")),
    ("not_found", (400, "UnknownEmailError")),
    ("invalid_data", (400, "RequestFieldsTypesMismatched")),
    ("conflicts", (200, "Success")),
])
def test_events_of_refused_users_are_refused_but_for_conflicts(
    server: FakeIterable, post: Post, refused: str, expected: tuple[int, str]
) -> None:
    getattr(server, refused).add("ada@example.com")
    assert told(post(TRACK, {**VIEW, "id": "1"})) == expected
    assert list(server.events) == (["1"] if expected[0] == 200 else [])


def test_a_bulk_request_stores_the_events_of_the_others(server: FakeIterable, post: Post) -> None:
    server.forgotten.add("ada@example.com")
    server.not_found.add("7")
    events = [{**VIEW, "id": "1"}, {"userId": "7", "eventName": "e", "id": "2"},
              {"email": "b@example.com", "eventName": "e", "id": "3"}]
    answer = post(TRACK_BULK, {"events": events}).json()
    assert (answer["successCount"], answer["failCount"]) == (1, 2)
    assert answer["failedUpdates"]["forgottenEmails"] == ["ada@example.com"]
    assert answer["failedUpdates"]["notFoundUserIds"] == ["7"]
    assert list(server.events) == ["3"]


def test_an_unknown_user_id_needs_prefer_user_id(server: FakeIterable, post: Post) -> None:
    assert told(post(UPDATE, {"userId": "7"})) == (400, "UnknownUserIdError")
    assert told(post(UPDATE, {"userId": "7", "preferUserId": False})) == (400, "UnknownUserIdError")
    assert post(BULK_UPDATE, {"users": [{"userId": "7"}]}).json()["failedUpdates"]["notFoundUserIds"] == ["7"]
    assert told(post(UPDATE, {"userId": "7", "preferUserId": True})) == (200, "Success")
    assert told(post(UPDATE, {"userId": "7"})) == (200, "Success")
    assert list(server.users) == ["7"]


# ------------------------------------------------------------------------------------------ what is stored


def test_data_fields_are_merged_into_the_profile_and_null_clears(server: FakeIterable, post: Post) -> None:
    fields = {"plan": "pro", "age": 3, "address": {"city": "x", "zip": "1"}}
    post(UPDATE, {"email": "Ada@Example.com", "dataFields": fields})
    before = server.users
    post(BULK_UPDATE, {"users": [{**ADA, "dataFields": {"age": None, "address": {"city": "y"}}}]})
    assert server.users == {"ada@example.com": {"plan": "pro", "address": {"city": "y"}}}
    assert before["ada@example.com"]["age"] == 3, "what a test holds does not change under its hands"


def test_an_event_with_a_known_id_replaces_and_one_without_gets_one(server: FakeIterable, post: Post) -> None:
    first, second = {**VIEW, "id": "1", "dataFields": {"a": 1}}, {**VIEW, "id": "1", "dataFields": {"b": 1}}
    post(TRACK, first)
    post(TRACK_BULK, {"events": [first, second]})
    assert server.events == {"1": second}
    assert server.event_writes == {"1": 3}
    made_up = post(TRACK, VIEW).json()["params"]["id"]
    assert server.events[made_up] == {**VIEW, "id": made_up}
    assert post(TRACK_BULK, {"events": [VIEW, VIEW]}).json()["successCount"] == 2
    assert len(server.events) == 4


@pytest.mark.parametrize(("first", "second", "fits"), [
    ("a", "b", True), (1, 2, True), (1.5, 2.0, True), (True, False, True), ({"a": 1}, {"b": "x"}, True),
    ([1], ["x"], True), (1.5, 2, True), (None, 1, True), (1, None, True), ({"a": 1}, {"a": None}, True),
    (1, 2.0, False), (1, "1", False), ("1", 1, False), (1, True, False), (True, 1, False), ([1], 1, False),
    ({}, "x", False), ("x", {}, False), ([], {}, False), ({"a": 1}, {"a": "1"}, False), (1, 2**63, False),
])
def test_a_fields_type_is_fixed_at_first_sight(post: Post, first: Any, second: Any, fits: bool) -> None:
    expected = (200, "Success") if fits else (400, "RequestFieldsTypesMismatched")
    for path, item in ((UPDATE, ADA), (TRACK, VIEW)):
        assert told(post(path, {**item, "dataFields": {"x": first}})) == (200, "Success")
        assert told(post(path, {**item, "dataFields": {"x": second}})) == expected


def test_in_bulk_updates_a_mismatch_is_that_users_alone(server: FakeIterable, post: Post) -> None:
    users = [{**ADA, "dataFields": {"n": 1}}, {"email": "B@example.com", "dataFields": {"n": "1", "new": "x"}},
             {"userId": "7", "preferUserId": True, "dataFields": {"n": 1.5}},
             {"email": "c@example.com", "dataFields": {"n": 2, "new": 1}}]
    answer = post(BULK_UPDATE, {"users": users}).json()
    assert (answer["successCount"], answer["failCount"]) == (2, 2)
    assert answer["failedUpdates"]["invalidDataEmails"] == ["B@example.com"]
    assert answer["failedUpdates"]["invalidDataUserIds"] == ["7"]
    assert answer["createdFields"] == ["n", "new"], "a refused user fixes no types"
    assert server.users == {"ada@example.com": {"n": 1}, "c@example.com": {"n": 2, "new": 1}}


def test_in_bulk_events_a_mismatch_spoils_the_whole_request(server: FakeIterable, post: Post) -> None:
    good, bad = {**VIEW, "dataFields": {"n": 1}}, {**VIEW, "dataFields": {"n": "1"}}
    assert told(post(TRACK_BULK, {"events": [good, bad]})) == (400, "RequestFieldsTypesMismatched")
    assert server.events == {}
    assert told(post(TRACK, bad)) == (200, "Success"), "what was not stored fixed no types"


def test_event_field_types_hold_for_one_event_name(post: Post) -> None:
    assert told(post(TRACK, {**VIEW, "dataFields": {"n": 1}})) == (200, "Success")
    assert told(post(TRACK, {**VIEW, "eventName": "other", "dataFields": {"n": "1"}})) == (200, "Success")
    assert told(post(UPDATE, {**ADA, "dataFields": {"n": "1"}})) == (200, "Success")


@pytest.mark.parametrize("option", [{"disallowed_event_names": {"secret"}}, {"allowed_event_names": {"page_view"}}])
def test_disallowed_events_are_not_stored_though_the_answer_is_200(session: requests.Session, option: Any) -> None:
    secret = {**ADA, "eventName": "secret", "id": "s"}
    with FakeIterable(api_key="key", **option) as server:
        single = session.post(server.url + TRACK, json=secret, timeout=10)
        bulk = session.post(server.url + TRACK_BULK, json={"events": [secret, {**VIEW, "id": "1"}, secret]}, timeout=10)
        assert told(single) == (200, "Success")
        assert single.json()["msg"] == "Event with name secret is disallowed from tracking."
        answer = bulk.json()
        assert (answer["successCount"], answer["failCount"], answer["disallowedEventNames"]) == (1, 2, ["secret"])
        assert list(server.events) == ["1"]


def test_dropped_fields_are_reported_in_bulk_and_silently_dropped_singly(server: FakeIterable, post: Post) -> None:
    server.dropped_fields.add("x")
    fields = {"x": 1, "y": 2}
    assert told(post(UPDATE, {**ADA, "dataFields": fields})) == (200, "Success")
    assert told(post(TRACK, {**VIEW, "id": "1", "dataFields": fields})) == (200, "Success")
    for path, body in ((BULK_UPDATE, {"users": [{**ADA, "dataFields": fields}]}),
                       (TRACK_BULK, {"events": [{**VIEW, "id": "2", "dataFields": fields}]})):
        answer = post(path, body).json()
        assert (answer["successCount"], answer["filteredOutFields"]) == (1, ["x"])
    assert server.users["ada@example.com"] == {"y": 2}
    assert [event["dataFields"] for event in server.events.values()] == [{"y": 2}, {"y": 2}]


# --------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 413, 429, 500, 502, 503, 504])
def test_a_status_fault_answers_like_iterable_and_stores_nothing(server: FakeIterable, post: Post, status: int) -> None:
    server.add_fault("status", status=status, code="Forbidden", retry_after="7", params={"a": 1})
    response = post(UPDATE, ADA)
    assert told(response) == (status, "Forbidden")
    assert response.headers["Retry-After"] == "7"
    assert response.json()["params"] == {"a": 1}
    assert server.users == {}
    assert server.counts == {(UPDATE, status): 1}


@pytest.mark.parametrize(("fault", "status", "content_type", "text"), [
    ({"kind": "html"}, 502, "text/html", "<html>"),
    ({"kind": "html", "status": 200}, 200, "text/html", "<html>"),
    ({"kind": "redirect", "location": "/elsewhere"}, 302, "application/json", ""),
    ({"kind": "echo_headers"}, 401, "application/json", "x-mark: here"),
    ({"kind": "echo_headers", "status": 400}, 400, "application/json", '"BadParams"'),
    ({"kind": "status", "body": b"GIF", "content_type": "image/gif"}, 500, "image/gif", "GIF"),
    ({"kind": "status", "status": 599, "body": "null"}, 599, "application/json", "null"),
])
def test_other_answers_that_a_gateway_may_give(
    server: FakeIterable, post: Post, fault: Any, status: int, content_type: str, text: str
) -> None:
    server.add_fault(**fault)
    response = post(UPDATE, ADA, headers={"X-Mark": "here"}, allow_redirects=False)
    assert (response.status_code, response.headers["Content-Type"]) == (status, content_type)
    assert text in response.text
    assert response.headers.get("Location") == fault.get("location")
    assert server.users == {}


@pytest.mark.parametrize(("fault", "stored"), [
    ({"kind": "drop_before"}, False), ({"kind": "drop_before", "reset": False}, False),
    ({"kind": "drop_after"}, True), ({"kind": "drop_after", "reset": False}, True),
    ({"kind": "truncated"}, True),
    ({"kind": "hang", "seconds": 0.001}, False), ({"kind": "hang", "seconds": 0.001, "stored": True}, True),
])
def test_a_lost_answer_says_nothing_about_what_was_stored(
    server: FakeIterable, post: Post, fault: Any, stored: bool
) -> None:
    server.add_fault(times=1, **fault)
    with pytest.raises(ENDED):
        post(UPDATE, ADA)
    assert bool(server.users) == stored
    assert told(post(UPDATE, ADA)) == (200, "Success"), "the next connection is served"


def test_an_empty_answer_is_a_200_without_a_body(server: FakeIterable, post: Post) -> None:
    server.add_fault("empty")
    response = post(UPDATE, ADA)
    assert (response.status_code, response.content) == (200, b"")
    assert list(server.users) == ["ada@example.com"]


def test_a_hanging_connection_does_not_keep_the_server_alive(session: requests.Session) -> None:
    with FakeIterable(api_key="key") as server:
        server.add_fault("hang", stored=True)
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.request("POST", UPDATE, json.dumps(ADA), {**JSON_TYPE, "Api-Key": "key"})
        while not server.requests:
            pass
    with contextlib.closing(connection), pytest.raises(ConnectionError):
        connection.getresponse()
    assert list(server.users) == ["ada@example.com"]


def test_faults_choose_their_requests(server: FakeIterable, post: Post) -> None:
    fault = server.add_fault("status", status=503, path="users/", user="Ada@example.com", after=1, times=2)
    statuses = [post(TRACK, VIEW).status_code, post(UPDATE, {"email": "b@example.com"}).status_code]
    statuses += [post(UPDATE, ADA).status_code for _ in range(2)]
    statuses += [post(BULK_UPDATE, {"users": [{"email": "b@example.com"}, {"email": "ADA@example.com"}]}).status_code]
    statuses += [post(UPDATE, ADA).status_code]
    assert statuses == [200, 200, 200, 503, 503, 200]
    assert fault.hits == 2


def test_chance_is_seeded(server: FakeIterable, post: Post) -> None:
    drawn = []
    for _ in range(2):
        server.set_faults([])
        server.add_fault("status", probability=0.5, seed=1)
        drawn.append([post(UPDATE, ADA).status_code for _ in range(20)])
    assert drawn[0] == drawn[1]
    assert set(drawn[0]) == {200, 500}


def test_an_unknown_kind_of_fault_is_an_error(server: FakeIterable) -> None:
    with pytest.raises(ValueError, match="'crash' is no kind of fault"):
        server.add_fault("crash")


def test_a_server_that_went_down_comes_back_on_the_same_port(server: FakeIterable, post: Post) -> None:
    url = server.url
    assert told(post(UPDATE, ADA)) == (200, "Success")
    server.down()
    with pytest.raises(requests.ConnectionError):
        post(UPDATE, ADA)
    server.up()
    assert told(post(UPDATE, ADA)) == (200, "Success")
    assert server.url == url


def test_a_port_that_is_taken_is_an_error(server: FakeIterable) -> None:
    with pytest.raises(OSError, match="in use"), FakeIterable(port=server.port):
        pass


# ---------------------------------------------------------------------------------------- wire and inspection


def test_requests_are_remembered_in_order_with_their_answers(server: FakeIterable, post: Post) -> None:
    post(UPDATE, ADA, headers={"X-Mark": "here"})
    post(TRACK, {})
    server.add_fault("drop_before", times=1)
    with pytest.raises(ENDED):
        post(TRACK, VIEW)
    assert [(seen.path, seen.status, seen.body) for seen in server.requests] == [
        (UPDATE, 200, ADA), (TRACK, 400, {}), (TRACK, 0, VIEW)]
    assert server.requests[0].headers["x-mark"] == "here"
    assert server.counts == {(UPDATE, 200): 1, (TRACK, 400): 1, (TRACK, 0): 1}


def test_recording_can_be_switched_off() -> None:
    server = FakeIterable(record_requests=False)
    ask(server, UPDATE, ADA)
    assert (server.requests, server.counts) == ([], {(UPDATE, 200): 1})


def test_one_connection_serves_many_requests_even_pipelined_ones(server: FakeIterable) -> None:
    body = json.dumps(ADA).encode()
    head = (f"POST {UPDATE} HTTP/1.1\r\nApi-Key: key\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n").encode()
    one, last = head + b"\r\n" + body, head + b"Connection: close\r\n\r\n" + body
    assert exchange(server, one + one + last).count(b"HTTP/1.1 200 OK\r\n") == 3


def exchange(server: FakeIterable, data: bytes) -> bytes:
    """What the server sends back until it closes the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(data)
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize("data", [b"\r\n\r\n", b"GET\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n"])
def test_what_is_not_http_ends_the_connection(server: FakeIterable, data: bytes) -> None:
    with contextlib.suppress(ConnectionResetError):
        assert exchange(server, data) == b""


def test_what_is_stored_can_be_asked_for_cleared_and_made_to_fail_over_http(
    server: FakeIterable, session: requests.Session, post: Post
) -> None:
    post(UPDATE, ADA)
    post(TRACK, {**VIEW, "id": "1"})
    get = {what: session.get(f"{server.url}/_stand_in/{what}", timeout=10).json() for what in ("stored", "counts")}
    assert get["stored"] == {"users": {"ada@example.com": {}}, "events": {"1": {**VIEW, "id": "1"}}}
    assert get["counts"] == {"users": 1, "events": 1, "event_writes": 1,
                             "requests": {f"{UPDATE} 200": 1, f"{TRACK} 200": 1}}
    assert post("/_stand_in/faults", [{"kind": "status", "status": 503, "times": 1}]).status_code == 200
    assert [post(UPDATE, ADA).status_code for _ in range(2)] == [503, 200]
    assert post("/_stand_in/reset", None).status_code == 200
    assert (server.users, server.events, server.requests, server.counts) == ({}, {}, [], {})


@pytest.mark.parametrize(("path", "body", "status"), [
    ("/_stand_in/faults", [{"kind": "crash"}], 400), ("/_stand_in/faults", [{"kind": "status", "stauts": 1}], 400),
    ("/_stand_in/faults", 5, 400), ("/_stand_in/stored", None, 404),
])
def test_mistakes_in_inspection_are_answered(post: Post, path: str, body: Any, status: int) -> None:
    assert post(path, body).status_code == status


def test_what_a_test_reads_is_consistent_while_requests_come_in(server: FakeIterable) -> None:
    def send(sender: int) -> None:
        for number in range(50):
            ask(server, TRACK, {**VIEW, "id": f"{sender}-{number}"}, api_key="key")

    senders = [threading.Thread(target=send, args=(sender,)) for sender in range(4)]
    for sender in senders:
        sender.start()
    while any(sender.is_alive() for sender in senders):
        events, writes = server.events, server.event_writes
        assert all(events[event_id]["id"] == event_id for event_id in events)
        assert len(events) <= writes.total()
    assert len(server.events) == server.event_writes.total() == 200


# -------------------------------------------------------------------------------------------------- process


@contextlib.contextmanager
def running(*arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """The stand-in as a process, with its URL and its second line; ended at the end."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("ITERABLE")}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fake_iterable", *arguments], cwd=Path(__file__).parents[1], text=True,
        env={**ours, **environment}, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        first, second = process.stdout.readline(), process.stdout.readline()
        assert first.startswith("Stand-in for Iterable listening on http://127.0.0.1:")
        try:
            yield process, first.split()[-1], second
        finally:
            process.kill()


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_as_a_process_it_says_where_it_listens_and_ends_quietly(
    session: requests.Session, ending: signal.Signals
) -> None:
    fault = '{"kind": "status", "status": 503, "times": 1}'
    with running("--fault", fault) as (process, url, hint):
        assert f"ITERABLE_API_BASE_URL={url} ITERABLE_API_KEY=test-api-key" in hint
        session.headers["Api-Key"] = "test-api-key"
        assert [session.post(url + UPDATE, json=ADA, timeout=10).status_code for _ in range(2)] == [503, 200]
        assert session.get(url + "/_stand_in/counts", timeout=10).json()["users"] == 1
        process.send_signal(ending)
        assert (process.wait(10), process.stdout and process.stdout.read()) == (0, "")


def test_a_process_takes_credentials_from_the_environment_and_prints_none(session: requests.Session) -> None:
    credentials = {"ITERABLE_API_KEY": "my-own-key", "ITERABLE_JWT_SECRET": SECRET}
    with running("--no-limits", **credentials) as (_, url, hint):
        assert "my-own-key" not in hint
        assert SECRET not in hint
        assert "USE_JWT_AUTH=true" in hint
        headers = {"Api-Key": "my-own-key", "Authorization": f"Bearer {token()}"}
        assert told(session.post(url + UPDATE, json=ADA, headers=headers, timeout=10)) == (200, "Success")
        headers["Authorization"] = ""
        refused = session.post(url + UPDATE, json=ADA, headers=headers, timeout=10)
        assert told(refused) == (401, "BadAuthorizationHeader")


def test_a_process_can_end_with_its_parent() -> None:
    with running("--exit-with-parent") as (process, _, _):
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 0

"""What the stand-in for Iterable lets go wrong."""

from __future__ import annotations

import contextlib
import http.client
import json
from typing import Any

import pytest
import requests

from tests.fake_iterable import FakeIterable
from tests.stand_in.asking import (
    ADA,
    BULK_UPDATE,
    ENDED,
    JSON_TYPE,
    OK,
    SUCCESS,
    TRACK,
    UPDATE,
    VIEW,
    Post,
    told,
)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 413, 429, 500, 502, 503, 504])
def test_a_status_fault_answers_like_iterable_and_stores_nothing(
    server: FakeIterable, post: Post, status: int
) -> None:
    server.add_fault("status", status=status, code="Forbidden", retry_after="7", params={"a": 1})
    response = post(UPDATE, ADA)
    assert told(response) == (status, "Forbidden")
    assert response.headers["Retry-After"] == "7"
    assert response.json()["params"] == {"a": 1}
    assert server.users == {}
    assert server.counts == {(UPDATE, status): 1}


@pytest.mark.parametrize(
    ("fault", "status", "content_type", "text"),
    [
        ({"kind": "html"}, 502, "text/html", "<html>"),
        ({"kind": "html", "status": 200}, 200, "text/html", "<html>"),
        ({"kind": "redirect", "location": "/elsewhere"}, 302, "application/json", ""),
        ({"kind": "echo_headers"}, 401, "application/json", "x-mark: here"),
        ({"kind": "echo_headers", "status": 400}, 400, "application/json", '"BadParams"'),
        ({"kind": "status", "body": b"GIF", "content_type": "image/gif"}, 500, "image/gif", "GIF"),
        ({"kind": "status", "status": 599, "body": "null"}, 599, "application/json", "null"),
    ],
)
def test_other_answers_that_a_gateway_may_give(
    server: FakeIterable, post: Post, fault: Any, status: int, content_type: str, text: str
) -> None:
    server.add_fault(**fault)
    response = post(UPDATE, ADA, headers={"X-Mark": "here"}, allow_redirects=False)
    assert (response.status_code, response.headers["Content-Type"]) == (status, content_type)
    assert text in response.text
    assert response.headers.get("Location") == fault.get("location")
    assert server.users == {}


@pytest.mark.parametrize(
    ("fault", "status", "text"),
    [
        ({"status": 401, "body": '{"code": "Success"}'}, 401, '{"code": "Success"}'),
        ({"status": 401, "code": "Success", "msg": ""}, 401, SUCCESS.decode()),
        ({"status": 401, "body": "Who?", "content_type": "text/plain"}, 401, "Who?"),
        ({"status": 401, "body": ""}, 401, ""),
        (
            {"status": 409, "code": "EmailAlreadyExists", "msg": "taken"},
            409,
            '{"code": "EmailAlreadyExists", "msg": "taken", "params": null}',
        ),
    ],
)
def test_a_refusal_may_be_an_odd_one(
    server: FakeIterable, post: Post, fault: Any, status: int, text: str
) -> None:
    server.add_fault("status", **fault)
    response = post(UPDATE, ADA)
    assert (response.status_code, response.text) == (status, text)
    assert server.users == {}


@pytest.mark.parametrize(
    ("fault", "stored"),
    [
        ({"kind": "drop_before"}, False),
        ({"kind": "drop_before", "reset": False}, False),
        ({"kind": "drop_after"}, True),
        ({"kind": "drop_after", "reset": False}, True),
        ({"kind": "truncated"}, True),
        ({"kind": "hang", "seconds": 0.001}, False),
        ({"kind": "hang", "seconds": 0.001, "stored": True}, True),
    ],
)
def test_a_lost_answer_says_nothing_about_what_was_stored(
    server: FakeIterable, post: Post, fault: Any, stored: bool
) -> None:
    server.add_fault(times=1, **fault)
    with pytest.raises(ENDED):
        post(UPDATE, ADA)
    assert bool(server.users) == stored
    assert told(post(UPDATE, ADA)) == OK, "the next connection is served"


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
    fault = server.add_fault(
        "status", status=503, path="users/", user="Ada@example.com", after=1, times=2
    )
    bob, ada = {"email": "b@example.com"}, {"email": "ADA@example.com"}
    answers = [
        post(TRACK, VIEW),
        post(UPDATE, bob),
        post(UPDATE, ADA),
        post(UPDATE, ADA),
        post(BULK_UPDATE, {"users": [bob, ada]}),
        post(UPDATE, ADA),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 503, 503, 200]
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

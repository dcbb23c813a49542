"""No key, secret or token in what the client hands on, whatever Iterable echoes."""

from __future__ import annotations

import json
import logging

import pytest
from requests import exceptions

from iterable_client import USERS_BULK_UPDATE, user_update
from tests.fake_iterable import FakeIterable
from tests.project import KEY, SECRET
from tests.unit.clients import ADA, UPDATE, Connect, Mock


def test_an_answer_that_echoes_the_request_tells_no_secret(
    connect: Connect, jwt_server: FakeIterable, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    jwt_server.add_fault("echo_headers")
    ok, answer = connect(jwt_server, jwt_secret=SECRET, use_jwt=True).update_user(ADA, {})
    token = jwt_server.requests[0].headers["authorization"].removeprefix("Bearer ")
    assert not ok
    assert "api-key: [redacted]" in answer["msg"]
    for secret in (KEY, SECRET, token):
        assert secret not in str(answer) + caplog.text


DEEP = {"list": [{"key": KEY}], KEY: {SECRET.lower(): [[SECRET]]}}


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"code": "BadParams", "params": DEEP}),
        f"<p>{KEY}</p>",
        "x" * (200 - 5) + KEY,
        KEY.encode() + b"\xff",
        exceptions.ConnectionError(f"no {KEY} {SECRET}"),
    ],
)
def test_no_secret_is_left_anywhere_in_an_answer_or_an_error(
    connect: Connect, http: Mock, body: str | bytes | Exception
) -> None:
    http.post(UPDATE, status=400, body=body)
    answer = str(connect(jwt_secret=SECRET, use_jwt=True).update_user(ADA, {}))
    for secret in (KEY[:5], SECRET, SECRET.lower()):
        assert secret not in answer
    assert "[redacted]" in answer or "xxx" in answer


@pytest.mark.parametrize("secret", ["back\\slash", "it's", 'say "so"', "a+b(c"])
def test_a_secret_of_any_characters_is_redacted(connect: Connect, http: Mock, secret: str) -> None:
    http.post(UPDATE, status=502, body=f"echo {secret}")
    _, answer = connect(jwt_secret=secret, use_jwt=True).update_user(ADA, {})
    assert "echo [redacted]" in answer["msg"]


def test_a_code_beside_the_counts_of_a_bulk_answer_holds_no_secret(
    connect: Connect, http: Mock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    url = "https://api.iterable.com/api/users/bulkUpdate"
    http.post(url, json={"successCount": 1, "failCount": 0, "code": f"{KEY} b@x.io"})
    connect().send(USERS_BULK_UPDATE, [user_update("email", ADA, {})])
    assert KEY not in caplog.text
    assert "b@x.io" not in caplog.text

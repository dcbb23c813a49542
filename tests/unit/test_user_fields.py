"""What the client asks about a project's user fields."""

from __future__ import annotations

from typing import Any

import pytest

from iterable_client import NOT_SENT
from tests.fake_iterable import FakeIterable
from tests.project import KEY, SECRET
from tests.unit.clients import ALL, HOST, ONCE, REFUSAL, SUCCESS, Connect, Mock, VirtualTime
from tests.wire import Json

FIELDS = f"{HOST}/api/users/getFields"


def test_the_fields_come_with_their_types(connect: Connect, server: FakeIterable) -> None:
    server.add_user_fields({"plan": "string", "address.city": "string", "born": "date"})
    ok, answer = connect(server).get_user_fields()
    assert ok
    assert {"plan": "string", "address.city": "string", "born": "date"}.items() <= (
        answer["fields"].items()
    )
    [seen] = server.requests
    assert (seen.path, seen.body) == ("/api/users/getFields", None)
    assert seen.headers["api-key"] == KEY
    assert not {"content-type", "content-length", "authorization"} & seen.headers.keys()


@pytest.mark.parametrize(
    ("status", "body", "code", "attempts"),
    [
        (200, {"fields": {}}, None, ONCE),
        (200, {"fields": {"a": "string"}, "more": 1}, None, ONCE),
        (200, {"fields": []}, "InvalidResponse", ALL),
        (200, {"fields": None}, "InvalidResponse", ALL),
        (200, {}, "InvalidResponse", ALL),
        (200, SUCCESS, "InvalidResponse", ALL),
        (200, ["fields"], "InvalidResponse", ALL),
        (400, {"fields": {}}, "InvalidResponse", ONCE),
        (400, REFUSAL, "GenericError", ONCE),
        (401, {"code": "BadApiKey", "msg": "no"}, "BadApiKey", ONCE),
        (429, {"code": "RateLimitExceeded", "msg": "no"}, "RateLimitExceeded", ALL),
        (503, REFUSAL, "GenericError", ALL),
    ],
)
def test_success_is_a_2xx_with_an_object_of_fields_and_the_rest_is_retried_like_any_call(
    connect: Connect, http: Mock, status: int, body: Any, code: str | None, attempts: int
) -> None:
    http.get(FIELDS, status=status, json=body)
    ok, answer = connect().get_user_fields()
    assert (ok, answer.get("code")) == (code is None, code)
    assert len(http.calls) == attempts
    if ok:
        assert answer == {"fields": body["fields"]}


def test_a_type_is_text_whatever_came(connect: Connect, http: Mock) -> None:
    http.get(FIELDS, json={"fields": {"a": ["long"], "b": None}})
    assert connect().get_user_fields() == (True, {"fields": {"a": "['long']", "b": "None"}})


@pytest.mark.parametrize(("settings", "share"), [({}, 0.95), ({"rate_limit_factor": 2}, 2)])
def test_questions_are_paced_below_their_limit(
    connect: Connect, server: FakeIterable, time: VirtualTime, settings: Json, share: float
) -> None:
    client = connect(server, **settings)
    for _ in range(3):
        assert client.get_user_fields()[0]
    assert time.waits[-1] == pytest.approx(1 / (3 * share), rel=0.01)


def test_refused_credentials_end_a_run_here_too(connect: Connect, server: FakeIterable) -> None:
    server.add_fault("status", status=401)
    client = connect(server, give_up_after=10)
    assert client.get_user_fields()[1]["code"] == "BadApiKey"
    assert "check ITERABLE_API_KEY" in (client.health.ending or "")
    assert client.get_user_fields() == NOT_SENT.result


def test_a_jwt_enabled_key_is_refused(connect: Connect, jwt_server: FakeIterable) -> None:
    client = connect(jwt_server, jwt_secret=SECRET, use_jwt=True)
    ok, answer = client.get_user_fields()
    assert (ok, answer["code"]) == (False, "Unauthorized")


def test_no_secret_comes_back_in_the_fields(connect: Connect, http: Mock) -> None:
    http.get(FIELDS, json={"fields": {KEY: KEY}})
    assert KEY not in str(connect().get_user_fields())

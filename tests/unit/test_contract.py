"""The documented calls of IterableClient: what they take, send and call a success."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from iterable_client import IterableClient
from tests.fake_iterable import FakeIterable
from tests.project import KEY, SECRET
from tests.unit.clients import ADA, SUCCESS, TRACK, Connect, Mock, codes


@pytest.mark.parametrize(
    ("method", "positional"),
    [
        (IterableClient, ["api_key", "jwt_secret", "use_jwt", "base_url"]),
        (IterableClient.update_user, ["self", "email", "data_fields"]),
        (IterableClient.track_event, ["self", "email", "event_name", "data_fields"]),
        (
            IterableClient._make_request_with_retry,
            ["self", "method", "endpoint_url", "payload", "endpoint_name"],
        ),
        (IterableClient._generate_jwt_token, ["self", "email", "user_id"]),
    ],
)
def test_the_public_names_take_the_documented_arguments(
    method: Callable[..., Any], positional: list[str]
) -> None:
    parameters = inspect.signature(method).parameters.values()
    found = [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    assert found == positional


def test_the_retry_settings_are_attributes_and_keyword_arguments() -> None:
    client = IterableClient(KEY)
    assert (client.max_retries, client.backoff_factor, client.initial_backoff) == (3, 2, 1)
    client = IterableClient(KEY, max_retries=5, backoff_factor=1.5, initial_backoff=0.2)
    assert (client.max_retries, client.backoff_factor, client.initial_backoff) == (5, 1.5, 0.2)


def test_a_call_is_one_post_of_json_with_the_key(connect: Connect, server: FakeIterable) -> None:
    client = connect(server)
    url = f"{server.url}/api/users/update"
    results = [
        client.update_user(" Ada@Example.com", {"plan_type": "pró"}),
        client.track_event(None, "signup", user_id=7, created_at=1768293912, event_id="e1"),
        client._make_request_with_retry("POST", url, {"email": ADA}, "any"),
    ]
    update = {"email": ADA, "dataFields": {"plan_type": "pró"}}
    event = {"userId": "7", "eventName": "signup", "dataFields": {}, "id": "e1"}
    assert codes(results) == ["Success"] * 3
    assert [(seen.path, seen.body) for seen in server.requests] == [
        ("/api/users/update", update),
        ("/api/events/track", {**event, "createdAt": 1768293912}),
        ("/api/users/update", {"email": ADA}),
    ]
    headers = server.requests[0].headers
    assert headers["api-key"] == KEY
    assert headers["content-type"] == "application/json"
    assert "authorization" not in headers


@pytest.mark.parametrize(
    "settings",
    [
        {"api_key": None},
        {"api_key": ""},
        {"api_key": KEY, "use_jwt": True},
        {"use_jwt": True, "jwt_secret": SECRET},
    ],
)
def test_a_client_without_its_credentials_is_an_error(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="api_key is required"):
        IterableClient(**settings)


@pytest.mark.parametrize(
    ("email", "user_id", "fields", "code"),
    [
        (None, None, {}, "NoIdentifier"),
        (" ", None, {}, "NoIdentifier"),
        (ADA, 7, {}, "InvalidValue"),
        (ADA, None, {"blob": b"x"}, "InvalidValue"),
        (ADA, None, {"\ud800": 1}, "InvalidValue"),
    ],
)
def test_what_cannot_be_sent_is_a_failure_of_its_own(
    connect: Connect, http: Mock, email: str | None, user_id: int | None, fields: Any, code: str
) -> None:
    update = connect().update_user(email, fields, user_id=user_id)
    event = connect().track_event(email, "signup", fields, user_id=user_id)
    assert codes([update, event]) == [code] * 2
    assert len(http.calls) == 0


DISALLOWED = "Event with name x is disallowed from tracking."


@pytest.mark.parametrize(
    ("status", "answer", "code"),
    [
        (200, SUCCESS, None),
        (202, SUCCESS, None),
        (200, {"code": "Success"}, None),
        (200, {"code": "success"}, "success"),
        (200, {"code": "BadParams", "msg": ""}, "BadParams"),
        (400, SUCCESS, "InvalidResponse"),  # Iterable is known to send that
        (200, {"code": "Success", "msg": DISALLOWED}, "DisallowedEventName"),
        (400, {"code": "BadParams", "msg": "is disallowed from tracking"}, "BadParams"),
    ],
)
def test_success_is_a_2xx_with_code_success_that_does_not_disallow_the_event(
    connect: Connect, http: Mock, status: int, answer: dict[str, Any], code: str | None
) -> None:
    http.post(TRACK, status=status, json=answer)
    ok, told = connect().track_event(ADA, "x")
    assert (ok, told["code"]) == (code is None, code or "Success")
    if told["code"] != "InvalidResponse":
        assert told.get("msg") == answer.get("msg")

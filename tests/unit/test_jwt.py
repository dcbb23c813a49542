"""The token of each attempt with a JWT-enabled key."""

from __future__ import annotations

from typing import Any

import jwt
import pytest

from iterable_client import IterableClient, Stop, sign_jwt
from tests.fake_iterable import FakeIterable
from tests.project import KEY, SECRET
from tests.unit.clients import ADA, SUCCESS, UPDATE, Connect, Mock, VirtualTime, codes

SIGN_IN = {"jwt_secret": SECRET, "use_jwt": True}


def claims(token: str) -> dict[str, Any]:
    """What a token says, whoever signed it."""
    text = token.removeprefix("Bearer ")
    found: dict[str, Any] = jwt.decode(text, options={"verify_signature": False})
    return found


def test_a_token_is_the_one_that_iterable_publishes_as_a_sample() -> None:
    payload = {"email": "test@iterable.com", "iat": 1599693218, "exp": 1599693219}
    assert sign_jwt(payload, "2EB6A2F34691492F81A819AEDA32427F") == (
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"
        ".eyJlbWFpbCI6InRlc3RAaXRlcmFibGUuY29tIiwiaWF0IjoxNTk5NjkzMjE4LCJleHAiOjE1OTk2OTMyMTl9"
        ".eDbexB7CnK2jGsXvHfYENrCEkblrLKxgMNbmlfJHXUA"
    )


@pytest.mark.parametrize("user", [{"email": ADA}, {"userId": "7"}])
def test_a_token_is_for_one_user_and_one_hour(user: dict[str, str], time: VirtualTime) -> None:
    time.seconds = 1768293912.9
    client = IterableClient(KEY, SECRET, True, stop=time)
    token = client._generate_jwt_token(user.get("email"), user.get("userId"))
    found = claims(token)
    assert found == {"iss": "iterable-integration", "iat": 1768293912, "exp": 1768297512, **user}
    assert type(found["iat"]) is type(found["exp"]) is int


def test_each_attempt_of_a_jwt_call_carries_the_key_and_a_token_of_its_own(
    connect: Connect, http: Mock
) -> None:
    http.post(UPDATE, status=503, headers={"Retry-After": "10"})
    connect(**SIGN_IN).update_user(ADA, {})
    sent = [call.request.headers for call in http.calls]
    assert [headers["Api-Key"] for headers in sent] == [KEY] * 3
    issued = [claims(headers["Authorization"])["iat"] for headers in sent]
    assert issued == [1768293912, 1768293922, 1768293932]


def test_a_jwt_enabled_key_is_accepted_for_both_kinds_of_user(
    connect: Connect, jwt_server: FakeIterable
) -> None:
    client = connect(jwt_server, stop=Stop(), **SIGN_IN)  # whose clock is the server's
    results = [client.update_user(ADA, {}), client.track_event(None, "x", user_id="7")]
    assert codes(results) == ["Success"] * 2


def test_a_short_secret_is_logged_once_and_never_warned_of(
    connect: Connect, http: Mock, caplog: pytest.LogCaptureFixture
) -> None:
    http.post(UPDATE, json=SUCCESS)
    client = connect(jwt_secret="short", use_jwt=True)  # a warning would be an error here
    assert codes([client.update_user(ADA, {}), client.update_user(ADA, {})]) == ["Success"] * 2
    [record] = caplog.records
    assert "shorter than 32 bytes" in record.message
    connect(**SIGN_IN)
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("use_jwt", "user"),
    [
        (False, {"email": ADA}),
        (True, {}),
        (True, {"email": ADA, "userId": "7"}),
    ],
)
def test_a_token_needs_jwt_and_one_user(
    connect: Connect, http: Mock, use_jwt: bool, user: dict[str, str]
) -> None:
    client = connect(jwt_secret=SECRET, use_jwt=use_jwt)
    with pytest.raises(ValueError, match="a token needs"):
        client._generate_jwt_token(user.get("email"), user.get("userId"))
    if use_jwt:
        result = client._make_request_with_retry("POST", UPDATE, user, "x")
        assert codes([result]) == ["InvalidValue"]
    assert len(http.calls) == 0

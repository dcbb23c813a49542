"""How often, and with which tokens, the stand-in for Iterable may be asked."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.fake_iterable import FakeIterable, Request, verify_jwt
from tests.test_fake_iterable import ADA, BULK_UPDATE, SECRET, TRACK, TRACK_BULK, UPDATE, VIEW, ask, token, told

# --------------------------------------------------------------------------------------------------- limits


BODIES: dict[str, Any] = {UPDATE: ADA, BULK_UPDATE: {"users": []}, TRACK: VIEW, TRACK_BULK: {"events": []}}


@pytest.mark.parametrize(("path", "limit"), [(UPDATE, 500), (BULK_UPDATE, 5), (TRACK, 2000), (TRACK_BULK, 10)])
def test_each_operation_has_a_token_bucket_of_one_second(path: str, limit: int) -> None:
    now = [0.0]
    server = FakeIterable(clock=lambda: now[0])
    assert {ask(server, path, BODIES[path])[0] for _ in range(limit)} == {200}
    params = {"rateLimitLimit": limit, "rateLimitRemaining": 0, "rateLimitReset": 1}
    refused = ask(server, path, BODIES[path])
    assert refused == (429, {"code": "RateLimitExceeded", "msg": "Rate limit exceeded", "params": params})
    other = TRACK if path != TRACK else UPDATE
    assert ask(server, other, BODIES[other])[0] == 200, "each operation has its own"
    now[0] += 1.5 / limit
    assert [ask(server, path, BODIES[path])[0] for _ in range(2)] == [200, 429]
    now[0] += 100
    assert [ask(server, path, BODIES[path])[0] for _ in range(limit + 1)] == [200] * limit + [429]


def test_the_limits_can_be_multiplied_or_lifted() -> None:
    doubled = FakeIterable(rate_limit_factor=2, clock=lambda: 0.0)
    assert [ask(doubled, BULK_UPDATE, {"users": []})[0] for _ in range(11)] == [200] * 10 + [429]
    lowered = FakeIterable(rate_limit_factor=0.04, clock=lambda: 0.0)  # a request every 5 seconds
    assert ask(lowered, BULK_UPDATE, {"users": []})[0] == 200
    assert ask(lowered, BULK_UPDATE, {"users": []})[1]["params"]["rateLimitReset"] == 5
    lifted = FakeIterable(enforce_limits=False, clock=lambda: 0.0)
    assert {ask(lifted, BULK_UPDATE, {"users": []})[0] for _ in range(50)} == {200}


def test_bad_bodies_take_tokens_and_bad_keys_do_not() -> None:
    server = FakeIterable(clock=lambda: 0.0)
    assert {ask(server, BULK_UPDATE, {}, api_key="wrong")[0] for _ in range(20)} == {401}
    assert [ask(server, BULK_UPDATE, {})[0] for _ in range(6)] == [400] * 5 + [429]


def test_a_429_has_no_retry_after(session: requests.Session) -> None:
    with FakeIterable(api_key="key", clock=lambda: 0.0) as server:
        answers = [session.post(server.url + BULK_UPDATE, json={"users": []}, timeout=10) for _ in range(6)]
    assert told(answers[-1]) == (429, "RateLimitExceeded")
    assert "Retry-After" not in answers[-1].headers


def test_latency_delays_every_answer() -> None:
    request = Request("POST", UPDATE, {}, b"")
    assert FakeIterable(latency=0.05).handle(request).delay == 0.05


# ------------------------------------------------------------------------------------------------------ JWT


@pytest.fixture(scope="module")
def jwt_server() -> Iterator[FakeIterable]:
    with FakeIterable(api_key="key", jwt_secret=SECRET) as server:
        yield server


NOW = int(time.time())
HOUR, YEAR = 3600, 365 * 24 * 3600
HEADER, PAYLOAD = token().split(".")[:2]


@pytest.mark.parametrize(("authorization", "code"), [
    (None, "BadAuthorizationHeader"),
    ("", "BadAuthorizationHeader"),
    (token(), "BadAuthorizationHeader"),
    (f"Basic {token()}", "BadAuthorizationHeader"),
    ("Bearer ", "BadAuthorizationHeader"),
    (f"Bearer {HEADER}.{PAYLOAD}", "BadAuthorizationHeader"),
    ("Bearer not.base64!.x", "InvalidJwtPayload"),
    (f"Bearer {HEADER}.{PAYLOAD}.", "InvalidJwtPayload"),
    (f"Bearer {token(secret=SECRET[1:] + 'x')}", "InvalidJwtPayload"),
    (f"Bearer {token(algorithm='HS512')}", "InvalidJwtPayload"),
    (f"Bearer {token(secret='', algorithm='none')}", "InvalidJwtPayload"),
    (f"Bearer {token(iat=None)}", "InvalidJwtPayload"),
    (f"Bearer {token(exp=None)}", "InvalidJwtPayload"),
    (f"Bearer {token(exp=NOW + 3600.5)}", "InvalidJwtPayload"),
    (f"Bearer {token(iat=NOW - 0.5)}", "InvalidJwtPayload"),
    (f"Bearer {token(iat=True)}", "InvalidJwtPayload"),
    (f"Bearer {token(iat=NOW - HOUR, exp=NOW - 1)}", "InvalidJwtPayload"),
    (f"Bearer {token(iat=NOW + HOUR, exp=NOW + 2 * HOUR)}", "InvalidJwtPayload"),
    (f"Bearer {token(exp=NOW + YEAR + HOUR)}", "InvalidJwtPayload"),
    (f"Bearer {token(email=None)}", "InvalidJwtPayload"),
    (f"Bearer {token(userId='7')}", "InvalidJwtPayload"),
    (f"Bearer {token(email=5)}", "InvalidJwtPayload"),
    (f"Bearer {token(email='b@example.com')}", "JwtUserIdentifiersMismatched"),
    (f"Bearer {token(email=None, userId='ada@example.com')}", "JwtUserIdentifiersMismatched"),
    (f"Bearer {token()}", "Success"),
    (f"Bearer {token(iat=NOW + 30, iss='iterable-integration')}", "Success"),
])
def test_a_jwt_enabled_key_needs_a_valid_token_of_the_very_user(
    jwt_server: FakeIterable, session: requests.Session, authorization: str | None, code: str
) -> None:
    headers = {"Authorization": authorization}
    expected = (200 if code == "Success" else 401, code)
    for path, body in ((UPDATE, ADA), (TRACK, VIEW)):
        response = session.post(jwt_server.url + path, json=body, headers=headers, timeout=10)
        assert told(response) == expected


@pytest.mark.parametrize("path", [BULK_UPDATE, TRACK_BULK])
def test_a_jwt_enabled_key_cannot_call_bulk_operations(
    jwt_server: FakeIterable, session: requests.Session, path: str
) -> None:
    headers = {"Authorization": f"Bearer {token()}"}
    response = session.post(jwt_server.url + path, json=BODIES[path], headers=headers, timeout=10)
    assert told(response) == (401, "Unauthorized")


def test_iterables_published_sample_token_is_valid() -> None:
    sample = ("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJlbWFpbCI6InRlc3RAaXRlcmFibGUuY29tIiwiaWF0IjoxNTk5NjkzMjE4LCJle"
              "HAiOjE1OTk2OTMyMTl9.eDbexB7CnK2jGsXvHfYENrCEkblrLKxgMNbmlfJHXUA")
    claims = verify_jwt(f"Bearer {sample}", "2EB6A2F34691492F81A819AEDA32427F", now=1599693218)
    assert claims == {"email": "test@iterable.com", "iat": 1599693218, "exp": 1599693219}

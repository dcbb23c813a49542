"""Which tokens the stand-in for Iterable takes, and for what."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.fake_iterable import FakeIterable, verify_jwt
from tests.stand_in.asking import (
    ADA,
    BULK_UPDATE,
    GET_FIELDS,
    SECRET,
    TRACK,
    TRACK_BULK,
    UPDATE,
    VIEW,
    token,
    told,
)


@pytest.fixture(scope="module")
def jwt_server() -> Iterator[FakeIterable]:
    with FakeIterable(api_key="key", jwt_secret=SECRET) as server:
        yield server


NOW = int(time.time())
HOUR, YEAR = 3600, 365 * 24 * 3600
HEADER, PAYLOAD = token().split(".")[:2]


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
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
    ],
)
def test_a_jwt_enabled_key_needs_a_valid_token_of_the_very_user(
    jwt_server: FakeIterable, session: requests.Session, authorization: str | None, code: str
) -> None:
    headers = {"Authorization": authorization}
    expected = (200 if code == "Success" else 401, code)
    for path, body in ((UPDATE, ADA), (TRACK, VIEW)):
        response = session.post(jwt_server.url + path, json=body, headers=headers, timeout=10)
        assert told(response) == expected


@pytest.mark.parametrize(
    ("path", "body"), [(BULK_UPDATE, {"users": []}), (TRACK_BULK, {"events": []})]
)
def test_a_jwt_enabled_key_cannot_call_bulk_operations(
    jwt_server: FakeIterable, session: requests.Session, path: str, body: Any
) -> None:
    headers = {"Authorization": f"Bearer {token()}"}
    response = session.post(jwt_server.url + path, json=body, headers=headers, timeout=10)
    assert told(response) == (401, "Unauthorized")


def test_a_jwt_enabled_key_cannot_ask_for_fields(
    jwt_server: FakeIterable, session: requests.Session
) -> None:
    headers = {"Authorization": f"Bearer {token()}"}
    response = session.get(jwt_server.url + GET_FIELDS, headers=headers, timeout=10)
    assert told(response) == (401, "Unauthorized")


def test_iterables_published_sample_token_is_valid() -> None:
    sample = (
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"
        ".eyJlbWFpbCI6InRlc3RAaXRlcmFibGUuY29tIiwiaWF0IjoxNTk5NjkzMjE4LCJleHAiOjE1OTk2OTMyMTl9"
        ".eDbexB7CnK2jGsXvHfYENrCEkblrLKxgMNbmlfJHXUA"
    )
    claims = verify_jwt(f"Bearer {sample}", "2EB6A2F34691492F81A819AEDA32427F", now=1599693218)
    assert claims == {"email": "test@iterable.com", "iat": 1599693218, "exp": 1599693219}

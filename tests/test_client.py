"""What IterableClient sends, repeats and waits for, and what it makes of Iterable's answers.

Waits take no time here: VirtualTime stands for the client's stop event and clock.
"""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jwt
import pytest
import requests
import responses
from requests import exceptions

from iterable_client import (
    NOT_SENT,
    USERS_BULK_UPDATE,
    IterableClient,
    Pacer,
    Result,
    demanded_wait,
    retry_delay,
    should_retry,
    sign_jwt,
    user_update,
)
from tests.conftest import HOST, KEY, Connect, Mock, VirtualTime
from tests.fake_iterable import OPERATIONS, FakeIterable

SECRET = "2EB6A2F34691492F81A819AEDA32427F"
UPDATE, TRACK = f"{HOST}/api/users/update", f"{HOST}/api/events/track"
ADA = "ada@example.com"
SUCCESS = {"code": "Success", "msg": "", "params": None}
REFUSAL = {"code": "GenericError", "msg": "no", "params": None}
ONCE, ALL = 1, 3  # attempts


def codes(results: list[Result]) -> list[str]:
    return [answer["code"] for _, answer in results]


# --- The contract


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
    kinds = inspect.signature(method).parameters
    assert [
        name for name, kind in kinds.items() if kind.kind is kind.POSITIONAL_OR_KEYWORD
    ] == positional


def test_the_retry_settings_are_attributes_and_keyword_arguments() -> None:
    given = IterableClient(KEY, max_retries=5, backoff_factor=1.5, initial_backoff=0.2)
    found = [
        (c.max_retries, c.backoff_factor, c.initial_backoff) for c in (IterableClient(KEY), given)
    ]
    assert found == [(3, 2, 1), (5, 1.5, 0.2)]


def test_a_call_is_one_post_of_json_with_the_key(connect: Connect, server: FakeIterable) -> None:
    results = [
        connect(server).update_user(" Ada@Example.com", {"plan_type": "pró"}),
        connect(server).track_event(
            None, "signup", user_id=7, created_at=1768293912, event_id="e1"
        ),
        connect(server)._make_request_with_retry(
            "POST", f"{server.url}/api/users/update", {"email": ADA}, "any"
        ),
    ]
    assert codes(results) == ["Success"] * 3
    assert [(seen.path, seen.body) for seen in server.requests] == [
        ("/api/users/update", {"email": ADA, "dataFields": {"plan_type": "pró"}}),
        (
            "/api/events/track",
            {
                "userId": "7",
                "eventName": "signup",
                "dataFields": {},
                "id": "e1",
                "createdAt": 1768293912,
            },
        ),
        ("/api/users/update", {"email": ADA}),
    ]
    sent = server.requests[0].headers
    assert (sent["api-key"], sent["content-type"], "authorization" in sent) == (
        KEY,
        "application/json",
        False,
    )


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
    assert (
        codes([update, connect().track_event(email, "signup", fields, user_id=user_id)])
        == [code] * 2
    )
    assert len(http.calls) == 0


# --- Whether, and when, to try again

ERRORS: list[tuple[Exception, str, int]] = [
    (exceptions.ConnectTimeout("slow"), "Timeout", ALL),
    (exceptions.ReadTimeout("slow"), "Timeout", ALL),
    (exceptions.ConnectionError("HTTPSConnectionPool: Read timed out."), "Timeout", ALL),
    (exceptions.ConnectionError("refused"), "ConnectionError", ALL),
    (exceptions.ProxyError("no proxy"), "ConnectionError", ALL),
    (exceptions.ChunkedEncodingError("broken"), "ConnectionError", ALL),
    (exceptions.ContentDecodingError("no gzip"), "ConnectionError", ALL),
    (ConnectionResetError(104, "reset"), "ConnectionError", ALL),
    (exceptions.SSLError("self-signed certificate"), "ConnectionError", ONCE),
    (exceptions.InvalidURL("no host"), "ConnectionError", ONCE),
]
NOT_ITERABLES: list[Any] = [
    "<html>login</html>",
    "",
    "[]",
    "null",
    '"Success"',
    "{}",
    '{"code": 7}',
    b"\xff",
    "[" * 100_000,
    '{"successCount": 1, "failCount": 0}',
]


@pytest.mark.parametrize(
    ("answer", "code", "attempts"),
    [
        *(
            ({"status": status, "json": REFUSAL}, "GenericError", attempts)
            for attempts, statuses in (
                (ONCE, (302, 400, 401, 403, 404, 405, 409, 410, 413, 422, 501, 505)),
                (ALL, (408, 429, 500, 502, 503, 504)),
            )
            for status in statuses
        ),
        *(({"body": error}, code, attempts) for error, code, attempts in ERRORS),
        *(
            ({"status": status, "body": body}, "InvalidResponse", ALL)
            for body in NOT_ITERABLES
            for status in (200, 503)
        ),
        ({"status": 400, "body": "<html>"}, "InvalidResponse", ONCE),
    ],
)
def test_what_comes_back_decides_whether_a_call_is_repeated_and_is_never_raised(
    connect: Connect,
    http: Mock,
    time: VirtualTime,
    answer: dict[str, Any],
    code: str,
    attempts: int,
) -> None:
    http.post(UPDATE, **answer)
    result = connect().update_user(ADA, {})
    assert (result == (False, REFUSAL)) if "json" in answer else codes([result]) == [code]
    assert (len(http.calls), len(time.waits)) == (
        attempts,
        attempts - 1,
    )  # nobody waits after the last


@pytest.mark.parametrize(
    "params", ["NaN", "[-Infinity]", *("[" * deep + "]" * deep for deep in range(100, 1500, 200))]
)
def test_an_answer_that_could_not_be_written_down_does_not_come_out(
    connect: Connect, http: Mock, params: str
) -> None:
    http.add("POST", UPDATE, body=f'{{"code": "Success", "msg": "", "params": {params}}}')
    _, answer = connect().update_user(ADA, {})
    assert answer["code"] in ("Success", "InvalidResponse")
    assert json.dumps(answer, allow_nan=False)


@pytest.mark.parametrize(
    ("status", "valid", "error", "again"),
    [
        (200, True, None, False),
        (200, False, None, True),
        (302, False, None, False),
        (400, False, None, False),
        (429, True, None, True),
        (0, True, exceptions.ConnectTimeout(), True),
        (0, True, exceptions.SSLError(), False),
    ],
)
def test_whether_another_attempt_may_help(
    status: int, valid: bool, error: Exception | None, again: bool
) -> None:
    assert should_retry(status, valid, error) is again


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "truncated"},
        {"kind": "empty"},
        {"kind": "html"},
        {"kind": "drop_before"},
        {"kind": "drop_before", "reset": False},
        {"kind": "drop_after"},
    ],
)
def test_a_broken_answer_is_made_good_by_the_next_attempt_and_the_event_exists_once(
    connect: Connect, server: FakeIterable, fault: dict[str, Any]
) -> None:
    server.add_fault(**fault, times=1)
    assert connect(server).track_event(ADA, "signup")[0]
    assert (len(server.requests), len(server.events)) == (2, 1)
    assert server.requests[0].body == server.requests[1].body


def test_an_answer_that_does_not_come_is_a_timeout(connect: Connect, server: FakeIterable) -> None:
    server.add_fault("hang")
    assert codes([connect(server, timeout=0.05, max_retries=1).update_user(ADA, {})]) == ["Timeout"]


@pytest.mark.parametrize(
    ("attempt", "initial", "factor", "demanded", "least", "most"),
    [
        (1, 1, 2, 0, 0.9, 1.1),
        (2, 1, 2, 0, 1.8, 2.2),
        (3, 1, 2, 0, 3.6, 4.4),
        (3, 0.5, 3, 0, 4.05, 4.95),
        (1, 1, 2, 1, 1, 1.1),
        (1, 1, 2, 60, 60, 60),
        (1, 0, 2, 0, 0, 0),
    ],
)
def test_a_delay_grows_by_the_factor_within_ten_percent_and_is_never_less_than_demanded(
    attempt: int, initial: float, factor: float, demanded: float, least: float, most: float
) -> None:
    bounds = [retry_delay(attempt, initial, factor, demanded, noise) for noise in (0, 1)]
    assert bounds == pytest.approx([least, most])


NOW = 1445412480  # Wed, 21 Oct 2015 07:28:00 GMT
RESET = {"params": {"rateLimitReset": 7}}
NO_RESETS: list[Any] = [
    None,
    [],
    "x",
    7,
    *({"params": odd} for odd in (None, [1], {}, {"rateLimitReset": "x"})),
]


@pytest.mark.parametrize(
    ("status", "retry_after", "body", "seconds"),
    [
        (503, None, {}, 0),
        (503, "5", {}, 5),
        (503, " 5 ", {}, 5),
        (429, "0", RESET, 0),
        (503, "Wed, 21 Oct 2015 07:28:30 GMT", {}, 30),
        (503, "Wed, 21 Oct 2015 07:27:30 GMT", {}, 0),
        (503, "soon", {}, 0),
        (503, "-5", {}, 0),
        (503, "²", {}, 0),
        (503, "Wed, 99 Oct 2015 07:28:30 GMT", {}, 0),
        (429, None, RESET, 7),
        (429, None, {"params": {"rateLimitReset": 1.5}}, 1.5),
        (503, None, RESET, 0),
        (200, None, RESET, 0),
        (429, "3", RESET, 3),
        (429, None, {"params": {"rateLimitReset": -1}}, 0),
        *((429, None, body, 0) for body in NO_RESETS),
    ],
)
def test_the_wait_that_an_answer_demands(
    status: int, retry_after: str | None, body: Any, seconds: float
) -> None:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    assert demanded_wait(status, headers, body, NOW) == seconds


@pytest.mark.parametrize(
    ("answer", "waits"),
    [
        ({"status": 503}, [(0.9, 1.1), (1.8, 2.2)]),
        ({"status": 503, "headers": {"Retry-After": "1"}}, [(1, 1.1), (1.8, 2.2)]),
        ({"status": 503, "headers": {"Retry-After": "60"}}, [(60, 60), (60, 60)]),
        ({"status": 503, "headers": {"Retry-After": "61"}}, []),
        ({"status": 429, "json": {"code": "RateLimitExceeded", **RESET}}, [(7, 7), (7, 7)]),
        (
            {
                "status": 429,
                "json": {"code": "RateLimitExceeded", "params": {"rateLimitReset": 61}},
            },
            [],
        ),
    ],
)
def test_three_attempts_are_apart_by_the_backoff_or_as_long_as_the_answer_demands_up_to_a_minute(
    connect: Connect,
    http: Mock,
    time: VirtualTime,
    answer: dict[str, Any],
    waits: list[tuple[float, float]],
) -> None:
    http.post(UPDATE, **answer)
    connect().update_user(ADA, {})
    assert len(http.calls) == len(waits) + 1
    assert all(low <= wait <= high for wait, (low, high) in zip(time.waits, waits, strict=True)), (
        time.waits
    )


@pytest.mark.parametrize(
    ("status", "retry_after", "held"),
    [
        (429, "5", 5),
        (429, "60", 60),
        (429, "61", 0),
        (503, "5", 0),
        (409, "5", 0),
    ],
)
def test_a_429_holds_back_the_other_callers_of_its_operation_only(
    connect: Connect, http: Mock, time: VirtualTime, status: int, retry_after: str, held: float
) -> None:
    http.post(UPDATE, status=status, headers={"Retry-After": retry_after})
    http.post(UPDATE, json=SUCCESS)
    http.post(TRACK, json=SUCCESS)
    client = connect(max_retries=1)
    client.update_user(ADA, {})
    assert client.track_event(ADA, "signup")[0]
    assert time.waits == []
    assert client.update_user("bob@example.com", {})[0]
    assert sum(time.waits) == pytest.approx(held, abs=0.01)


def test_what_was_sent_retried_and_limited_is_counted(connect: Connect, http: Mock) -> None:
    for status in (429, 503, 200, 400):
        http.post(UPDATE, status=status, json=SUCCESS)
    client = connect()
    assert [client.update_user(ADA, {})[0], client.update_user(ADA, {})[0]] == [True, False]
    assert client.counts == {"sent": 4, "retried": 2, "rate_limited": 1}


# --- Whom it talks to, and with what


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed_and_its_target_never_sees_the_key(
    connect: Connect, server: FakeIterable, status: int
) -> None:
    with FakeIterable() as target:
        server.add_fault("redirect", status=status, location=f"{target.url}/api/users/update")
        ok, answer = connect(server).update_user(ADA, {})
        assert (ok, answer["code"], len(server.requests), target.requests) == (
            False,
            "InvalidResponse",
            1,
            [],
        )
    assert "redirects are not followed" in answer["msg"]


def test_a_cookie_is_not_sent_back(connect: Connect, http: Mock) -> None:
    http.post(UPDATE, status=503, headers={"Set-Cookie": "a=b"})
    connect().update_user(ADA, {})
    assert ["Cookie" in call.request.headers for call in http.calls] == [False] * 3


def test_netrc_is_ignored(
    connect: Connect, server: FakeIterable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    connect(server).update_user(ADA, {})
    assert "authorization" not in server.requests[0].headers


def test_a_proxy_from_the_environment_is_used_but_never_for_loopback(
    connect: Connect, server: FakeIterable, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeIterable() as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert connect(server).update_user(ADA, {})[0]
        server.add_fault("status", status=503, times=1)
        assert connect(server).update_user(ADA, {})[0]  # nor for its retry
        assert proxy.requests == []
        assert codes([connect().update_user(ADA, {})]) == [
            "ConnectionError"
        ]  # this proxy does not know CONNECT
        assert [seen.path for seen in proxy.requests] == ["api.iterable.com:443"] * 3
        assert KEY not in str(proxy.requests)


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_ca_bundle_that_does_not_exist_is_an_error_at_once(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "/nowhere/ca.pem")
    with pytest.raises(ValueError, match=r"/nowhere/ca\.pem"):
        IterableClient(KEY)


# --- Success


@pytest.mark.parametrize(
    ("status", "answer", "code"),
    [
        (200, SUCCESS, None),
        (202, SUCCESS, None),
        (200, {"code": "Success"}, None),
        (200, {"code": "success"}, "success"),
        (200, {"code": "BadParams", "msg": ""}, "BadParams"),
        (400, SUCCESS, "Success"),
        (
            200,
            {"code": "Success", "msg": "Event with name x is disallowed from tracking."},
            "DisallowedEventName",
        ),
        (400, {"code": "BadParams", "msg": "is disallowed from tracking"}, "BadParams"),
    ],
)
def test_success_is_a_2xx_with_code_success_that_does_not_disallow_the_event(
    connect: Connect, http: Mock, status: int, answer: dict[str, Any], code: str | None
) -> None:
    http.post(TRACK, status=status, json=answer)
    ok, told = connect().track_event(ADA, "x")
    assert (ok, told["code"]) == (code is None, code or "Success")
    assert told.get("msg") == answer.get("msg")


# --- JWT


def claims(token: str) -> dict[str, Any]:
    found: dict[str, Any] = jwt.decode(
        token.removeprefix("Bearer "), options={"verify_signature": False}
    )
    return found


def test_a_token_is_the_one_that_iterable_publishes_as_a_sample() -> None:
    payload = {"email": "test@iterable.com", "iat": 1599693218, "exp": 1599693219}
    assert sign_jwt(payload, SECRET) == (
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJlbWFpbCI6InRlc3RAaXRlcmFibGUuY29tIiwiaWF0IjoxNTk5NjkzMjE4LCJleHAiOjE1"
        "OTk2OTMyMTl9.eDbexB7CnK2jGsXvHfYENrCEkblrLKxgMNbmlfJHXUA"
    )


@pytest.mark.parametrize("user", [{"email": ADA}, {"userId": "7"}])
def test_a_token_is_for_one_user_and_one_hour(
    user: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iterable_client.time.time", lambda: 1768293912.9)
    token = IterableClient(KEY, SECRET, True)._generate_jwt_token(
        user.get("email"), user.get("userId")
    )
    expected = {"iss": "iterable-integration", "iat": 1768293912, "exp": 1768297512, **user}
    assert claims(token) == expected
    assert [type(value) for value in claims(token).values()] == [
        type(value) for value in expected.values()
    ]


def test_each_attempt_of_a_jwt_call_carries_the_key_and_a_token_of_its_own(
    connect: Connect, http: Mock, time: VirtualTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iterable_client.time.time", time.clock)
    http.post(UPDATE, status=503, headers={"Retry-After": "10"})
    connect(jwt_secret=SECRET, use_jwt=True).update_user(ADA, {})
    sent = [call.request.headers for call in http.calls]
    assert [headers["Api-Key"] for headers in sent] == [KEY] * 3
    assert [claims(headers["Authorization"])["iat"] for headers in sent] == [
        1768293912,
        1768293922,
        1768293932,
    ]


def test_a_jwt_enabled_key_is_accepted_for_both_kinds_of_user(connect: Connect) -> None:
    with FakeIterable(jwt_secret=SECRET) as server:
        client = connect(server, jwt_secret=SECRET, use_jwt=True)
        assert (
            codes([client.update_user(ADA, {}), client.track_event(None, "x", user_id="7")])
            == ["Success"] * 2
        )


def test_a_short_secret_is_logged_once_and_never_warned_of(
    connect: Connect, http: Mock, caplog: pytest.LogCaptureFixture
) -> None:
    http.post(UPDATE, json=SUCCESS)
    client = connect(jwt_secret="short", use_jwt=True)  # a warning would be an error here
    assert codes([client.update_user(ADA, {}), client.update_user(ADA, {})]) == ["Success"] * 2
    assert ["shorter than 32 bytes" in record.message for record in caplog.records] == [True]
    connect(jwt_secret=SECRET, use_jwt=True)
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
        assert codes([client._make_request_with_retry("POST", UPDATE, user, "x")]) == [
            "InvalidValue"
        ]
    assert len(http.calls) == 0


# --- Secrets


def test_an_answer_that_echoes_the_request_tells_no_secret(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with FakeIterable(jwt_secret=SECRET) as server:
        server.add_fault("echo_headers")
        ok, answer = connect(server, jwt_secret=SECRET, use_jwt=True).update_user(ADA, {})
        token = server.requests[0].headers["authorization"].removeprefix("Bearer ")
    assert (ok, "api-key: [redacted]" in answer["msg"]) == (False, True)
    assert [secret for secret in (KEY, SECRET, token) if secret in str(answer) + caplog.text] == []


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(
            {
                "code": "BadParams",
                "params": {"list": [{"key": KEY}], KEY: {SECRET.lower(): [[SECRET]]}},
            }
        ),
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
    assert [secret for secret in (KEY[:5], SECRET, SECRET.lower()) if secret in answer] == []
    assert "[redacted]" in answer or "xxx" in answer


@pytest.mark.parametrize("secret", ["back\\slash", "it's", 'say "so"', "a+b(c"])
def test_a_secret_of_any_characters_is_redacted(connect: Connect, http: Mock, secret: str) -> None:
    http.post(UPDATE, status=502, body=f"echo {secret}")
    message = connect(jwt_secret=secret, use_jwt=True).update_user(ADA, {})[1]["msg"]
    assert "echo [redacted]" in message


# --- Stopping


def test_after_a_stop_no_call_starts(connect: Connect, server: FakeIterable) -> None:
    client = connect(server)
    client.stop()
    payload = user_update("email", ADA, {})
    results = [client.update_user(ADA, {}), *client.send(USERS_BULK_UPDATE, [payload, payload])]
    assert [answer is NOT_SENT for _, answer in results] == [True] * 3
    assert (client.stopped, server.requests) == (True, [])


def test_a_stop_ends_a_backoff(connect: Connect, http: Mock, time: VirtualTime) -> None:
    client = connect(initial_backoff=50)

    def answer_and_stop(request: requests.PreparedRequest) -> tuple[int, dict[str, str], str]:
        client.stop()
        return 503, {}, ""

    http.add_callback(responses.POST, UPDATE, answer_and_stop)
    ok, answer = client.update_user(ADA, {})
    assert (ok, answer["code"], answer is NOT_SENT, len(http.calls)) == (
        False,
        "Interrupted",
        False,
        1,
    )
    assert time.waits == [
        pytest.approx(50, rel=0.11)
    ]  # a wait for the event itself, which the stop has set


REFUSED = ("BadApiKey", "Unauthorized", "BadAuthorizationHeader", "Forbidden", "InvalidJwtPayload")


@pytest.mark.parametrize(
    ("status", "code", "refused"),
    [
        *((401, code, True) for code in REFUSED),
        *((400, code, True) for code in REFUSED),
        (403, "Forbidden", True),
        (401, "JwtUserIdentifiersMismatched", False),
        (400, "BadParams", False),
        (409, "ForgottenUserError", False),
        (503, "Forbidden", False),
    ],
)
@pytest.mark.parametrize("give_up_after", [None, 10])
def test_refused_credentials_stop_a_client_that_may_give_up(
    connect: Connect, http: Mock, status: int, code: str, refused: bool, give_up_after: int | None
) -> None:
    answer = {"code": code, "msg": "no"}
    http.post(UPDATE, status=status, json=answer)
    http.post(TRACK, json=SUCCESS)
    client = connect(give_up_after=give_up_after)
    assert client.update_user(ADA, {}) == (False, answer)
    assert client.refusal == (answer if refused else None)
    assert client.track_event(ADA, "x")[0] is not (refused and give_up_after is not None)
    assert (client.stopped, client.gave_up) == (refused and give_up_after is not None, False)


def test_an_invalid_token_after_a_success_is_one_users_failure(
    connect: Connect, http: Mock
) -> None:
    http.post(TRACK, json=SUCCESS)
    http.post(UPDATE, status=401, json={"code": "InvalidJwtPayload", "msg": "no"})
    client = connect(give_up_after=10)
    assert codes([client.track_event(ADA, "x"), client.update_user(ADA, {})]) == [
        "Success",
        "InvalidJwtPayload",
    ]
    assert (client.refusal, client.stopped) == (None, False)


@pytest.mark.parametrize(
    "useless",
    [
        {"status": 503},
        {"status": 503, "json": REFUSAL},
        {"status": 404},
        {"body": "x"},
        {"body": exceptions.SSLError()},
    ],
)
def test_a_client_gives_up_after_calls_in_a_row_that_were_not_answered_usefully(
    connect: Connect, http: Mock, useless: dict[str, Any]
) -> None:
    http.post(UPDATE, **useless)
    http.post(TRACK, status=400, json={"code": "BadParams", "msg": "no"})
    client = connect(give_up_after=3, max_retries=2)
    seen = []
    for endpoint in (UPDATE, UPDATE, TRACK, UPDATE, UPDATE, UPDATE):
        client._make_request_with_retry("POST", endpoint, {"email": ADA}, "x")
        seen.append((client.unanswered, client.ever_answered, client.gave_up))
    assert seen[:3] == [(1, False, False), (2, False, False), (0, True, False)]
    assert seen[3:] == [(1, True, False), (2, True, False), (3, True, True)]
    assert client.update_user(ADA, {})[1] is NOT_SENT


# --- Pacing


@pytest.mark.parametrize(
    ("events", "let_through"),
    [
        ("call call call call", [0, 0.08, 0.18, 0.28]),  # the first comes as if it were 20 ms late
        ("call pause call call call", [0, 60, 60.08, 60.18]),  # a pause is not caught up
        ("call hold call call", [0, 5, 5.1]),
        ("hold pause call call", [60, 60.08]),
    ],
)
def test_a_pacer_lets_callers_through_evenly(
    time: VirtualTime, events: str, let_through: list[float]
) -> None:
    pacer, start, found = Pacer(10, time, time.clock), time.now, []
    for what in events.split():
        if what == "call":
            assert pacer.wait()
            found.append(time.now - start)
        elif what == "pause":
            time.now += 60 - (time.now - start)
        else:
            pacer.hold(5)
            pacer.hold(1)  # the longer one counts
    assert found == pytest.approx(let_through)


def test_a_hold_lengthens_a_wait_that_has_begun(
    time: VirtualTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    pacer, wait = Pacer(1, time, time.clock), time.wait

    def wait_while_another_is_refused(seconds: float) -> bool:
        if not time.waits:
            pacer.hold(5)
        return wait(seconds)

    assert pacer.wait()
    monkeypatch.setattr(time, "wait", wait_while_another_is_refused)
    assert pacer.wait()
    assert sum(time.waits) == pytest.approx(5)


def test_a_stop_ends_the_wait_for_a_turn(time: VirtualTime) -> None:
    pacer = Pacer(10, time, time.clock)
    time.set()
    assert not pacer.wait()
    pacer.hold(5)
    assert not pacer.wait()


@pytest.mark.parametrize(("settings", "share"), [({}, 0.95), ({"rate_limit_factor": 2}, 2)])
def test_each_operation_is_paced_below_its_limit(
    connect: Connect, settings: dict[str, Any], share: float
) -> None:
    paces = {
        url.removeprefix(HOST): 1 / pacer._interval
        for url, pacer in connect(**settings)._pacers.items()
    }
    assert paces == pytest.approx(
        {path: operation.limit * share for path, operation in OPERATIONS.items()}
    )


def test_many_threads_are_never_refused_by_the_limiter_and_keep_their_connections(
    connect: Connect, time: VirtualTime, caplog: pytest.LogCaptureFixture
) -> None:
    with FakeIterable(
        rate_limit_factor=0.1, clock=time.clock, latency=0.01
    ) as server:  # a bucket of 200
        client = connect(server, rate_limit_factor=0.095, workers=32)
        with ThreadPoolExecutor(32) as pool:
            results = list(pool.map(lambda n: client.track_event(ADA, "x", {"n": n}), range(500)))
        assert server.counts == {("/api/events/track", 200): 500}
    assert codes(results) == ["Success"] * 500
    assert [
        record.getMessage() for record in caplog.records
    ] == []  # urllib3 logs each connection that it throws away

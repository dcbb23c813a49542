"""Which answers are worth another attempt, when it comes, and what is counted."""

from __future__ import annotations

import json
from typing import Any

import pytest
from requests import exceptions

from iterable_client import demanded_wait, retry_delay, should_retry
from tests.fake_iterable import FakeIterable
from tests.unit.clients import (
    ADA,
    ALL,
    ONCE,
    REFUSAL,
    SUCCESS,
    UPDATE,
    Connect,
    Mock,
    VirtualTime,
    codes,
)

FINAL = (302, 400, 401, 403, 404, 405, 409, 410, 413, 422, 501, 505)
PASSING = (408, 429, 500, 502, 503, 504)
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
        *(({"status": status, "json": REFUSAL}, "GenericError", ONCE) for status in FINAL),
        *(({"status": status, "json": REFUSAL}, "GenericError", ALL) for status in PASSING),
        *(({"body": error}, code, attempts) for error, code, attempts in ERRORS),
        *(({"status": 200, "body": body}, "InvalidResponse", ALL) for body in NOT_ITERABLES),
        *(({"status": 503, "body": body}, "InvalidResponse", ALL) for body in NOT_ITERABLES),
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
    assert codes([result]) == [code]
    if "json" in answer:
        assert result == (False, REFUSAL)
    assert len(http.calls) == attempts
    assert len(time.waits) == attempts - 1, "nobody waits after the last"


DEEP = ["[" * depth + "]" * depth for depth in range(100, 1500, 200)]


@pytest.mark.parametrize("params", ["NaN", "[-Infinity]", *DEEP])
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
        (None, True, exceptions.ConnectTimeout(), True),
        (None, True, None, False),
        (None, True, exceptions.SSLError(), False),
    ],
)
def test_whether_another_attempt_may_help(
    status: int | None, valid: bool, error: Exception | None, again: bool
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
    client = connect(server, timeout=0.05, max_retries=1)
    assert codes([client.update_user(ADA, {})]) == ["Timeout"]


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
LONG_RESET = {"params": {"rateLimitReset": 61}}


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
    status: int, retry_after: str | None, body: Any, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time", lambda: NOW)
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    assert demanded_wait(status, headers, body) == seconds


@pytest.mark.parametrize(
    ("answer", "waits"),
    [
        ({"status": 503}, [(0.9, 1.1), (1.8, 2.2)]),
        ({"status": 503, "headers": {"Retry-After": "1"}}, [(1, 1.1), (1.8, 2.2)]),
        ({"status": 503, "headers": {"Retry-After": "60"}}, [(60, 60), (60, 60)]),
        ({"status": 503, "headers": {"Retry-After": "61"}}, []),
        ({"status": 429, "json": {"code": "RateLimitExceeded", **RESET}}, [(7, 7), (7, 7)]),
        ({"status": 429, "json": {"code": "RateLimitExceeded", **LONG_RESET}}, []),
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
    for wait, (low, high) in zip(time.waits, waits, strict=True):
        assert low <= wait <= high


def test_what_was_sent_retried_and_limited_is_counted(connect: Connect, http: Mock) -> None:
    for status in (429, 503, 200, 400):
        http.post(UPDATE, status=status, json=SUCCESS)
    client = connect()
    assert client.update_user(ADA, {})[0]
    assert not client.update_user(ADA, {})[0]
    assert client.counts == {"sent": 4, "retried": 2, "rate_limited": 1}

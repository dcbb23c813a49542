"""How often the stand-in for Iterable may be asked, by a clock that the tests set."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from tests.fake_iterable import OPERATIONS, FakeIterable, Request
from tests.stand_in.asking import (
    ADA,
    BULK_UPDATE,
    GET_FIELDS,
    TRACK,
    TRACK_BULK,
    UPDATE,
    VIEW,
    Clock,
    ask,
    told,
)

BODIES: dict[str, Any] = {
    UPDATE: ADA,
    BULK_UPDATE: {"users": []},
    TRACK: VIEW,
    TRACK_BULK: {"events": []},
    GET_FIELDS: None,
}


def statuses(server: FakeIterable, path: str, count: int, **more: Any) -> list[int]:
    """The statuses of `count` requests in a row; `more` is for ask()."""
    asked = {"body": BODIES[path], **more}
    return [ask(server, path, **asked)[0] for _ in range(count)]


@pytest.mark.parametrize(
    ("path", "limit"),
    [(UPDATE, 500), (BULK_UPDATE, 5), (TRACK, 2000), (TRACK_BULK, 10), (GET_FIELDS, 3)],
)
def test_each_operation_has_a_token_bucket_of_one_second(path: str, limit: int) -> None:
    clock = Clock()
    server = FakeIterable(clock=clock)
    assert statuses(server, path, limit) == [200] * limit
    status, answer = ask(server, path, BODIES[path])
    params = {"rateLimitLimit": limit, "rateLimitRemaining": 0, "rateLimitReset": 1}
    assert status == 429
    assert answer == {"code": "RateLimitExceeded", "msg": "Rate limit exceeded", "params": params}
    other = TRACK if path != TRACK else UPDATE
    assert statuses(server, other, 1) == [200], "each operation has its own"
    clock.now += 1.5 / limit
    assert statuses(server, path, 2) == [200, 429]
    clock.now += 100
    assert statuses(server, path, limit + 1) == [200] * limit + [429]


def test_the_limits_can_be_multiplied_or_lifted() -> None:
    doubled = FakeIterable(rate_limit_factor=2, clock=Clock())
    assert statuses(doubled, BULK_UPDATE, 11) == [200] * 10 + [429]
    lowered = FakeIterable(rate_limit_factor=0.04, clock=Clock())  # a request every 5 seconds
    assert statuses(lowered, BULK_UPDATE, 1) == [200]
    _, answer = ask(lowered, BULK_UPDATE, {"users": []})
    assert answer["params"]["rateLimitReset"] == 5
    lifted = FakeIterable(enforce_limits=False, clock=Clock())
    assert statuses(lifted, BULK_UPDATE, 50) == [200] * 50


def test_bad_bodies_take_tokens_and_bad_keys_do_not() -> None:
    server = FakeIterable(clock=Clock())
    assert statuses(server, BULK_UPDATE, 20, api_key="wrong") == [401] * 20
    assert statuses(server, BULK_UPDATE, 6, body={}) == [400] * 5 + [429]


def test_a_429_has_no_retry_after(session: requests.Session) -> None:
    with FakeIterable(api_key="key", clock=Clock()) as server:
        url = server.url + BULK_UPDATE
        answers = [session.post(url, json={"users": []}, timeout=10) for _ in range(6)]
    assert told(answers[-1]) == (429, "RateLimitExceeded")
    assert "Retry-After" not in answers[-1].headers


def accepted(server: FakeIterable, clock: Clock, path: str, seconds: float, pace: float) -> int:
    """How many of `pace` requests a second are not answered 429."""
    count = 0
    for _ in range(round(seconds * pace)):
        clock.now += 1 / pace
        count += statuses(server, path, 1) == [200]
    return count


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("share", [0.5, 0.8, 0.95, 1])
def test_others_leave_the_rest_of_each_limit(path: str, share: float) -> None:
    clock = Clock()
    factor = 10 / OPERATIONS[path].limit  # 10 requests a second, whatever the operation
    server = FakeIterable(others=share, rate_limit_factor=factor, clock=clock)
    assert statuses(server, path, 11) == [200] * 10 + [429], "others leave a bucket full"
    count = accepted(server, clock, path, seconds=20, pace=10)
    assert count == pytest.approx(200 * (1 - share), abs=1)
    clock.now += 30
    refilled = 10 if share < 1 else 0
    assert statuses(server, path, 11) == [200] * refilled + [429] * (11 - refilled)


def test_more_than_the_limit_of_others_empties_the_bucket_and_is_answered_like_any_429() -> None:
    clock = Clock()
    server = FakeIterable(others=1.5, clock=clock)
    clock.now += 1
    assert statuses(server, BULK_UPDATE, 3) == [200, 200, 429]
    clock.now += 1
    status, answer = ask(server, BULK_UPDATE, {"users": []})
    params = {"rateLimitLimit": 5, "rateLimitRemaining": 0, "rateLimitReset": 1}
    assert status == 429
    assert answer == {"code": "RateLimitExceeded", "msg": "Rate limit exceeded", "params": params}


@pytest.mark.parametrize("start", [0.0, 1_768_293_912.0])
def test_in_waves_others_send_in_the_second_half_of_each_period(start: float) -> None:
    clock = Clock()
    clock.now = start
    server = FakeIterable(others=1, wave=4, clock=clock)
    assert statuses(server, BULK_UPDATE, 6) == [200] * 5 + [429]
    halves = [accepted(server, clock, BULK_UPDATE, seconds=2, pace=8) for _ in range(6)]
    assert halves == [10, 0, 10, 0, 10, 0]
    clock.now += 4003  # into a second half, over many waves
    assert statuses(server, BULK_UPDATE, 6) == [200] * 5 + [429]
    clock.now += 0.5
    assert statuses(server, BULK_UPDATE, 1) == [429]
    clock.now += 1
    assert statuses(server, BULK_UPDATE, 3) == [200, 200, 429], "half a second of a first half"


def test_a_share_can_come_in_waves_too() -> None:
    clock = Clock()
    server = FakeIterable(others=0.8, wave=5, clock=clock)
    statuses(server, TRACK_BULK, 10)
    count = accepted(server, clock, TRACK_BULK, seconds=50, pace=20)
    assert count == pytest.approx(25 * 10 + 25 * 2, abs=1)


def test_latency_delays_every_answer() -> None:
    request = Request("POST", UPDATE, {}, b"")
    assert FakeIterable(latency=0.05).handle(request).delay == 0.05

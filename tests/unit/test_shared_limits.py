"""The pace where others use part of a project's limits, in virtual time."""

from __future__ import annotations

from collections import Counter

import pytest

from iterable_client import (
    EVENTS_TRACK,
    EVENTS_TRACK_BULK,
    USERS_BULK_UPDATE,
    USERS_UPDATE,
    IterableClient,
    Kind,
    Operation,
    Pacer,
)
from tests.fake_iterable import FakeIterable
from tests.unit.bulk import item
from tests.unit.clients import ADA, Connect, Mock, VirtualTime

SINGLE = [USERS_UPDATE, EVENTS_TRACK]
BULK = [USERS_BULK_UPDATE, EVENTS_TRACK_BULK]
BATCH = {"give_up_after": 20}


def send(client: IterableClient, operation: Operation, requests: int) -> Counter[Kind]:
    """Sends so many requests; returns what became of them."""
    text = f"{ADA}/x" if operation.name.startswith("events") else ADA
    kinds: Counter[Kind] = Counter()
    for number in range(requests):
        for outcome in client.send(operation, [item(text, number)]).outcomes:
            kinds[outcome.kind] += 1
    return kinds


@pytest.mark.parametrize("others", [0.5, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("operation", SINGLE + BULK, ids=lambda operation: operation.name)
def test_what_others_leave_is_used_and_one_request_in_ten_refused_at_most(
    connect: Connect, time: VirtualTime, operation: Operation, others: float
) -> None:
    requests = 1500 if operation in SINGLE else 150
    with FakeIterable(others=others, clock=time.now) as server:
        client = connect(server, **BATCH)
        began = time.now()
        assert send(client, operation, requests) == {Kind.ACCEPTED: requests}
    left = operation.per_second * (1 - others)
    assert requests / (time.now() - began) >= 0.85 * left
    assert client.counts["rate_limited"] <= client.counts["sent"] / 10
    assert client.health.ending is None


@pytest.mark.parametrize("others", [0.5, 0.8, 0.9, 0.95, 1.0])
@pytest.mark.parametrize("operation", SINGLE + BULK, ids=lambda operation: operation.name)
def test_in_waves_nothing_is_lost(
    connect: Connect, time: VirtualTime, operation: Operation, others: float
) -> None:
    requests = 1500 if operation in SINGLE else 100
    with FakeIterable(others=others, wave=5, clock=time.now) as server:
        client = connect(server, **BATCH)
        assert send(client, operation, requests) == {Kind.ACCEPTED: requests}
    assert client.health.ending is None


@pytest.mark.parametrize("operation", SINGLE + BULK, ids=lambda operation: operation.name)
def test_alone_the_pace_is_the_limits_from_first_to_last(
    connect: Connect, time: VirtualTime, operation: Operation
) -> None:
    requests = 1500 if operation in SINGLE else 100
    with FakeIterable(clock=time.now) as server:
        client = connect(server, **BATCH)
        began = time.now()
        send(client, operation, requests)
    assert client.counts["rate_limited"] == 0
    assert requests / (time.now() - began) == pytest.approx(operation.per_second * 0.95, rel=0.12)


def test_a_limit_that_others_use_up_ends_the_run(connect: Connect, time: VirtualTime) -> None:
    with FakeIterable(others=1.0, clock=time.now) as server:
        client = connect(server, **BATCH)
        began = time.now()
        kinds = send(client, USERS_BULK_UPDATE, 20)
    assert kinds[Kind.ACCEPTED] == 5, "the tokens that were there"
    assert kinds[Kind.IN_DOUBT] == 1
    assert kinds[Kind.NOT_SENT] == 14
    assert 300 <= time.now() - began < 400
    assert client.health.ending is not None
    assert "others use up the limit of users/bulkUpdate" in client.health.ending


@pytest.mark.parametrize("demand", ["61", "3600", "1e9"])
def test_a_long_demand_holds_the_operation_and_not_the_call(
    connect: Connect, http: Mock, time: VirtualTime, demand: str
) -> None:
    url = "https://api.iterable.com/api/users/bulkUpdate"
    reset = {"code": "RateLimitExceeded", "params": {"rateLimitReset": demand}}
    http.post(url, status=429, json=reset)
    http.post(url, json={"successCount": 1, "failCount": 0})
    client = connect(**BATCH)
    began = time.now()
    assert send(client, USERS_BULK_UPDATE, 1) == {Kind.ACCEPTED: 1}
    assert time.now() - began == pytest.approx(min(float(demand), 300), abs=0.1)


def test_a_429_uses_up_no_attempt_and_is_no_lack_of_answers(connect: Connect, http: Mock) -> None:
    url = "https://api.iterable.com/api/users/update"
    for _ in range(12):
        http.post(url, status=429)
    for _ in range(2):
        http.post(url, status=503)
    http.post(url, json={"code": "Success"})
    client = connect(give_up_after=3)
    assert send(client, USERS_UPDATE, 1) == {Kind.ACCEPTED: 1}
    assert client.counts == {"sent": 15, "retried": 14, "rate_limited": 12}


def pace(pacer: Pacer, time: VirtualTime) -> float:
    """Calls a second, from the time between two; the first ones make a stall good."""
    for _ in range(3):
        pacer.wait()
    began = time.now()
    pacer.wait()
    return 1 / (time.now() - began)


def test_calls_that_were_on_their_way_together_slow_the_pace_once(time: VirtualTime) -> None:
    pacer = Pacer(10, time)
    sent_at = time.now()
    time.seconds += 0.05
    for _ in range(6):
        pacer.note_refused(sent_at)
    assert pace(pacer, time) == pytest.approx(5.5)
    pacer.note_accepted(sent_at)
    assert pace(pacer, time) == pytest.approx(5.5), "it was sent before the pace was slower"


def test_a_429_among_many_successes_slows_it_a_little_and_it_comes_back(time: VirtualTime) -> None:
    pacer = Pacer(10, time)
    for _ in range(12):
        time.seconds += 1
        pacer.note_accepted(time.now())
    assert pace(pacer, time) == pytest.approx(10), "never above where it began"
    pacer.note_refused(time.now())
    assert pace(pacer, time) == pytest.approx(8.5)
    for _ in range(12):
        time.seconds += 1
        pacer.note_accepted(time.now())
    assert pace(pacer, time) == pytest.approx(10)


def test_the_pace_never_falls_below_one_call_in_twenty_seconds(time: VirtualTime) -> None:
    pacer = Pacer(10, time)
    for _ in range(50):
        time.seconds += 1
        pacer.note_refused(time.now())
    assert pace(pacer, time) == pytest.approx(1 / 20)

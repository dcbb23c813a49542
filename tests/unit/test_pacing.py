"""At what pace requests go out, and what a 429 does to it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from iterable_client import (
    EVENTS_TRACK,
    EVENTS_TRACK_BULK,
    USERS_BULK_UPDATE,
    USERS_UPDATE,
    Operation,
    Pacer,
)
from tests.fake_iterable import OPERATIONS, FakeIterable
from tests.unit.bulk import item
from tests.unit.clients import ADA, SUCCESS, TRACK, UPDATE, Connect, Mock, VirtualTime, codes
from tests.wire import Json

ALL_OPERATIONS = (USERS_UPDATE, EVENTS_TRACK, USERS_BULK_UPDATE, EVENTS_TRACK_BULK)


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
    pacer = Pacer(10, time)
    start = time.now()
    found = []
    for what in events.split():
        if what == "call":
            assert pacer.wait()
            found.append(time.now() - start)
        elif what == "pause":
            time.seconds = start + 60
        else:
            pacer.hold(5)
            pacer.hold(1)  # the longer one counts
    assert found == pytest.approx(let_through)


def test_a_hold_lengthens_a_wait_that_has_begun(
    time: VirtualTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    pacer = Pacer(1, time)
    wait = time.wait

    def wait_while_another_is_refused(seconds: float) -> bool:
        if not time.waits:
            pacer.hold(5)
        return wait(seconds)

    assert pacer.wait()
    monkeypatch.setattr(time, "wait", wait_while_another_is_refused)
    assert pacer.wait()
    assert sum(time.waits) == pytest.approx(5)


def test_a_stop_ends_the_wait_for_a_turn(time: VirtualTime) -> None:
    pacer = Pacer(10, time)
    time.set()
    assert not pacer.wait()
    pacer.hold(5)
    assert not pacer.wait()


@pytest.mark.parametrize(("settings", "share"), [({}, 0.95), ({"rate_limit_factor": 2}, 2)])
@pytest.mark.parametrize("operation", ALL_OPERATIONS, ids=lambda operation: operation.name)
def test_each_operation_is_paced_below_its_limit(
    connect: Connect,
    server: FakeIterable,
    time: VirtualTime,
    operation: Operation,
    settings: Json,
    share: float,
) -> None:
    client = connect(server, **settings)
    text = f"{ADA}/x" if operation.name.startswith("events") else ADA
    limit = OPERATIONS[f"/api/{operation.name}"].limit
    caught_up = int(0.02 * limit * share) + 1  # what goes out before the first wait
    for _ in range(caught_up + 2):
        client.send(operation, [item(text, 1)])
    assert time.waits[-1] == pytest.approx(1 / (limit * share), rel=0.01)


def test_many_threads_are_never_refused_by_the_limiter_and_keep_their_connections(
    connect: Connect, time: VirtualTime, caplog: pytest.LogCaptureFixture
) -> None:
    # a bucket of 200
    with FakeIterable(rate_limit_factor=0.1, clock=time.now, latency=0.01) as server:
        client = connect(server, rate_limit_factor=0.095, workers=32)
        with ThreadPoolExecutor(32) as pool:
            results = list(pool.map(lambda n: client.track_event(ADA, "x", {"n": n}), range(500)))
        assert server.counts == {("/api/events/track", 200): 500}
    assert codes(results) == ["Success"] * 500
    # urllib3 logs each connection that it throws away
    assert [record.getMessage() for record in caplog.records] == []

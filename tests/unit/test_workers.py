"""Threads, and what happens where there are none, or where one meets a surprise."""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from iterable_client import (
    Call,
    Gate,
    IterableClient,
    Kind,
    Row,
    Settled,
    Stop,
    Task,
    Workers,
    deliver,
    user_update,
)
from tests.fake_iterable import FakeIterable
from tests.unit.clients import Connect


def refuse_threads(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Lets the system have no more than so many threads to give."""
    start = _thread.start_new_thread
    started: list[int] = []

    def start_or_not(function: Callable[[], object], args: tuple[()]) -> int:
        if len(started) >= after:
            raise RuntimeError("can't start new thread")
        started.append(start(function, args))
        return started[-1]

    monkeypatch.setattr("_thread.start_new_thread", start_or_not)


def rows(count: int) -> list[Row]:
    """Rows of one user update each."""
    made = []
    for number in range(1, count + 1):
        user = f"user{number}@example.com"
        call = Call(user_update("email", user, {"n": number}))
        made.append(Row(number, user, None, call, None))
    return made


def kinds_of(settled: Iterable[Settled]) -> list[Kind]:
    """What became of the updates of rows, in their order."""
    kinds = []
    for each in settled:
        for row in each.rows:
            assert row.update is not None
            assert row.update.outcome is not None
            kinds.append(row.update.outcome.kind)
    return kinds


@pytest.mark.parametrize("after", [0, 1, 3])
def test_work_is_done_in_its_order_with_the_threads_that_there_are(
    monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    refuse_threads(monkeypatch, after)
    workers = Workers(8)
    done: list[int] = []
    tasks = [workers.submit(done.append, number) for number in range(50)]
    for task in tasks:
        assert task.done.wait(10)
    assert sorted(done) == list(range(50))
    if after < 2:
        assert done == list(range(50))


@pytest.mark.parametrize("after", [0, 2])
@pytest.mark.parametrize("is_bulk", [True, False])
def test_rows_are_delivered_though_there_are_no_threads_to_be_had(
    connect: Connect,
    server: FakeIterable,
    monkeypatch: pytest.MonkeyPatch,
    is_bulk: bool,
    after: int,
) -> None:
    client = connect(server, stop=Stop(), give_up_after=10)
    server.add_fault("status", path="bulkUpdate", status=400, code="BadParams")  # singly, then
    refuse_threads(monkeypatch, after)
    assert kinds_of(deliver(client, [rows(20)], is_bulk, 6)) == [Kind.ACCEPTED] * 20
    assert len(server.users) == 20


@pytest.mark.parametrize("surprise", [MemoryError("none left"), TypeError("a bug")])
def test_a_surprise_in_a_thread_ends_the_run_and_loses_no_row(
    connect: Connect,
    server: FakeIterable,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    surprise: BaseException,
) -> None:
    client = connect(server, stop=Stop(), give_up_after=10)
    send = IterableClient.send

    def send_or_not(self: IterableClient, operation: Any, payloads: Any) -> Any:
        if payloads[0]["email"] == "user7@example.com":
            raise surprise
        return send(self, operation, payloads)

    monkeypatch.setattr(IterableClient, "send", send_or_not)
    kinds = kinds_of(deliver(client, [rows(100)], is_bulk=False, workers=1))
    assert kinds[:7] == [Kind.ACCEPTED] * 6 + [Kind.IN_DOUBT]
    assert client.stop.is_set()
    assert client.health.ending is not None
    assert f"({type(surprise).__name__}: {surprise})" in client.health.ending
    assert "Traceback" in caplog.text


@pytest.mark.parametrize("is_bulk", [True, False])
def test_threads_that_die_as_they_begin_hold_nothing_up(
    connect: Connect, server: FakeIterable, monkeypatch: pytest.MonkeyPatch, is_bulk: bool
) -> None:
    monkeypatch.setattr("_thread.start_new_thread", lambda function, args: 1)  # as out of memory
    client = connect(server, stop=Stop(), give_up_after=10)
    server.add_fault("status", path="bulkUpdate", status=400, code="BadParams")  # singly, then
    assert kinds_of(deliver(client, [rows(4)], is_bulk, 6)) == [Kind.ACCEPTED] * 4


def test_a_thread_that_dies_at_its_work_ends_the_run(
    connect: Connect, server: FakeIterable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(_task: Task[None], *_args: Any) -> None:
        raise SystemExit  # as a MemoryError in the call itself; threads end so in silence

    monkeypatch.setattr("iterable_client.Task.carry_out", die)
    client = connect(server, stop=Stop(grace=0.5), give_up_after=10)
    assert kinds_of(deliver(client, [rows(3)], is_bulk=True, workers=1)) == [Kind.NOT_SENT] * 3
    assert client.health.ending is not None
    assert "a thread died" in client.health.ending


@pytest.mark.parametrize("is_bulk", [True, False])
def test_who_waits_does_all_that_there_is_to_do_and_not_one_thing_after_each_wait(
    connect: Connect, server: FakeIterable, monkeypatch: pytest.MonkeyPatch, is_bulk: bool
) -> None:
    in_vain: list[float] = []

    def wait(gate: Gate, seconds: float) -> bool:
        if not gate.is_open:
            in_vain.append(seconds)
        return gate.is_open

    monkeypatch.setattr("_thread.start_new_thread", lambda function, args: 1)  # as out of memory
    monkeypatch.setattr("iterable_client.Gate.wait", wait)
    client = connect(server, give_up_after=10)
    server.add_fault("status", path="bulkUpdate", status=400, code="BadParams")  # singly, then
    assert kinds_of(deliver(client, [rows(20)], is_bulk, 6)) == [Kind.ACCEPTED] * 20
    assert len(in_vain) == 2


def test_a_lock_of_pythons_that_lack_of_memory_leaves_taken_holds_nothing_up(
    connect: Connect, server: FakeIterable, monkeypatch: pytest.MonkeyPatch
) -> None:
    need = threading.local()  # of a thread: a later one may have its number
    memory_is_short = True
    send = IterableClient.send
    leave = threading.Condition.__exit__

    def send_in_need(self: IterableClient, operation: Any, payloads: Any) -> Any:
        delivery = send(self, operation, payloads)
        need.has_come = True
        return delivery

    def leave_or_not(self: threading.Condition, *args: Any) -> None:
        if memory_is_short and getattr(need, "has_come", False):
            raise MemoryError  # there is none for the call that gives the lock back
        leave(self, *args)

    monkeypatch.setattr(IterableClient, "send", send_in_need)
    monkeypatch.setattr("threading.Condition.__exit__", leave_or_not)
    client = connect(server, stop=Stop(grace=0.5), give_up_after=10)
    kinds: list[Kind] = []

    def send_and_stop() -> None:
        kinds.extend(kinds_of(deliver(client, [rows(1)], is_bulk=False, workers=1)))
        client.stop.set()

    thread = threading.Thread(target=send_and_stop, daemon=True)
    thread.start()
    thread.join(10)
    memory_is_short = False  # what is left ends as it should
    assert not thread.is_alive()
    assert kinds == [Kind.ACCEPTED]


def test_no_thread_is_started_that_would_leave_the_others_without_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[object] = []
    monkeypatch.setattr("_thread.start_new_thread", lambda *_: started.append(1))
    monkeypatch.setattr("iterable_client.ROOM", 2**60)  # bytes, as if memory were short
    task = Workers(8).submit(abs, -1)
    assert (task.done.is_open, task.take(), started) == (True, 1, [])


def test_whoever_takes_what_came_of_a_task_gets_what_it_raised() -> None:
    task = Task[int]()
    assert task.take() is None
    task.carry_out(int, "x")
    with pytest.raises(ValueError, match="invalid literal"):
        task.take()


@pytest.mark.parametrize("is_bulk", [True, False])
def test_threads_end_with_the_rows_that_they_were_for(
    connect: Connect, server: FakeIterable, monkeypatch: pytest.MonkeyPatch, is_bulk: bool
) -> None:
    start = _thread.start_new_thread
    started: list[int] = []
    ended = threading.Semaphore(0)

    def start_and_count(function: Callable[[], object], args: tuple[()]) -> int:
        def serve() -> None:
            function()
            ended.release()

        started.append(start(serve, args))
        return started[-1]

    monkeypatch.setattr("_thread.start_new_thread", start_and_count)
    client = connect(server, stop=Stop(), give_up_after=10)
    for _ in range(3):  # as for so many queries
        assert kinds_of(deliver(client, [rows(8)], is_bulk, 4)) == [Kind.ACCEPTED] * 8
    assert len(started) == (3 if is_bulk else 12)
    for _ in started:
        assert ended.acquire(timeout=10)
    assert not client.stop.is_set(), "that is no thread that died"

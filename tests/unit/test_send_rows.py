"""How many rows are on their way at a time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from iterable_client import Call, Kind, Row, Settled, Stop, deliver, user_update
from tests.fake_iterable import FakeIterable
from tests.unit.clients import Connect


def batches_of_one(taken: list[int]) -> Iterator[list[Row]]:
    """A thousand rows, a user update each; notes which were taken."""
    for number in range(1, 1001):
        taken.append(number)
        user = f"user{number}@example.com"
        yield [Row(number, user, None, Call(user_update("email", user, {"n": number})), None)]


@pytest.mark.parametrize(("bulk", "workers", "most"), [(False, 4, 8), (True, 2, 2)])
def test_rows_are_taken_only_a_little_ahead_of_what_is_answered(
    connect: Connect,
    server: FakeIterable,
    bulk: bool,
    workers: int,
    most: int,
) -> None:
    server.add_fault("hang")
    client = connect(server, stop=Stop(grace=0))
    taken: list[int] = []
    sending = deliver(client, batches_of_one(taken), bulk, workers)
    first = next(sending)
    taken_first = len(taken)
    client.stop.set()
    list(sending)
    assert first == Settled([]), "it waited for an answer"
    assert taken_first <= most


@pytest.mark.parametrize("is_bulk", [True, False])
def test_a_row_that_waited_for_one_without_an_answer_was_not_sent(
    connect: Connect, server: FakeIterable, is_bulk: bool
) -> None:
    server.add_fault("hang")
    client = connect(server, stop=Stop(grace=0.5))
    calls = [Call(user_update("email", "a@example.com", {"n": number})) for number in (1, 2)]
    batches = [
        [Row(number, "a@example.com", None, call, None)] for number, call in enumerate(calls)
    ]
    for _ in deliver(client, batches, is_bulk, workers=2):
        if server.requests:
            client.stop.set()
    kinds = [call.outcome.kind for call in calls if call.outcome]
    assert kinds == [Kind.IN_DOUBT, Kind.NOT_SENT]

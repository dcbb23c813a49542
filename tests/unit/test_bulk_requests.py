"""How payloads become requests: sizes, order, and what a stop leaves of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from iterable_client import (
    BULK_BYTES,
    EVENTS_TRACK,
    IN_DOUBT,
    USERS_BULK_UPDATE,
    USERS_UPDATE,
    Kind,
    Stop,
    encode,
    user_update,
)
from tests.fake_iterable import FakeIterable, Fault
from tests.unit.bulk import A, B, item, send_bulk
from tests.unit.clients import Connect, codes_of


def test_a_bulk_request_is_at_most_a_thousand_items(connect: Connect, server: FakeIterable) -> None:
    _, outcomes = send_bulk(connect(server), " ".join(f"u{n}" for n in range(2001)))
    assert outcomes == ["ok"] * 2001
    assert len(server.users) == 2001
    assert max(len(seen.body["users"]) for seen in server.requests) <= 1000


@pytest.mark.parametrize(("over", "items"), [(0, [2]), (1, [1, 1])])
def test_a_bulk_body_over_four_million_bytes_is_halved(
    connect: Connect, server: FakeIterable, over: int, items: list[int]
) -> None:
    texts = ["é" * 1_000_000, ""]  # bytes count, not characters
    payloads = [user_update("userId", f"u{n}", {"text": text}) for n, text in enumerate(texts)]
    missing = 4_000_000 - len(encode({"users": payloads}))
    payloads[1]["dataFields"]["text"] = "x" * (missing + over)
    assert codes_of(connect(server).send(USERS_BULK_UPDATE, payloads)) == ["Success"] * 2
    assert [len(seen.body["users"]) for seen in server.requests] == items
    assert list(server.users) == ["u0", "u1"]


def test_an_item_over_four_million_bytes_fails_unsent_and_the_others_go(
    connect: Connect, server: FakeIterable
) -> None:
    sizes = (1, BULK_BYTES, 1)
    payloads = [user_update("userId", f"u{n}", {"t": "x" * size}) for n, size in enumerate(sizes)]
    results = connect(server).send(USERS_BULK_UPDATE, payloads)
    assert codes_of(results) == ["Success", "InvalidValue", "Success"]
    assert list(server.users) == ["u0", "u2"]
    assert "u1" not in str(server.requests)


def test_a_single_operation_takes_each_payload_by_itself_in_order(
    connect: Connect, server: FakeIterable
) -> None:
    server.add_fault("status", user=A, status=409, code="ForgottenUserError")
    payloads = [item(A, 0), item(B, 1)]
    client = connect(server)
    assert codes_of(client.send(USERS_UPDATE, payloads)) == ["ForgottenUserError", "Success"]
    assert codes_of(client.send(EVENTS_TRACK, [item(f"{B}/x", 0)])) == ["Success"]
    assert [seen.body for seen in server.requests[:2]] == payloads


def test_updates_of_one_user_keep_their_order_when_a_bulk_request_falls_apart(
    connect: Connect, server: FakeIterable
) -> None:
    server.add_fault("status", path="bulkUpdate", status=400, code="BadParams")
    # the first single update needs two attempts
    server.add_fault("status", path="users/update", status=503, times=1)
    payloads = [user_update("email", A, {"n": str(number)}) for number in range(6)]
    assert codes_of(connect(server).send(USERS_BULK_UPDATE, payloads)) == ["Success"] * 6
    assert server.users[A]["n"] == "5"


def test_an_item_of_a_bulk_request_that_went_out_is_in_doubt_and_not_unsent(
    connect: Connect, server: FakeIterable
) -> None:
    client = connect(server)

    class StopsTheClient(Fault):
        def strikes(self, path: str, body: Any) -> bool:
            client.stop.set()
            return True

    server.set_faults([StopsTheClient("status", status=400, code="BadParams")])
    delivery = client.send(USERS_BULK_UPDATE, [user_update("email", A, {"n": "1"})])
    assert len(server.requests) == 1
    assert delivery.outcomes == [replace(IN_DOUBT, status=400)]


def test_a_stop_leaves_in_doubt_what_is_not_answered_and_keeps_the_other_answers(
    connect: Connect, server: FakeIterable
) -> None:
    server.add_fault("status", status=400, code="BadParams", path="users/bulkUpdate")
    hang = server.add_fault("hang", path="users/update", user="u7@example.com")
    client = connect(server, stop=Stop(grace=1.5))
    payloads = [user_update("email", f"u{n}@example.com", {"n": n}) for n in range(20)]
    with ThreadPoolExecutor() as pool:
        sending = pool.submit(client.send, USERS_BULK_UPDATE, payloads)
        while not hang.hits or len(server.users) < 19:
            assert not sending.done()
        client.stop.set()
        outcomes = sending.result(timeout=10).outcomes
    assert outcomes.pop(7) == IN_DOUBT
    assert [outcome.kind for outcome in outcomes] == [Kind.ACCEPTED] * 19

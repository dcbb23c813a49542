"""The stand-in for Iterable on the wire, and what it tells about itself."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

import pytest
import requests

from tests.fake_iterable import FakeIterable
from tests.stand_in.asking import (
    ADA,
    ENDED,
    OK,
    TRACK,
    UPDATE,
    VIEW,
    Post,
    ask,
    exchange,
    raw_update,
    told,
)


def test_a_server_that_went_down_comes_back_on_the_same_port(
    server: FakeIterable, post: Post
) -> None:
    url = server.url
    assert told(post(UPDATE, ADA)) == OK
    server.down()
    with pytest.raises(requests.ConnectionError):
        post(UPDATE, ADA)
    server.up()
    assert told(post(UPDATE, ADA)) == OK
    assert server.url == url


def test_a_connection_made_as_the_server_goes_down_is_closed() -> None:
    asked, go_on = threading.Event(), threading.Event()

    def clock() -> float:  # holds the server's thread in the midst of a request
        asked.set()
        return float(go_on.wait(10))

    with FakeIterable(api_key="key", enforce_limits=False, clock=clock) as server:
        ending = threading.Thread(target=server.down)
        place = ("127.0.0.1", server.port)
        with socket.create_connection(place, 10) as first:
            first.sendall(raw_update())
            assert asked.wait(10)
            with socket.create_connection(place, 10) as second:
                ending.start()
                go_on.set()
                ending.join(10)
                # a socket that is left over is a ResourceWarning, which pytest makes an error
                with contextlib.suppress(ConnectionResetError):
                    assert second.recv(1) == b""


def test_a_port_that_is_taken_is_an_error(server: FakeIterable) -> None:
    with pytest.raises(OSError, match="in use"), FakeIterable(port=server.port):
        pass


def test_requests_are_remembered_in_order_with_their_answers(
    server: FakeIterable, post: Post
) -> None:
    post(UPDATE, ADA, headers={"X-Mark": "here"})
    post(TRACK, {})
    server.add_fault("drop_before", times=1)
    with pytest.raises(ENDED):
        post(TRACK, VIEW)
    remembered = [(seen.path, seen.status, seen.body) for seen in server.requests]
    assert remembered == [(UPDATE, 200, ADA), (TRACK, 400, {}), (TRACK, 0, VIEW)]
    assert server.requests[0].headers["x-mark"] == "here"
    assert server.counts == {(UPDATE, 200): 1, (TRACK, 400): 1, (TRACK, 0): 1}


def test_recording_can_be_switched_off() -> None:
    server = FakeIterable(record_requests=False)
    ask(server, UPDATE, ADA)
    assert (server.requests, server.counts) == ([], {(UPDATE, 200): 1})


def test_one_connection_serves_many_requests_even_pipelined_ones(server: FakeIterable) -> None:
    one = raw_update()
    last = raw_update("Connection: close")
    assert exchange(server, one + one + last).count(b"HTTP/1.1 200 OK\r\n") == 3


@pytest.mark.parametrize(
    "data", [b"\r\n\r\n", b"GET\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n"]
)
def test_what_is_not_http_ends_the_connection(server: FakeIterable, data: bytes) -> None:
    with contextlib.suppress(ConnectionResetError):
        assert exchange(server, data) == b""


def test_what_is_stored_can_be_asked_for_cleared_and_made_to_fail_over_http(
    server: FakeIterable, session: requests.Session, post: Post
) -> None:
    post(UPDATE, ADA)
    post(TRACK, {**VIEW, "id": "1"})
    stored = session.get(f"{server.url}/_stand_in/stored", timeout=10).json()
    counts = session.get(f"{server.url}/_stand_in/counts", timeout=10).json()
    assert stored == {"users": {"ada@example.com": {}}, "events": {"1": {**VIEW, "id": "1"}}}
    assert counts == {
        "users": 1,
        "events": 1,
        "event_writes": 1,
        "requests": {f"{UPDATE} 200": 1, f"{TRACK} 200": 1},
    }
    faults = [{"kind": "status", "status": 503, "times": 1}]
    assert post("/_stand_in/faults", faults).status_code == 200
    assert [post(UPDATE, ADA).status_code for _ in range(2)] == [503, 200]
    assert post("/_stand_in/reset", None).status_code == 200
    assert (server.users, server.events, server.requests, server.counts) == ({}, {}, [], {})


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/_stand_in/faults", [{"kind": "crash"}], 400),
        ("/_stand_in/faults", [{"kind": "status", "stauts": 1}], 400),
        ("/_stand_in/faults", 5, 400),
        ("/_stand_in/stored", None, 404),
    ],
)
def test_mistakes_in_inspection_are_answered(post: Post, path: str, body: Any, status: int) -> None:
    assert post(path, body).status_code == status


def test_what_a_test_reads_is_consistent_while_requests_come_in(server: FakeIterable) -> None:
    def send(sender: int) -> None:
        for number in range(50):
            ask(server, TRACK, {**VIEW, "id": f"{sender}-{number}"}, api_key="key")

    senders = [threading.Thread(target=send, args=(sender,)) for sender in range(4)]
    for sender in senders:
        sender.start()
    while any(sender.is_alive() for sender in senders):
        events = server.events
        writes = server.event_writes
        assert all(events[event_id]["id"] == event_id for event_id in events)
        assert len(events) <= writes.total()
    assert len(server.events) == server.event_writes.total() == 200

"""Answers of the stand-in for Iterable that come slowly, without an end, or after another one."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.fake_iterable import FakeIterable, Reply, Request
from tests.stand_in.asking import (
    ADA,
    JSON_TYPE,
    OK,
    SUCCESS,
    UPDATE,
    Post,
    exchange,
    raw_update,
    told,
)

MB = 1_000_000
FLOODS = ["chunked", "close", "gzip"]


def set_fault(post: Post, **fault: Any) -> None:
    """Set a fault as whoever runs the stand-in as a process does."""
    assert post("/_stand_in/faults", [fault]).status_code == 200


def reply_to_ada(server: FakeIterable) -> Reply:
    """What is to go back after an update, before it does."""
    headers = {"api-key": "key", "content-type": "application/json"}
    return server.handle(Request("POST", UPDATE, headers, json.dumps(ADA).encode()))


@contextlib.contextmanager
def open_request(server: FakeIterable) -> Iterator[http.client.HTTPConnection]:
    """A connection on which an update was asked for."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    with contextlib.closing(connection):
        connection.request("POST", UPDATE, json.dumps(ADA), {**JSON_TYPE, "Api-Key": "key"})
        yield connection


# A drip


@pytest.mark.parametrize(("part", "at_once"), [("header", b""), ("body", b"HTTP/1.1 200 OK\r\n")])
def test_a_drip_is_a_byte_a_second_in_header_or_body(part: str, at_once: bytes) -> None:
    server = FakeIterable(api_key="key")
    deserved = reply_to_ada(server)
    server.add_fault("drip", part=part)
    dripping = reply_to_ada(server)
    pieces = list(dripping.rest)
    assert dripping.pause == 1
    assert {len(piece) for piece in pieces} == {1}
    assert dripping.data + b"".join(pieces) == deserved.data
    assert dripping.data.startswith(at_once)
    assert b"".join(pieces).endswith(SUCCESS)
    assert (b"".join(pieces) == SUCCESS) == (part == "body")


@pytest.mark.parametrize("part", ["header", "body"])
def test_a_quick_drip_is_the_answer_in_the_end(server: FakeIterable, post: Post, part: str) -> None:
    set_fault(post, kind="drip", part=part, rate=10_000)
    assert told(post(UPDATE, ADA)) == OK
    assert list(server.users) == ["ada@example.com"]
    assert server.counts == {(UPDATE, 200): 1}


def test_the_rate_of_a_drip_is_in_bytes_a_second() -> None:
    server = FakeIterable(api_key="key")
    server.add_fault("drip", rate=4)
    assert reply_to_ada(server).pause == 0.25


# A flood


@pytest.mark.parametrize("framing", FLOODS)
def test_a_flood_ends_in_the_answer(server: FakeIterable, post: Post, framing: str) -> None:
    set_fault(post, kind="flood", framing=framing, size=200_001)
    answer = post(UPDATE, ADA)
    assert answer.content == b" " * 200_001 + SUCCESS
    assert told(answer) == OK
    assert list(server.users) == ["ada@example.com"]
    server.set_faults([])
    assert told(post(UPDATE, ADA)) == OK, "the next request is served"


@pytest.mark.parametrize(
    ("framing", "fields"),
    [
        ("chunked", {"Transfer-Encoding": "chunked"}),
        ("close", {"Connection": "close"}),
        ("gzip", {"Content-Encoding": "gzip"}),
    ],
)
def test_floods_differ_in_their_framing(post: Post, framing: str, fields: dict[str, str]) -> None:
    set_fault(post, kind="flood", framing=framing, size=10)
    framings = ("Transfer-Encoding", "Connection", "Content-Encoding")
    headers = post(UPDATE, ADA).headers
    assert {name: headers[name] for name in framings if name in headers} == fields


@pytest.mark.parametrize("framing", ["chunked", "close"])
def test_a_flood_without_a_size_has_no_end(server: FakeIterable, post: Post, framing: str) -> None:
    server.add_fault("flood", framing=framing, times=1)
    with open_request(server) as connection:
        answer = connection.getresponse()
        assert answer.read(20 * MB) == b" " * 20 * MB
        assert told(post(UPDATE, ADA)) == OK, "others are served at the same time"
        assert answer.read(MB) == b" " * MB


@pytest.mark.parametrize("fault", [{"kind": "flood"}, {"kind": "drip"}], ids=["flood", "drip"])
def test_an_answer_that_goes_on_does_not_keep_the_server_alive(fault: dict[str, str]) -> None:
    with FakeIterable(api_key="key") as server:
        server.add_fault(**fault)
        with open_request(server) as connection:
            answer = connection.getresponse()
            assert answer.status == 200
            server.down()
            with pytest.raises((http.client.IncompleteRead, ConnectionError)):
                answer.read()


def test_a_bomb_is_small_on_the_wire_and_over_16_mb_unpacked(
    server: FakeIterable, session: requests.Session
) -> None:
    server.add_fault("flood", framing="gzip")
    with session.post(server.url + UPDATE, json=ADA, stream=True, timeout=10) as answer:
        packed = answer.raw.read(decode_content=False)
    assert len(packed) < 100_000
    unpacked = gzip.decompress(packed)
    assert len(unpacked) > 16 * MB
    assert json.loads(unpacked)["code"] == "Success"


# An interim response


@pytest.mark.parametrize(
    ("status", "first_line"),
    [
        (0, b"HTTP/1.1 102 Processing\r\n\r\n"),
        (100, b"HTTP/1.1 100 Continue\r\n\r\n"),
        (103, b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    ],
)
def test_an_early_answer_comes_before_the_final_one(status: int, first_line: bytes) -> None:
    server = FakeIterable(api_key="key")
    deserved = reply_to_ada(server)
    server.add_fault("early", status=status, pause=0.5)
    early = reply_to_ada(server)
    assert early == Reply(200, first_line, rest=[deserved.data], pause=0.5)


def test_an_early_answer_is_on_the_connection_of_the_final_one(
    server: FakeIterable, post: Post
) -> None:
    set_fault(post, kind="early", status=100, pause=0)
    # http.client skips a 100, and no other interim response
    answers = [post(UPDATE, ADA) for _ in range(2)]
    assert [told(answer) for answer in answers] == [OK, OK]
    assert server.counts == {(UPDATE, 200): 2}


def test_who_takes_an_early_answer_for_final_reads_the_final_one_as_the_next(
    server: FakeIterable,
) -> None:
    server.add_fault("early", times=1)
    on_the_wire = exchange(server, raw_update() + raw_update("Connection: close"))
    interim, *finals = on_the_wire.split(b"HTTP/1.1 ")[1:]
    assert interim == b"102 Processing\r\n\r\n"
    assert [final.startswith(b"200 OK") for final in finals] == [True, True]


@pytest.mark.parametrize("mistake", [{"part": "head"}, {"framing": "length"}])
def test_an_unknown_part_or_framing_is_an_error(
    server: FakeIterable, mistake: dict[str, str]
) -> None:
    with pytest.raises(ValueError, match="part is one of"):
        server.add_fault("flood", **mistake)

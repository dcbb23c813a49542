"""Nothing that the far side sends or fails to send holds an attempt, or fills the memory."""

from __future__ import annotations

import resource
from typing import Any

import pytest

from iterable_client import USERS_UPDATE, IterableClient, Stop, user_update
from tests.fake_iterable import FakeIterable
from tests.unit.clients import ADA, UPDATE, Connect, Mock, codes

ONE = {"max_retries": 1}


@pytest.mark.parametrize("part", ["header", "body"])
def test_an_answer_in_drips_is_a_timeout(connect: Connect, server: FakeIterable, part: str) -> None:
    server.add_fault("drip", part=part, rate=20)
    result = connect(server, stop=Stop(), timeout=0.1, **ONE).update_user(ADA, {})
    assert codes([result]) == ["Timeout"]


def test_a_slow_answer_in_time_is_an_answer(connect: Connect, server: FakeIterable) -> None:
    server.add_fault("drip", part="body", rate=1000)
    assert connect(server, stop=Stop(), timeout=5, **ONE).update_user(ADA, {})[0]


@pytest.mark.parametrize("framing", ["chunked", "close", "gzip"])
def test_an_answer_without_end_is_cut_off_and_not_kept(
    connect: Connect, server: FakeIterable, framing: str
) -> None:
    server.add_fault("flood", framing=framing)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ok, answer = connect(server, stop=Stop(), **ONE).update_user(ADA, {})
    assert (ok, answer["code"]) == (False, "InvalidResponse")
    assert "more than 16,000,000 bytes" in answer["msg"]
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 120_000, "KiB"


@pytest.mark.parametrize("status", [100, 102, 103, 199])
def test_an_early_answer_is_never_taken_for_the_final_one(
    connect: Connect, server: FakeIterable, status: int
) -> None:
    server.add_fault("status", path="users/update", status=400, code="BadParams", user="no@x.io")
    server.add_fault("early", status=status, pause=0.2, times=1)
    client = connect(server, stop=Stop(), initial_backoff=0)
    results = [client.update_user(user, {}) for user in ("no@x.io", ADA, "no@x.io", ADA)]
    assert [ok for ok, _ in results] == [False, True, False, True]


@pytest.mark.parametrize("glue", ["", "-", "a.", "."])
def test_what_looks_like_many_tokens_is_redacted_in_no_time(
    connect: Connect, http: Mock, glue: str
) -> None:
    text = ("eyJ" + glue) * 400_000  # where the time is the square of this, it is hours
    http.post(UPDATE, status=400, json={"code": "BadParams", "msg": text})
    assert codes([connect().update_user(ADA, {})]) == ["BadParams"]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, {"code": "Success"}),
        (401, {"code": "x" * 65}),
        (401, {"code": "Bad\nApi\x1b[2J"}),
        (401, "<html>"),
        (401, ""),
        (403, {"code": "Forbidden"}),
    ],
)
def test_a_refusal_is_noticed_whatever_its_form(
    connect: Connect, server: FakeIterable, status: int, body: Any
) -> None:
    if isinstance(body, str):
        server.add_fault("status", status=status, body=body)
    else:
        server.add_fault("status", status=status, code=body["code"])
    client = connect(server, give_up_after=10)
    client.send(USERS_UPDATE, [user_update("email", ADA, {})])
    assert client.health.ending is not None
    assert "refused the credentials" in client.health.ending
    assert client.health.ending.isprintable()
    assert client.stop.is_set()


@pytest.mark.parametrize("code", ["x" * 65, "Bad Code", "Bad\nCode", "", 'Bad"Code', "\u0130"])
def test_a_code_that_is_none_is_an_invalid_response(
    connect: Connect, http: Mock, code: str
) -> None:
    http.post(UPDATE, status=400, json={"code": code, "msg": "no"})
    assert codes([connect().update_user(ADA, {})]) == ["InvalidResponse"]


def test_a_refusal_is_noticed_though_the_key_is_part_of_its_code(http: Mock) -> None:
    http.post(UPDATE, status=401, json={"code": "BadApiKey", "msg": "no"})
    client = IterableClient("ApiKey", give_up_after=10)
    ok, answer = client.update_user(ADA, {})
    assert (ok, answer["code"]) == (False, "InvalidResponse")
    assert client.health.ending is not None
    assert "ApiKey" not in client.health.ending.replace("BadApiKey", "")

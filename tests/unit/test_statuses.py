"""The HTTP status of the last attempt of each call."""

from __future__ import annotations

from typing import Any

import pytest
from requests import exceptions

from iterable_client import (
    USERS_BULK_UPDATE,
    USERS_UPDATE,
    InvalidValueError,
    Operation,
    user_update,
)
from tests.fake_iterable import FakeIterable
from tests.unit.clients import ADA, HOST, REFUSAL, SUCCESS, UPDATE, Connect, Mock

BULK_UPDATE = f"{HOST}/api/users/bulkUpdate"
STORED = {"successCount": 1, "failCount": 0}
BROKEN = {"body": exceptions.ConnectionError("broken")}


@pytest.mark.parametrize(
    ("operation", "answers", "status"),
    [
        (USERS_UPDATE, [{"json": SUCCESS}], 200),
        (USERS_UPDATE, [{"json": SUCCESS, "status": 202}], 202),
        (USERS_UPDATE, [{"json": REFUSAL, "status": 400}], 400),
        (USERS_UPDATE, [{"body": "x", "status": 404}], 404),
        (USERS_UPDATE, [{"json": REFUSAL, "status": 503}], 503),
        (USERS_UPDATE, [{"json": REFUSAL, "status": 503}, {"json": SUCCESS}], 200),
        (USERS_UPDATE, [{"json": REFUSAL, "status": 503}, BROKEN], None),
        (USERS_UPDATE, [BROKEN], None),
        (USERS_UPDATE, [{"body": exceptions.ReadTimeout()}], None),
        (USERS_BULK_UPDATE, [{"json": STORED}], 200),
        (USERS_BULK_UPDATE, [{"json": REFUSAL, "status": 503}], 503),
        (USERS_BULK_UPDATE, [{"json": REFUSAL, "status": 404}], 404),
        (USERS_BULK_UPDATE, [BROKEN], None),
    ],
)
def test_the_status_is_that_of_the_last_attempt(
    connect: Connect, http: Mock, operation: Operation, answers: list[Any], status: int | None
) -> None:
    url = BULK_UPDATE if operation.items else UPDATE
    for answer in answers:
        http.post(url, **answer)
    [outcome] = connect().send(operation, [user_update("email", ADA, {})]).outcomes
    assert outcome.status == status


def test_a_failure_in_bulk_has_the_status_of_the_bulk_answer(
    connect: Connect, server: FakeIterable
) -> None:
    names = [f"u{number}@example.com" for number in range(4)]
    server.forgotten.update(names)
    payloads = [user_update("email", name, {}) for name in names]
    outcomes = connect(server).send(USERS_BULK_UPDATE, payloads).outcomes
    assert [outcome.status for outcome in outcomes] == [409, 409, 409, 200]


def test_what_was_never_sent_has_none(connect: Connect) -> None:
    assert InvalidValueError("no").outcome.status is None
    client = connect()
    client.stop.set()
    for operation in (USERS_UPDATE, USERS_BULK_UPDATE):
        [outcome] = client.send(operation, [user_update("email", ADA, {})]).outcomes
        assert outcome.status is None

"""What ends a run of calls: a stop, refused credentials, no useful answers."""

from __future__ import annotations

from typing import Any

import pytest
import requests
import responses
from requests import exceptions

from iterable_client import (
    NOT_SENT,
    REFUSALS,
    USERS_BULK_UPDATE,
    USERS_UPDATE,
    Kind,
    Stop,
    user_update,
)
from tests.fake_iterable import FakeIterable
from tests.unit.clients import (
    ADA,
    REFUSAL,
    SUCCESS,
    TRACK,
    UPDATE,
    Connect,
    Mock,
    VirtualTime,
    codes,
)


def test_after_a_stop_no_call_starts(connect: Connect, server: FakeIterable) -> None:
    client = connect(server)
    client.stop.set()
    payload = user_update("email", ADA, {})
    delivery = client.send(USERS_BULK_UPDATE, [payload, payload])
    assert delivery.outcomes == [NOT_SENT] * 2
    assert client.update_user(ADA, {}) == NOT_SENT.result
    assert server.requests == []


def test_a_stop_ends_a_backoff(connect: Connect, http: Mock, time: VirtualTime) -> None:
    client = connect(initial_backoff=50)

    def answer_and_stop(request: requests.PreparedRequest) -> tuple[int, dict[str, str], str]:
        client.stop.set()
        return 503, {}, ""

    http.add_callback(responses.POST, UPDATE, answer_and_stop)
    payload = user_update("email", ADA, {})
    [outcome] = client.send(USERS_UPDATE, [payload]).outcomes
    assert (outcome.kind, outcome.status) == (Kind.IN_DOUBT, 503), "what is known of it stays"
    assert outcome.answer["code"] == "InvalidResponse"
    assert len(http.calls) == 1
    # a wait for the event itself, which the stop has set
    assert time.waits == [pytest.approx(50, rel=0.11)]


REFUSED = ("BadApiKey", "Unauthorized", "BadAuthorizationHeader", "Forbidden", "InvalidJwtPayload")


@pytest.mark.parametrize(
    ("status", "code", "refused"),
    [
        *((401, code, True) for code in REFUSED),
        *((400, code, True) for code in REFUSED),
        (403, "Forbidden", True),
        (401, "SomethingNew", True),
        (401, "JwtUserIdentifiersMismatched", False),
        (400, "BadParams", False),
        (409, "ForgottenUserError", False),
        (503, "Forbidden", False),
    ],
)
@pytest.mark.parametrize("give_up_after", [None, 10])
def test_refused_credentials_stop_a_client_that_may_give_up(
    connect: Connect, http: Mock, status: int, code: str, refused: bool, give_up_after: int | None
) -> None:
    answer = {"code": code, "msg": "no"}
    http.post(UPDATE, status=status, json=answer)
    http.post(TRACK, json=SUCCESS)
    client = connect(give_up_after=give_up_after)
    stops = refused and give_up_after is not None
    assert client.update_user(ADA, {}) == (False, answer)
    assert client.track_event(ADA, "x")[0] is not stops
    assert client.stop.is_set() is stops
    if stops:
        advice = REFUSALS.get(code, REFUSALS[""])
        assert client.health.ending == (
            f"Iterable refused the credentials ({code}, HTTP {status}): check {advice}. It said: no"
        )
    else:
        assert client.health.ending is None


def test_an_invalid_token_after_a_success_is_one_users_failure(
    connect: Connect, http: Mock
) -> None:
    http.post(TRACK, json=SUCCESS)
    http.post(UPDATE, status=401, json={"code": "InvalidJwtPayload", "msg": "no"})
    client = connect(give_up_after=10)
    results = [client.track_event(ADA, "x"), client.update_user(ADA, {})]
    assert codes(results) == ["Success", "InvalidJwtPayload"]
    assert client.health.ending is None
    assert not client.stop.is_set()


@pytest.mark.parametrize(
    "useless",
    [
        {"status": 503},
        {"status": 503, "json": REFUSAL},
        {"status": 404},
        {"body": "x"},
        {"body": exceptions.SSLError()},
    ],
)
def test_a_client_gives_up_after_calls_in_a_row_that_were_not_answered_usefully(
    connect: Connect, http: Mock, useless: dict[str, Any]
) -> None:
    http.post(UPDATE, **useless)
    http.post(TRACK, status=400, json={"code": "BadParams", "msg": "no"})
    client = connect(give_up_after=3, max_retries=2)
    seen = []
    for endpoint in (UPDATE, UPDATE, TRACK, UPDATE, UPDATE, UPDATE):
        client._make_request_with_retry("POST", endpoint, {"email": ADA}, "x")
        seen.append((client.health.was_answered, client.health.ending))
    assert seen[:3] == [(False, None), (False, None), (True, None)]
    assert seen[3:5] == [(True, None), (True, None)]
    assert client.health.ending == client.health.no_answer
    assert client.update_user(ADA, {}) == NOT_SENT.result


def test_calls_in_a_row_are_counted_by_operation(connect: Connect, http: Mock) -> None:
    for endpoint in (UPDATE, TRACK):
        http.post(endpoint, status=503)
    client = connect(give_up_after=3, max_retries=1)
    for _ in range(2):
        client.update_user(ADA, {})
        client.track_event(ADA, "x")
    assert client.health.ending is None, "four calls, but of two rows"
    client.track_event(ADA, "x")
    assert client.health.ending is not None


def test_a_run_that_is_aborted_twice_stays_an_aborted_one() -> None:
    stop = Stop()
    stop.abort()
    stop.abort()
    assert stop.is_abort
    interrupted = Stop()
    interrupted.set()
    interrupted.abort()
    assert not interrupted.is_abort

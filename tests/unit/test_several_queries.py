"""One client sends the rows of several queries, one after the other."""

from __future__ import annotations

from iterable_client import NOT_SENT
from tests.unit.clients import ADA, REFUSAL, SUCCESS, TRACK, UPDATE, Connect, Mock, VirtualTime


def test_counts_are_of_one_query_and_those_of_the_last_stay_as_they_are(
    connect: Connect, http: Mock
) -> None:
    http.post(UPDATE, status=503, json=REFUSAL)
    http.post(TRACK, json=SUCCESS)
    client = connect(max_retries=2)
    client.update_user(ADA, {})
    first = client.counts
    client.begin_query()
    client.track_event(ADA, "x")
    assert first == {"sent": 2, "retried": 1, "rate_limited": 0}
    assert client.counts == {"sent": 1, "retried": 0, "rate_limited": 0}


def test_calls_in_a_row_without_an_answer_are_counted_anew(connect: Connect, http: Mock) -> None:
    http.post(UPDATE, status=503, json=REFUSAL)
    client = connect(give_up_after=3, max_retries=1)
    for _ in range(2):
        client.update_user(ADA, {})
    client.begin_query()
    for _ in range(2):
        client.update_user(ADA, {})
        assert client.health.ending is None
    client.update_user(ADA, {})
    assert client.health.ending == client.health.no_answer


def test_whether_iterable_answered_is_of_one_query(connect: Connect, http: Mock) -> None:
    http.post(TRACK, json=SUCCESS)
    client = connect(give_up_after=3)
    client.track_event(ADA, "x")
    assert client.health.was_answered
    client.begin_query()
    assert not client.health.was_answered


def test_a_secret_that_was_right_in_the_first_query_is_right_in_the_next(
    connect: Connect, http: Mock
) -> None:
    http.post(TRACK, json=SUCCESS)
    http.post(UPDATE, status=400, json={"code": "InvalidJwtPayload", "msg": "no"})
    client = connect(give_up_after=3)
    client.track_event(ADA, "x")
    client.begin_query()
    client.update_user(ADA, {})
    assert client.health.ending is None


def test_what_ended_the_run_stays(connect: Connect, http: Mock) -> None:
    http.post(UPDATE, status=401, json={"code": "BadApiKey", "msg": "no"})
    client = connect(give_up_after=3)
    client.update_user(ADA, {})
    client.begin_query()
    assert "refused the credentials" in (client.health.ending or "")
    assert client.update_user(ADA, {}) == NOT_SENT.result


def test_the_pace_stays(connect: Connect, http: Mock, time: VirtualTime) -> None:
    http.post(UPDATE, status=429, json={"code": "RateLimitExceeded", "msg": "no"})
    http.post(TRACK, json=SUCCESS)
    client = connect(rate_limit_factor=1 / 500, max_retries=1)  # a call a second
    client.update_user(ADA, {})
    client.begin_query()
    client.update_user(ADA, {})
    assert sum(time.waits) > 0.9

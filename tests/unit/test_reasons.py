"""Why items of a bulk request failed: the first of each reason are sent again singly to hear it."""

from __future__ import annotations

import pytest

from iterable_client import (
    NOT_SENT,
    USERS_BULK_UPDATE,
    IterableClient,
    Kind,
    Outcome,
    in_own_words,
    user_update,
)
from tests.fake_iterable import FakeIterable, Fault
from tests.unit.bulk import A, B, describe, items, send_bulk, sent_singly
from tests.unit.clients import ALL, ONCE, Connect, Mock
from tests.wire import Json

MISMATCHED = "RequestFieldsTypesMismatched"
NAMES = [f"u{number}@x.io" for number in range(5)]
BULK_WORDS = "so says Iterable's answer to the bulk request"


def send(client: IterableClient, text: str) -> list[Outcome]:
    """What becomes of user updates in bulk."""
    return client.send(USERS_BULK_UPDATE, items(text)).outcomes


def test_a_row_that_fails_in_bulk_has_iterables_own_words_and_their_status(
    connect: Connect, server: FakeIterable
) -> None:
    server.add_user_fields({"n": "date"})
    [outcome] = send(connect(server), A)
    assert (outcome.kind, outcome.status) == (Kind.FAILED, 400)
    assert outcome.answer["code"] == MISMATCHED
    assert "Field 'n' already exists for type 'user'" in outcome.answer["msg"]
    assert list(outcome.answer["params"]["validationErrors"]) == ["n"]


def test_the_first_three_rows_of_each_reason_are_sent_again_and_no_more(
    connect: Connect, server: FakeIterable
) -> None:
    server.forgotten.update(NAMES)
    server.conflicts.update({A, B})
    client = connect(server)
    outcomes = [*send(client, " ".join(NAMES[:2])), *send(client, " ".join([*NAMES[2:], A, B]))]
    codes = [describe(outcome) for outcome in outcomes]
    assert codes == ["ForgottenUserError"] * 5 + ["EmailAlreadyExists"] * 2
    assert [outcome.status for outcome in outcomes] == [409, 409, 409, 200, 200, 409, 409]
    told = [outcome.answer["msg"] == BULK_WORDS for outcome in outcomes]
    assert told == [False] * 3 + [True] * 2 + [False] * 2
    again = {body["email"] for body in sent_singly(server)}
    assert again == {*NAMES[:3], A, B}


def test_the_next_query_hears_of_its_own_first_rows(connect: Connect, server: FakeIterable) -> None:
    server.forgotten.update(NAMES)
    client = connect(server)
    send(client, " ".join(NAMES))
    client.begin_query()
    send(client, " ".join(NAMES))
    assert server.counts["/api/users/update", 409] == 3 + 3


def test_a_row_that_succeeds_when_it_is_sent_again_has_succeeded(
    connect: Connect, server: FakeIterable
) -> None:
    answer = '{"successCount": 1, "failCount": 1, "invalidEmails": ["a@x.io"]}'
    server.add_fault("status", path="ulk", status=200, body=answer)
    payloads, outcomes = send_bulk(connect(server), f"{A} {B}")
    assert outcomes == ["again", "ok"]
    assert sent_singly(server) == payloads[:1]


@pytest.mark.parametrize(
    ("fault", "attempts"),
    [
        ({"kind": "drop_before"}, ALL),
        ({"kind": "status", "status": 429}, ALL),
        ({"kind": "status", "status": 500}, ALL),
        ({"kind": "html", "status": 404}, ONCE),
        ({"kind": "status", "status": 401}, ONCE),
        ({"kind": "status", "status": 403}, ONCE),
    ],
)
def test_a_row_whose_second_call_gets_no_answer_about_it_keeps_what_the_bulk_answer_says(
    connect: Connect, server: FakeIterable, fault: Json, attempts: int
) -> None:
    server.forgotten.add(A)
    struck = server.add_fault(path="users/update", **fault)
    [outcome] = send(connect(server), A)
    assert (describe(outcome), outcome.status) == ("ForgottenUserError", 200)
    assert outcome.answer["msg"] == BULK_WORDS
    assert struck.hits == attempts


def test_refused_credentials_end_a_run_in_a_second_call_too(
    connect: Connect, server: FakeIterable
) -> None:
    server.forgotten.add(A)
    server.add_fault("status", status=401, path="users/update")
    client = connect(server, give_up_after=10)
    [outcome] = send(client, A)
    assert describe(outcome) == "ForgottenUserError"
    assert "refused the credentials" in (client.health.ending or "")


def test_a_stop_leaves_what_the_bulk_answer_says(connect: Connect, server: FakeIterable) -> None:
    server.forgotten.add(A)
    client = connect(server)

    class StopsTheClient(Fault):
        def strikes(self, path: str, body: object) -> bool:
            client.stop.set()
            return False

    server.set_faults([StopsTheClient("status")])
    [outcome] = send(client, A)
    assert (describe(outcome), outcome.status) == ("ForgottenUserError", 200)
    assert len(server.requests) == 1


def test_a_user_who_fails_twice_in_a_request_is_sent_again_in_order(
    connect: Connect, server: FakeIterable
) -> None:
    server.forgotten.add(A)
    payloads, outcomes = send_bulk(connect(server), f"{A} {B} {A}")
    assert outcomes == ["ForgottenUserError", "ok", "ForgottenUserError"]
    bodies = [seen.body for seen in server.requests if seen.path == "/api/users/update"]
    assert bodies == [payloads[0], payloads[2]]


NAMED = Outcome(Kind.FAILED, {"code": MISMATCHED, "msg": BULK_WORDS, "bulk": True}, 200)
SUCCEEDED = Outcome(Kind.ACCEPTED, {"code": "Success", "msg": ""}, 200)


@pytest.mark.parametrize(
    ("again", "expected"),
    [
        (SUCCEEDED, SUCCEEDED),
        (
            Outcome(Kind.FAILED, {"code": "BadParams", "msg": "n is too long"}, 400),
            Outcome(Kind.FAILED, {"code": MISMATCHED, "msg": "n is too long"}, 400),
        ),
        (
            Outcome(Kind.FAILED, {"code": "DisallowedEventName", "msg": "x is disallowed"}, 200),
            Outcome(Kind.FAILED, {"code": MISMATCHED, "msg": "x is disallowed"}, 200),
        ),
        (Outcome(Kind.IN_DOUBT, {"code": "GenericError", "msg": "no"}, 503), NAMED),
        (Outcome(Kind.FAILED, {"code": "Timeout", "msg": "timed out"}), NAMED),
        (Outcome(Kind.FAILED, {"code": "BadApiKey", "msg": "no"}, 400), NAMED),
        (NOT_SENT, NAMED),
    ],
)
def test_the_code_is_the_bulk_answers_and_the_words_are_the_single_ones(
    again: Outcome, expected: Outcome
) -> None:
    assert in_own_words(NAMED, again) == expected


def test_what_was_refused_as_a_whole_is_asked_once_and_counts_for_no_reason(
    connect: Connect, http: Mock
) -> None:
    bulk = "https://api.iterable.com/api/users/bulkUpdate"
    single = "https://api.iterable.com/api/users/update"
    refused = {"code": MISMATCHED, "msg": "Field 'n'"}
    http.post(bulk, status=400, json=refused)
    http.post(single, status=400, json=refused)
    payloads = [user_update("email", name, {}) for name in NAMES]
    outcomes = connect().send(USERS_BULK_UPDATE, payloads).outcomes
    assert outcomes == [Outcome(Kind.FAILED, refused, 400)] * 5
    assert len(http.calls) == 1 + 5

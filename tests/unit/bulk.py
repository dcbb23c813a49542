"""Bulk requests in short: items written as words, and answers like Iterable's."""

from __future__ import annotations

from typing import Any

from iterable_client import (
    BULK_ACCEPTED,
    EVENTS_TRACK_BULK,
    USERS_BULK_UPDATE,
    IterableClient,
    Outcome,
    event,
    user_update,
)
from tests.fake_iterable import FakeIterable
from tests.wire import Json

A, B = "a@x.io", "b@x.io"
THREE_USERS = "a@x.io b@x.io c@x.io"
THREE_EVENTS = "a@x.io/x b@x.io/x c@x.io/x"
BOTH_BULK = (THREE_USERS, THREE_EVENTS)
SINGLE_PATHS = ("/api/users/update", "/api/events/track")


def item(text: str, number: int) -> Json:
    """The payload of "user" or, for an event, "user/name"."""
    user, _, name = text.partition("/")
    kind = "email" if "@" in user else "userId"
    fields = {"n": number}
    if name:
        return event(kind, user, name, fields, 1768293912, f"e{number}")
    return user_update(kind, user, fields)


def items(text: str) -> list[Json]:
    """The payloads of several, separated by blanks."""
    return [item(word, number) for number, word in enumerate(text.split())]


def describe(outcome: Outcome) -> str:
    """The code of a failure, "ok" of a bulk request's item, "again" if sent again, and well."""
    if not outcome.is_success:
        return str(outcome.answer["code"])
    return "ok" if outcome == BULK_ACCEPTED else "again"


def send_bulk(client: IterableClient, text: str) -> tuple[list[Json], list[str]]:
    """Sends items in bulk; returns their payloads and outcomes."""
    operation = EVENTS_TRACK_BULK if "/" in text else USERS_BULK_UPDATE
    payloads = items(text)
    delivery = client.send(operation, payloads)
    return payloads, [describe(outcome) for outcome in delivery.outcomes]


def sent_singly(server: FakeIterable) -> list[Json]:
    """The bodies of single requests, in the order of the items."""
    bodies = [seen.body for seen in server.requests if seen.path in SINGLE_PATHS]
    return sorted(bodies, key=lambda body: int(body["dataFields"]["n"]))


def told(succeeded: int, failed: int, /, **failed_updates: Any) -> Json:
    """An answer like UserBulkUpdateListResponse and BulkTrackResponse."""
    names = ("invalidEmails", "invalidUserIds", "notFoundEmails", "forgottenUserIds")
    no_lists: Json = {name: [] for name in names}
    return {
        "successCount": succeeded,
        "failCount": failed,
        "createdFields": [],
        "filteredOutFields": [],
        "failedUpdates": {**no_lists, **failed_updates},
        "invalidEmails": [],
        "invalidUserIds": [],
    }

"""The calls of a run, each by what it does and to whom: as the stand-in saw them, as recorded."""

from __future__ import annotations

from collections.abc import Iterable

from tests.fake_iterable import Seen
from tests.project import Json
from tests.wire import items

Calls = set[tuple[str, str]]  # "users_update" and the email, "events_track" and the event's id


def calls_in(seen: Seen) -> Calls:
    """The calls that a request makes, a single or a bulk one."""
    if "users/" in seen.path:
        return {("users_update", user["email"]) for user in items(seen)}
    return {("events_track", event["id"]) for event in items(seen)}


def calls_of_all(requests: Iterable[Seen]) -> Calls:
    """The calls that these requests make."""
    return set().union(*(calls_in(seen) for seen in requests))


def delivered(requests: Iterable[Seen]) -> Calls:
    """The calls answered with success, which nothing but a fault then kept from the client."""
    return calls_of_all(seen for seen in requests if seen.status == 200)


def all_calls(results: Json) -> Calls:
    """The calls of all rows in the results file."""
    records = results["records"]
    updates = {("users_update", record["email"]) for record in records}
    return updates | {("events_track", record["event_id"]) for record in records}


def recorded(results: Json) -> Calls:
    """The calls that the results file calls a success."""
    calls = Calls()
    for record in results["records"]:
        if record["users_update"]["success"]:
            calls.add(("users_update", record["email"]))
        if record["events_track"]["success"]:
            calls.add(("events_track", record["event_id"]))
    return calls


def event_ids(results: Json) -> set[str]:
    """The ids of the events in the results file."""
    return {record["event_id"] for record in results["records"]}

"""Ids and payloads of events and user updates."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timezone
from itertools import permutations
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from iterable_client import IterableClient, event, make_event_id, user_update
from tests.unit.clients import ADA, SUCCESS, TRACK, Mock, VirtualTime
from tests.wire import Json, event_id

UTC, BERLIN = timezone.utc, ZoneInfo("Europe/Berlin")
MOMENT = datetime(2026, 1, 13, 8, 45, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("parts", "id_"),
    [
        (
            ["ada@example.com", "page_view", [1, "2026-01-13 08:45:12 +00:00", "pricing"]],
            "7a1528f6-b9e9-547d-ad4f-dddb7cfd5794",
        ),
        (
            ["42", "signup", 1768293912, {"plan": "pró", "n": 1.5, "x": None, "a": True}],
            "892cb916-4973-57db-be89-b69cbcb15ead",
        ),
        (["é@example.com", "x"], "1e6ac3e2-adae-5f55-92c9-3914f7587788"),
    ],
)
def test_an_event_id_is_the_uuid5_of_canonical_json_and_never_changes(
    parts: list[Any], id_: str
) -> None:
    """Another form would add every event ever sent once more."""
    assert make_event_id(parts) == event_id(*parts) == id_


def test_an_event_id_tells_all_its_parts_and_not_the_order_of_fields() -> None:
    fields = {"a": 1, "b": 2, "c": 3}
    ids = {make_event_id(["ada", "x", dict(order)]) for order in permutations(fields.items())}
    assert len(ids) == 1
    different = (
        ["a", "x", 1],
        ["a", "x", "1"],
        ["a", "x", 1.0],
        ["a", "x", None],
        ["ax", 1],
        ["x", "a", 1],
    )
    assert len({make_event_id(parts) for parts in different}) == len(different)


# the properties of Iterable's API description, version 1.8: OptionalApiUser and TrackRequest
USER = {
    "dataFields": dict,
    "email": str,
    "mergeNestedObjects": bool,
    "preferUserId": bool,
    "userId": str,
}


EVENT = {
    "campaignId": int,
    "createNewFields": bool,
    "createdAt": int,
    "dataFields": dict,
    "email": str,
    "eventName": str,
    "id": str,
    "templateId": int,
    "userId": str,
}


VIEW = {"eventName": "view", "dataFields": {}, "id": "e1"}


@pytest.mark.parametrize(
    ("payload", "properties", "expected"),
    [
        (
            user_update("email", "a@x.io", {"n": 1}),
            USER,
            {"email": "a@x.io", "dataFields": {"n": 1}},
        ),
        (
            user_update("userId", "7", {}),
            USER,
            {"userId": "7", "dataFields": {}, "preferUserId": True},
        ),
        (
            event("email", "a@x.io", "view", {"n": 1}, 5, "e1"),
            EVENT,
            {"email": "a@x.io", **VIEW, "dataFields": {"n": 1}, "createdAt": 5},
        ),
        (
            event("userId", "7", "view", {}, 0, "e1"),
            EVENT,
            {"userId": "7", **VIEW, "createdAt": 0},
        ),
        (
            event("userId", "7", "view", {}, None, "e1"),
            EVENT,
            {"userId": "7", **VIEW},
        ),
    ],
)
def test_a_payload_has_none_but_iterables_properties(
    payload: Json, properties: dict[str, type], expected: Json
) -> None:
    assert payload == expected
    for name, value in payload.items():
        assert type(value) is properties[name]


Track = Callable[..., Json]


@pytest.fixture
def track(http: Mock, time: VirtualTime) -> Track:
    """A track_event that returns the body it sent."""
    http.post(TRACK, json=SUCCESS)
    client = IterableClient("key", zone=BERLIN, stop=time)

    def track(*args: Any, **more: Any) -> Json:
        assert client.track_event(*args, **more)[0]
        body: Json = json.loads(http.calls[-1].request.body or "")
        return body

    return track


def test_an_event_happens_now_unless_told_and_its_id_follows_from_user_name_time_and_fields(
    track: Track, time: VirtualTime
) -> None:
    time.seconds = 1768293912.9
    fields = {"page": "pricing"}
    body = track("Ada@example.com", "page_view", fields)
    assert body == {
        "email": ADA,
        "eventName": "page_view",
        "dataFields": fields,
        "createdAt": 1768293912,
        "id": event_id(ADA, "page_view", 1768293912, fields),
    }
    assert track(ADA, "page_view", fields, created_at=MOMENT) == body
    assert track(ADA, "page_view", fields, event_id="mine") == {**body, "id": "mine"}


@pytest.mark.parametrize(
    ("created_at", "seconds"),
    [
        (0, 0),
        (1768293912.9, 1768293912),
        (MOMENT, 1768293912),
        (datetime(2026, 1, 13, 9, 45, 12, 5), 1768293912),
        (-0.5, -1),
        (datetime(1969, 12, 31, 23, 59, 59, 500000, UTC), -1),
    ],
)
def test_an_event_is_created_at_whole_seconds_not_later_than_told(
    track: Track, created_at: Any, seconds: int
) -> None:
    assert track(ADA, "x", created_at=created_at)["createdAt"] == seconds


@pytest.mark.parametrize("created_at", [float("nan"), float("inf")])
def test_an_event_at_no_time_is_a_failure_and_not_sent(http: Mock, created_at: Any) -> None:
    ok, answer = IterableClient("key").track_event(ADA, "x", created_at=created_at)
    assert (ok, answer["code"]) == (False, "InvalidValue")
    assert len(http.calls) == 0

"""What the stand-in was sent, single and bulk requests alike; event ids apart from the code."""

from __future__ import annotations

import json
import uuid
from typing import Any

from tests.fake_iterable import FakeIterable, Seen

EVENT_IDS = uuid.UUID("6f1d3c52-8a0e-5b7c-9d44-2f6a1e0b9c73")

Json = dict[str, Any]


def event_id(*parts: object) -> str:
    """The id of the event that these parts tell from others.

    Any other would double every event ever sent, so it is worked out here and not by the code.
    """
    canonical = json.dumps(parts, separators=(",", ":"), sort_keys=True)
    return str(uuid.uuid5(EVENT_IDS, canonical))


def items(seen: Seen) -> list[Json]:
    """The users or events that a request holds: those of a bulk one, or the only one."""
    if seen.body is None:
        return []
    for name in ("users", "events"):
        if name in seen.body:
            found: list[Json] = seen.body[name]
            return found
    return [seen.body]


def sent_items(server: FakeIterable, kind: str, path: str = "") -> list[Json]:
    """The "users" or "events" of all requests in whose path `path` is, in the order of arrival."""
    requests = [seen for seen in server.requests if f"/api/{kind}/" in seen.path]
    requests = [seen for seen in requests if path in seen.path]
    return [item for seen in requests for item in items(seen)]

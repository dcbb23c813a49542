"""A stand-in for Iterable: a real HTTP server on loopback that refuses what Iterable refuses.

In a test:       with FakeIterable(api_key="k") as server: ... server.url, server.users, server.events ...
As a process:    python -m tests.fake_iterable [--port N] [--latency S] [--no-limits] [--fault JSON] ...
From outside:    GET /_stand_in/stored and /_stand_in/counts, POST /_stand_in/faults and /_stand_in/reset

Its rules come from Iterable's API description (https://api.iterable.com/api/docs, version 1.8) and its pages
on identifying users, JWT-enabled API keys and rate limits. It is stricter in one thing: it refuses properties
that the description does not name. It only checks the types of createNewFields, mergeNestedObjects, campaignId
and templateId, does not act on them; and an event does not make a profile in `users`.

The file reads from the inside out: rules (pure functions), the project (what is stored), faults, the server.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import copy
import hmac
import json
import math
import os
import random
import re
import signal
import socket
import ssl
import struct
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Iterable
from dataclasses import dataclass, field
from http.client import responses
from typing import Any, NamedTuple, TypeVar

Json = dict[str, Any]
T = TypeVar("T")

DEFAULT_API_KEY = "test-api-key"
YEAR = 365 * 24 * 3600

# ------------------------------------------------------------------------------------------------- rules

# The properties that requests may have (ApiUserUpdateRequest, OptionalApiUser, TrackRequest and the bulk ones).
Types = dict[str, type]
USER: Types = {"email": str, "userId": str, "dataFields": dict, "preferUserId": bool, "mergeNestedObjects": bool}
SINGLE_USER: Types = {**USER, "createNewFields": bool}
EVENT: Types = {"email": str, "userId": str, "dataFields": dict, "eventName": str, "id": str, "createdAt": int,
                "createNewFields": bool, "campaignId": int, "templateId": int}
BULK_USERS: Types = {"users": list, "createNewFields": bool}
BULK_EVENTS: Types = {"events": list}

# Why a user is refused: what a single operation answers (status, code by email, code by userId). In a bulk
# answer the same words, with Emails or UserIds after them, name the lists of failedUpdates.
REASONS = {
    "invalid": (400, "InvalidEmailAddressError", "InvalidUserIdError"),
    "notFound": (400, "UnknownEmailError", "UnknownUserIdError"),
    "forgotten": (409, "ForgottenUserError", "ForgottenUserError"),
    "conflict": (409, "EmailAlreadyExists", "UserIdAlreadyExists"),
    "invalidData": (400, "RequestFieldsTypesMismatched", "RequestFieldsTypesMismatched"),
}
EVENT_REASONS = ("invalid", "notFound", "forgotten")  # the lists that FailedEventUpdates has

FAMILIES = {str: "string", int: "long", float: "double", bool: "boolean", dict: "object", list: "array"}
INT64 = range(-(2**63), 2**63)
EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")
USER_ID = re.compile(r"[ -~]{0,51}[!-~]")  # printable ASCII, at most 52, no trailing space


class IterableError(Exception):
    """An answer other than success, with one of Iterable's codes (IterableApiResponse)."""

    def __init__(self, status: int, code: str, msg: str, params: Json | None = None) -> None:
        super().__init__(msg)
        self.status = status
        self.answer: Json = {"code": code, "msg": msg, "params": params}


class BadParamsError(IterableError):
    """The body is JSON, but not what the operation takes."""

    def __init__(self, msg: str) -> None:
        super().__init__(400, "BadParams", msg)


def decode_json(content_type: str, body: bytes) -> Any:
    """The parsed body; BadJsonBody unless it is declared as JSON and is UTF-8 JSON, without NaN."""

    def refuse_constant(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise IterableError(400, "BadJsonBody", "Expected Content-Type: application/json")
    try:
        return json.loads(body.decode("utf-8"), parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        raise IterableError(400, "BadJsonBody", f"Invalid JSON: {error}") from None


def check_types(item: Any, types: Types) -> None:
    """BadParams unless `item` is an object with none but these properties, each of its type."""
    if type(item) is not dict:
        raise BadParamsError("A user or event must be an object")
    for name, value in item.items():
        if name not in types:
            raise BadParamsError(f"Unknown property {name!r}")  # stricter than Iterable, which ignores it
        if type(value) is not types[name]:  # exact: in JSON, true is not an integer
            raise BadParamsError(f"{name} must be of type {types[name].__name__}")


def check_item(item: Any, types: Types) -> None:
    """BadParams unless `item` is a well-formed user or event."""
    check_types(item, types)
    if ("email" in item) == ("userId" in item):
        raise BadParamsError("Exactly one of email and userId is needed")
    if types is not EVENT:
        if not item.get("dataFields", {}).keys().isdisjoint(("email", "userId")):
            raise BadParamsError("email or userId among the dataFields would change the user's identity")
    elif not item.get("eventName"):
        raise BadParamsError("eventName is required")
    elif not 1 <= len(item.get("id", "-").encode("utf-8", "surrogatepass")) <= 512:
        raise BadParamsError("id must have 1 to 512 bytes")
    elif abs(item.get("createdAt", 0)) >= 10**11:
        raise BadParamsError("createdAt must be in Unix seconds")


def learn_types(fields: Json, known: dict[str, str], prefix: str = "") -> dict[str, str] | None:
    """The field types that `fields` adds to the `known` ones; None where a value is of another type.

    Iterable fixes a field's type at first sight ("Types of data fields must match the types sent in previous
    requests"); parts of an object are fields too. null has no type; an integer fits a double field.
    """
    new: dict[str, str] = {}
    for name, value in fields.items():
        if value is None:
            continue
        path, family = prefix + name, FAMILIES[type(value)]
        fixed = known.get(path, family)
        if fixed != family and (fixed, family) != ("double", "long"):
            return None
        if family == "long" and value not in INT64:
            return None
        if path not in known:
            new[path] = family
        if family == "object":
            inner = learn_types(value, known, path + ".")
            if inner is None:
                return None
            new.update(inner)
    return new


def verify_jwt(authorization: str | None, secret: str, now: float) -> Json:
    """The claims of a valid `Bearer` token, as Iterable's JWT-enabled API keys need it (HS256)."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme != "Bearer" or token.count(".") != 2:
        raise IterableError(401, "BadAuthorizationHeader", "Expected the header Authorization: Bearer <JWT>")
    signed, _, signature = token.rpartition(".")
    expected = hmac.digest(secret.encode(), signed.encode(), "sha256")
    try:
        header, claims = (json.loads(_base64url(part)) for part in signed.split("."))
        if not hmac.compare_digest(_base64url(signature), expected) or header["alg"] != "HS256":
            raise ValueError("the signature is not an HS256 one with this secret")
        issued, expires = claims["iat"], claims["exp"]
        if type(issued) is not int or type(expires) is not int:
            raise ValueError("iat and exp must be integers")
        if expires <= now or issued > now + 60 or expires - issued > YEAR:
            raise ValueError("expired, issued in the future, or valid for more than a year")
        if [type(claims[name]) for name in ("email", "userId") if name in claims] != [str]:
            raise ValueError("exactly one of email and userId is needed, as text")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise IterableError(401, "InvalidJwtPayload", f"Invalid JWT: {error}") from None
    return dict(claims)


def _base64url(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


class Bucket:
    """A token bucket that holds one second's worth of tokens; each request takes one."""

    def __init__(self, rate: float, now: float) -> None:
        self.rate, self.capacity = rate, max(1.0, rate)
        self.tokens, self.at = self.capacity, now

    def take(self, now: float) -> None:
        """Take a token; RateLimitExceeded, without Retry-After, where there is none."""
        self.tokens = min(self.capacity, self.tokens + (now - self.at) * self.rate)
        self.at = now
        if self.tokens < 1:
            wait = math.ceil((1 - self.tokens) / self.rate)
            params = {"rateLimitLimit": int(self.capacity), "rateLimitRemaining": 0, "rateLimitReset": wait}
            raise IterableError(429, "RateLimitExceeded", "Rate limit exceeded", params)
        self.tokens -= 1


# ----------------------------------------------------------------------------------------------- project


@dataclass
class Tally:
    """What became of the users or events of one request."""

    accepted: list[Json] = field(default_factory=list)
    refused: list[tuple[str, Json]] = field(default_factory=list)  # with the reasons
    disallowed: list[str] = field(default_factory=list)  # event names
    created: set[str] = field(default_factory=set)  # data fields
    filtered: set[str] = field(default_factory=set)  # data fields

    def bulk_answer(self, reasons: Iterable[str]) -> Json:
        """UserBulkUpdateListResponse or BulkTrackResponse; users are named as they were sent."""
        failed: dict[str, list[str]] = {
            reason + kind: [] for reason in reasons for kind in ("Emails", "UserIds")}
        for reason, item in self.refused:
            kind, name = ("Emails", item["email"]) if "email" in item else ("UserIds", item["userId"])
            failed[reason + kind].append(name)
        return {
            "successCount": len(self.accepted), "failCount": len(self.refused) + len(self.disallowed),
            "createdFields": sorted(self.created), "filteredOutFields": sorted(self.filtered),
            "failedUpdates": failed,
            "invalidEmails": failed["invalidEmails"], "invalidUserIds": failed["invalidUserIds"],  # deprecated
        }


class Project:
    """What one project stores, and whom and what it refuses: sets of userIds and lower-case emails."""

    def __init__(self, allowed_event_names: Collection[str] | None, disallowed_event_names: Collection[str]):
        self.allowed_event_names = allowed_event_names
        self.disallowed_event_names = disallowed_event_names
        self.forgotten: set[str] = set()
        self.invalid_data: set[str] = set()
        self.not_found: set[str] = set()
        self.conflicts: set[str] = set()  # refuse user updates only
        self.dropped_fields: set[str] = set()
        self._forget()

    def _forget(self) -> None:
        """Empty the project; whom and what it refuses stays."""
        self._users: dict[str, Json] = {}
        self._events: dict[str, Json] = {}
        self._event_writes: Counter[str] = Counter()
        self._user_types: dict[str, str] = {}
        self._event_types: dict[str, dict[str, str]] = {}

    def update_user(self, users: list[Json]) -> Json:
        """POST /api/users/update"""
        tally = self._update(users)
        if tally.refused:
            raise refusal(*tally.refused[0])
        return {"code": "Success", "msg": "", "params": None}

    def bulk_update(self, users: list[Json]) -> Json:
        """POST /api/users/bulkUpdate: each user stands alone."""
        return self._update(users).bulk_answer(REASONS)

    def track(self, events: list[Json]) -> Json:
        """POST /api/events/track"""
        tally = self._track(events)
        if tally.refused:
            raise refusal(*tally.refused[0])
        if tally.disallowed:
            msg = f"Event with name {tally.disallowed[0]} is disallowed from tracking."
            return {"code": "Success", "msg": msg, "params": None}
        return {"code": "Success", "msg": "", "params": {"id": tally.accepted[0]["id"]}}

    def track_bulk(self, events: list[Json]) -> Json:
        """POST /api/events/trackBulk: one event of a mismatched type spoils the whole request."""
        tally = self._track(events)
        names = sorted(set(tally.disallowed))
        return {**tally.bulk_answer(EVENT_REASONS), "disallowedEventNames": names}

    def _refused(self, item: Json) -> str | None:
        """The reason why a user, or a user's event, is refused, before its dataFields are looked at."""
        by_email, key = "email" in item, user_key(item)
        if not (len(key) <= 254 and EMAIL.fullmatch(key) if by_email else USER_ID.fullmatch(key)):
            return "invalid"
        if key in self.forgotten:
            return "forgotten"
        if key in self.not_found:
            return "notFound"
        return "invalidData" if key in self.invalid_data else None

    def _update(self, users: list[Json]) -> Tally:
        """Merge the dataFields of each user into the profile, unless the user is refused."""
        tally = Tally()
        for user in users:
            key, reason = user_key(user), self._refused(user)
            fields = self._kept(user, tally).get("dataFields", {})
            new = learn_types(fields, self._user_types)
            if reason is None and key in self.conflicts:
                reason = "conflict"
            elif reason is None and "userId" in user and not (key in self._users or user.get("preferUserId")):
                reason = "notFound"
            reason = reason or ("invalidData" if new is None else None)
            if reason is not None:
                tally.refused.append((reason, user))
                continue
            self._user_types.update(new or {})
            tally.created.update(new or ())
            tally.accepted.append(user)
            profile = {**self._users.get(key, {}), **fields}  # a new one: copies of `users` stay as they are
            self._users[key] = {name: value for name, value in profile.items() if value is not None}
        return tally

    def _track(self, events: list[Json]) -> Tally:
        """Store the events that are not refused, under an id made up where there is none; a known id is replaced."""
        tally = Tally()
        types = {name: dict(self._event_types.get(name, {})) for name in {e["eventName"] for e in events}}
        for event in events:
            name = event["eventName"]
            allowed = self.allowed_event_names is None or name in self.allowed_event_names
            if not allowed or name in self.disallowed_event_names:
                tally.disallowed.append(name)
                continue
            kept = self._kept(event, tally)
            new = learn_types(kept.get("dataFields", {}), types[name])
            reason = self._refused(event) or ("invalidData" if new is None else None)
            if reason == "invalidData":
                raise refusal(reason, event)
            if reason is not None:
                tally.refused.append((reason, event))
                continue
            types[name].update(new or {})
            tally.created.update(new or ())
            tally.accepted.append(kept if "id" in kept else {**kept, "id": uuid.uuid4().hex})
        self._event_types.update(types)
        self._events.update((event["id"], event) for event in tally.accepted)
        self._event_writes.update(event["id"] for event in tally.accepted)
        return tally

    def _kept(self, item: Json, tally: Tally) -> Json:
        """The user or event without the data fields that the project drops."""
        dropped = self.dropped_fields.intersection(item.get("dataFields", ()))
        if not dropped:
            return item
        tally.filtered |= dropped
        return {**item, "dataFields": {k: v for k, v in item["dataFields"].items() if k not in dropped}}


def user_key(item: Json) -> str:
    """What a user is stored under: emails in lower case, as Iterable stores them."""
    return str(item["email"].lower() if "email" in item else item["userId"])


def refusal(reason: str, item: Json) -> IterableError:
    """What a single operation answers about a refused user or event; names the user as sent."""
    status, email_code, user_id_code = REASONS[reason]
    code, name = (email_code, item["email"]) if "email" in item else (user_id_code, item["userId"])
    return IterableError(status, code, f"{code}: {name}")


class Operation(NamedTuple):
    """One of the four operations."""

    limit: int  # requests/s
    perform: Callable[[Project, list[Json]], Json]
    item: Types  # the properties of a user or event
    bulk: Types | None = None  # the properties of a bulk body, its list first

    def items(self, body: Any) -> list[Json]:
        """The well-formed users or events of a body: one in a single operation; else BadParams."""
        if type(body) is not dict:
            raise IterableError(400, "BadJsonBody", "The body must be a JSON object")
        items: list[Json] = [body]
        if self.bulk is not None:
            check_types(body, self.bulk)
            name = next(iter(self.bulk))
            if name not in body:
                raise BadParamsError(f"{name} is required")
            items = body[name]
        for item in items:
            check_item(item, self.item)
        return items


OPERATIONS = {
    "/api/users/update": Operation(500, Project.update_user, SINGLE_USER),
    "/api/users/bulkUpdate": Operation(5, Project.bulk_update, USER, BULK_USERS),
    "/api/events/track": Operation(2000, Project.track, EVENT),
    "/api/events/trackBulk": Operation(10, Project.track_bulk, EVENT, BULK_EVENTS),
}

# ------------------------------------------------------------------------------------------------ faults

REFUSING = {"status": 500, "html": 502, "redirect": 302, "echo_headers": 401}  # with their usual status
STORING = {"drop_after", "truncated", "empty"}
KINDS = {*REFUSING, *STORING, "drop_before", "hang"}
USUAL_CODES = {400: "BadParams", 401: "BadApiKey", 403: "Forbidden", 404: "NotFound", 409: "ExternalKeyConflict",
               413: "BatchTooLarge", 429: "RateLimitExceeded"}


@dataclass
class Fault:
    """A fault that strikes requests whose path contains `path` and whose body names `user`.

    It spares the first `after` of them, strikes with `probability` (drawn with `seed`) and at most `times` times.
    Of several faults the first that strikes is the one. Kinds:

        status        answers `status` with `code`, `msg` and `params`, or `body`; `retry_after` as it stands
        html          answers `status` with a page of HTML, as a gateway does
        redirect      answers 302 (or `status`) to `location`
        echo_headers  answers 401 (or `status`) with a msg that repeats every header of the request
        drop_before   closes the connection without an answer, nothing stored; `reset` tells RST from FIN
        drop_after    the same, but stored
        hang          holds the connection for `seconds`, then closes it; `stored` or not
        truncated     stores, promises a whole answer and sends half
        empty         stores, answers 200 without a body
    """

    kind: str
    path: str | None = None
    user: str | None = None
    times: int | None = None
    probability: float = 1.0
    after: int = 0
    seed: int | None = None
    status: int = 0
    code: str | None = None
    msg: str = "A fault of the stand-in"
    params: Json | None = None
    body: bytes | str | None = None
    content_type: str = "application/json"
    retry_after: str | None = None
    location: str = "/"
    seconds: float = 3600.0
    stored: bool = False
    reset: bool = True
    seen: int = field(default=0, init=False)
    hits: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.kind!r} is no kind of fault; there are {', '.join(sorted(KINDS))}")
        self.status = self.status or REFUSING.get(self.kind, 200)
        self.random = random.Random(self.seed)

    def strikes(self, path: str, body: Any) -> bool:
        """Whether this request is struck; counts it."""
        if (self.path or "") not in path or (self.user and self.user.lower() not in users_in(body)):
            return False
        self.seen += 1
        if self.seen <= self.after or self.hits == self.times or self.random.random() >= self.probability:
            return False
        self.hits += 1
        return True

    def answer(self, request_headers: dict[str, str]) -> bytes:
        """The HTTP answer of a kind that refuses."""
        content_type, body, headers = self.content_type, self.body, ""
        if self.kind == "html":
            content_type, body = "text/html", f"<html><body><h1>Error {self.status}</h1></body></html>"
        elif self.kind == "redirect":
            body, headers = "", f"Location: {self.location}\r\n"
        elif body is None:
            echo = "\n".join(f"{name}: {value}" for name, value in request_headers.items())
            code = self.code or USUAL_CODES.get(self.status, "GenericError")
            msg = echo if self.kind == "echo_headers" else self.msg
            body = json.dumps({"code": code, "msg": msg, "params": self.params})
        if self.retry_after is not None:
            headers += f"Retry-After: {self.retry_after}\r\n"
        return http_answer(self.status, body.encode() if isinstance(body, str) else body, content_type, headers)


def users_in(body: Any) -> set[str]:
    """The identifiers, in lower case, that a body of any shape names."""
    items = [body]
    for name in ("users", "events"):
        listed = body.get(name) if isinstance(body, dict) else None
        items += listed if isinstance(listed, list) else []
    return {str(item.get("email") or item.get("userId")).lower() for item in items if isinstance(item, dict)}


def http_answer(status: int, body: bytes, content_type: str = "application/json", headers: str = "") -> bytes:
    """A whole HTTP answer; `headers` are further header lines."""
    head = (f"HTTP/1.1 {status} {responses.get(status, 'Unknown')}\r\nContent-Type: {content_type}\r\n"
            f"{headers}Content-Length: {len(body)}\r\n\r\n")
    return head.encode("latin-1") + body


# ------------------------------------------------------------------------------------------------ server


class Request(NamedTuple):
    """A request off the wire; `body` is None where it was over the size limit."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes | None


class Reply(NamedTuple):
    """What goes back: bytes, after a delay in seconds; and then how the connection ends, if it does."""

    data: bytes = b""
    delay: float = 0.0
    end: str = "keep"  # or FIN or RST


class Seen(NamedTuple):
    """A recorded request. `status` is 0 where it got no answer; names of `headers` are in lower case."""

    time: float
    path: str
    status: int
    headers: dict[str, str]
    body: Any  # parsed, or None


class FakeIterable(Project):
    """The server: authentication, limits and faults around a project. Use it in a `with` block.

    Arguments: `jwt_secret` makes the key a JWT-enabled one; `latency` is in seconds, before each answer;
    `rate_limit_factor` multiplies every limit; `max_body` is in bytes; `clock` rules the limits.
    What a test reads of it are copies, each taken between two requests.
    """

    def __init__(
        self, *, port: int = 0, api_key: str = DEFAULT_API_KEY, jwt_secret: str | None = None,
        latency: float = 0.0, enforce_limits: bool = True, rate_limit_factor: float = 1.0,
        allowed_event_names: Collection[str] | None = None, disallowed_event_names: Collection[str] = (),
        max_body: int = 4_000_000, record_requests: bool = True, ssl_context: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(allowed_event_names, disallowed_event_names)
        self.port, self.latency, self.max_body = port, latency, max_body
        self._api_key, self._jwt_secret = api_key.encode(), jwt_secret
        self._record_requests, self._ssl_context, self._clock = record_requests, ssl_context, clock
        self._buckets = {path: Bucket(operation.limit * rate_limit_factor, clock())
                         for path, operation in OPERATIONS.items() if enforce_limits}
        self._requests: list[Seen] = []
        self._counts: Counter[tuple[str, int]] = Counter()
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    # what a test reads and sets

    @property
    def url(self) -> str:
        return f"{'https' if self._ssl_context else 'http'}://127.0.0.1:{self.port}"

    @property
    def users(self) -> dict[str, Json]:
        """Merged dataFields by lower-case email or userId."""
        return self._copy(self._users)

    @property
    def events(self) -> dict[str, Json]:
        """Events as received, by id."""
        return self._copy(self._events)

    @property
    def event_writes(self) -> Counter[str]:
        """How often each event id was written."""
        return self._copy(self._event_writes)

    @property
    def requests(self) -> list[Seen]:
        """Every request to the operations, in order of arrival, unless `record_requests` is False."""
        return self._copy(self._requests)

    @property
    def counts(self) -> Counter[tuple[str, int]]:
        """Requests to the operations by (path, status)."""
        return self._copy(self._counts)

    def _copy(self, what: T) -> T:
        with self._lock:
            return copy.copy(what)

    def add_fault(self, kind: str, **details: Any) -> Fault:
        """Add a fault; see Fault for kinds and details. Its `hits` tells how often it struck."""
        fault = Fault(kind, **details)
        with self._lock:
            self._faults.append(fault)
        return fault

    def set_faults(self, faults: Iterable[Fault]) -> None:
        """Replace all faults."""
        with self._lock:
            self._faults = list(faults)

    def reset(self) -> None:
        """Clear what is stored and counted; faults and refused users stay."""
        with self._lock:
            self._forget()
            self._requests, self._counts = [], Counter()

    # life

    def __enter__(self) -> FakeIterable:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fake-iterable", daemon=True)
        self._thread.start()
        try:
            self.up()
        except OSError:  # the port is taken
            self._end_loop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.down()
        self._end_loop()

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def up(self) -> None:
        """Listen; after `down`, on the same port."""
        self._run(self._listen())

    def down(self) -> None:
        """Stop listening and drop every connection."""
        self._run(self._drop_all())

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, backlog=1024, limit=2 * self.max_body, ssl=self._ssl_context)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def _drop_all(self) -> None:
        self._listener.close()
        while connections := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in connections:
                task.cancel()
            await asyncio.wait(connections)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One keep-alive connection, from its first request to its end. (asyncio sets TCP_NODELAY.)"""
        end = "keep"
        try:
            while end == "keep":
                data, delay, end = self.handle(await self._read_request(reader))
                if delay:
                    await asyncio.sleep(delay)
                writer.write(data)
            if end == "RST":  # a socket that may linger for no seconds is closed with a reset
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            else:
                writer.close()
                await writer.wait_closed()
        except (OSError, EOFError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass  # the client or this server went away, or it was not HTTP
        finally:
            writer.transport.abort()

    async def _read_request(self, reader: asyncio.StreamReader) -> Request:
        """The next request. A body over the limit is read and discarded: so the client sees the answer."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head[:-4].split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        try:
            method, target, _ = first.split(" ")
            missing = int(headers.get("content-length", 0))
        except ValueError:
            raise ConnectionAbortedError("not HTTP/1.1") from None
        body = await reader.readexactly(missing) if missing <= self.max_body else None
        while body is None and missing > 0:
            missing -= len(await reader.read(missing)) or missing
        return Request(method, target.partition("?")[0], headers, body)

    # one request

    def handle(self, request: Request) -> Reply:
        """Answer one request; runs on the server's thread, one request after the other."""
        if request.path.startswith("/_stand_in/"):
            return reply(*self._inspect(request))
        body: Any = None
        try:
            body = decode_json(request.headers.get("content-type", ""), request.body or b"")
        except IterableError as error:
            body = error
        with self._lock:
            fault = next((fault for fault in self._faults if fault.strikes(request.path, body)), None)
            status, answer = self._strike(fault, request, body) if fault else self._judge(request, body)
            self._counts[request.path, status] += 1
            if self._record_requests:
                parsed = None if isinstance(body, IterableError) else body
                self._requests.append(Seen(self._clock(), request.path, status, request.headers, parsed))
        last = answer.end == "keep" and request.headers.get("connection", "").lower() == "close"
        return Reply(answer.data, answer.delay + self.latency, "FIN" if last else answer.end)

    def _judge(self, request: Request, body: Any) -> tuple[int, Reply]:
        """The status and the answer that the request deserves."""
        try:
            return 200, reply(200, self._perform(request, body))
        except IterableError as error:
            return error.status, reply(error.status, error.answer)

    def _perform(self, request: Request, body: Any) -> Json:
        """Carry out a request; `body` is parsed, or the error that parsing it gave."""
        operation = OPERATIONS.get(request.path)
        if operation is None:
            raise IterableError(404, "NotFound", f"No such operation: {request.path}")
        if request.method != "POST":
            raise IterableError(405, "GenericError", f"{request.method} is not allowed here")
        claims = self._authenticate(request.headers, operation)
        if request.body is None:
            raise IterableError(413, "BatchTooLarge", f"The body is over {self.max_body} bytes")
        if request.path in self._buckets:
            self._buckets[request.path].take(self._clock())
        if isinstance(body, IterableError):
            raise body
        items = operation.items(body)
        if claims is not None and any(items[0].get(name) != claims.get(name) for name in ("email", "userId")):
            raise IterableError(401, "JwtUserIdentifiersMismatched", "The JWT is another user's")
        return operation.perform(self, items)

    def _authenticate(self, headers: dict[str, str], operation: Operation) -> Json | None:
        """The JWT's claims, or None where the key is an ordinary one."""
        if not hmac.compare_digest(headers.get("api-key", "").encode("latin-1"), self._api_key):
            raise IterableError(401, "BadApiKey", "Invalid API key", {"endpoint": "api"})
        if self._jwt_secret is None:
            return None
        if operation.bulk is not None:
            raise IterableError(401, "Unauthorized", "JWT-enabled API keys cannot call bulk operations")
        return verify_jwt(headers.get("authorization"), self._jwt_secret, time.time())

    def _strike(self, fault: Fault, request: Request, body: Any) -> tuple[int, Reply]:
        """The status recorded (0: no answer) and the answer of a request that a fault struck."""
        if fault.kind in REFUSING:
            return fault.status, Reply(fault.answer(request.headers))
        status, answer = 0, Reply()
        if fault.kind in STORING or fault.stored:
            status, answer = self._judge(request, body)
        if fault.kind == "hang":
            return 0, Reply(delay=fault.seconds, end="FIN")
        if fault.kind == "empty":
            return 200, Reply(http_answer(200, b""))
        if fault.kind == "truncated":
            size = len(answer.data.partition(b"\r\n\r\n")[2])
            return status, Reply(answer.data[: -size // 2], end="FIN")
        return 0, Reply(end="RST" if fault.reset else "FIN")

    def _inspect(self, request: Request) -> tuple[int, Json]:
        """The paths under /_stand_in/, for whoever runs the stand-in as a process; no authentication."""
        what = f"{request.method} {request.path.removeprefix('/_stand_in/')}"
        if what == "GET stored":
            return 200, {"users": self.users, "events": self.events}
        if what == "GET counts":
            requests = {f"{path} {status}": count for (path, status), count in self.counts.items()}
            return 200, {"users": len(self._users), "events": len(self._events),
                         "event_writes": self.event_writes.total(), "requests": requests}
        if what == "POST faults":
            try:
                self.set_faults([Fault(**fault) for fault in json.loads(request.body or b"")])
            except (ValueError, TypeError) as error:
                return 400, {"msg": f"Expected a JSON list of faults: {error}"}
            return 200, {"msg": "Faults set"}
        if what == "POST reset":
            self.reset()
            return 200, {"msg": "Nothing is stored now"}
        return 404, {"msg": "There are GET stored, GET counts, POST faults and POST reset"}


def reply(status: int, answer: Json) -> Reply:
    """A JSON answer."""
    return Reply(http_answer(status, json.dumps(answer).encode()))


# ----------------------------------------------------------------------------------------------- process

def read_fault(text: str) -> Fault:
    """The fault that a JSON object on the command line describes."""
    try:
        return Fault(**json.loads(text))
    except (ValueError, TypeError) as error:
        raise argparse.ArgumentTypeError(f"expected the JSON object of a fault: {error}") from None


ENDING = {signal.SIGTERM, signal.SIGINT}


def main() -> None:
    """Run the stand-in until SIGTERM or SIGINT; credentials come from the environment."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fake_iterable", description="A stand-in for Iterable on 127.0.0.1.",
        epilog="From the environment: ITERABLE_API_KEY (default test-api-key), and ITERABLE_JWT_SECRET, with which "
               "the key is a JWT-enabled one.")
    parser.add_argument("--port", type=int, default=0, help="default: any free one")
    parser.add_argument("--latency", type=float, default=0.0, metavar="SECONDS", help="added to each answer")
    parser.add_argument("--no-limits", action="store_true", help="do not enforce the rate limits")
    parser.add_argument("--rate-limit-factor", type=float, default=1.0, metavar="F", help="times every limit")
    parser.add_argument("--fault", action="append", default=[], metavar="JSON", type=read_fault,
                        help='such as \'{"kind": "status", "status": 503, "times": 2}\'; repeatable')
    parser.add_argument("--exit-with-parent", action="store_true", help="end when standard input closes")
    args = parser.parse_args()
    api_key = os.environ.get("ITERABLE_API_KEY") or DEFAULT_API_KEY
    jwt_secret = os.environ.get("ITERABLE_JWT_SECRET") or None
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)  # before any thread starts: they are waited for below
    server = FakeIterable(
        port=args.port, api_key=api_key, jwt_secret=jwt_secret, latency=args.latency, record_requests=False,
        enforce_limits=not args.no_limits, rate_limit_factor=args.rate_limit_factor)
    server.set_faults(args.fault)
    with server:
        key = api_key if api_key == DEFAULT_API_KEY else "(as here)"
        jwt = " USE_JWT_AUTH=true ITERABLE_JWT_SECRET=(as here)" if jwt_secret else ""
        print(f"Stand-in for Iterable listening on {server.url}")
        print(f"For main.py: ITERABLE_API_BASE_URL={server.url} ITERABLE_API_KEY={key}{jwt}", flush=True)
        if args.exit_with_parent:
            threading.Thread(target=_end_with_stdin, daemon=True).start()
        signal.sigwait(ENDING)


def _end_with_stdin() -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()

"""A client for the operations of Iterable's API that update users and track events.

    client = IterableClient(api_key="...")
    ok, answer = client.update_user("ada@example.com", {"plan_type": "pro"})
    ok, answer = client.track_event("ada@example.com", "page_view", {"page": "pricing"})

It paces itself below Iterable's documented limits, retries what is worth retrying, gives
every event an id so that a repeated call changes nothing, and never raises for what HTTP or
Iterable did: a call returns (success, answer).

Facts about Iterable are from its API description (https://api.iterable.com/api/docs, 1.8)
unless said otherwise.

The file reads from the inside out: operations and values; what a call is and what became of
it; one attempt; retry, pacing, and the health of a run; the client; rows from a pool of
threads; files.
"""

from __future__ import annotations

import _thread
import contextlib
import csv
import http.client
import io
import ipaddress
import itertools
import json
import logging
import math
import os
import random
import re
import socket
import threading
import time
import uuid
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum
from functools import partial
from hashlib import sha1
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlsplit

import jwt
import requests
from jwt.warnings import InsecureKeyLengthWarning
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

log = logging.getLogger("iterable_client")

Json = dict[str, Any]
T = TypeVar("T")

Result = tuple[bool, Json]
"""Whether a call succeeded, and Iterable's own answer, or a {"code", "msg"} of ours."""


# --- Operations ---------------------------------------------------------------


@dataclass(frozen=True)
class Operation:
    """One of Iterable's operations, with its limit in requests per second and project."""

    name: str
    per_second: float
    items: str = ""  # of a bulk operation: the property of the body that holds the list
    single: Operation | None = None  # of a bulk operation: the one that takes one item
    of_all: str = ""  # of a bulk operation: what its items have in common, said once in the body


USERS_UPDATE = Operation("users/update", 500)
EVENTS_TRACK = Operation("events/track", 2000)
USERS_BULK_UPDATE = Operation(
    "users/bulkUpdate", 5, "users", USERS_UPDATE, of_all="createNewFields"
)
EVENTS_TRACK_BULK = Operation("events/trackBulk", 10, "events", EVENTS_TRACK)
USERS_GET_FIELDS = Operation("users/getFields", 3)

OPERATIONS = (
    USERS_UPDATE,
    EVENTS_TRACK,
    USERS_BULK_UPDATE,
    EVENTS_TRACK_BULK,
    USERS_GET_FIELDS,
)

BULK_ITEMS = 1000  # by Iterable's custom
MOST_REASONS = 100  # that are asked about: what comes from Iterable has bounds
ASKED_WHY = 3  # failures in bulk of each reason that are sent again singly, in a query
BULK_BYTES = 4_000_000  # "Max size of request body: 4MB", counted the strict way


# --- Values -------------------------------------------------------------------

EPOCH = datetime(1970, 1, 1)
SECOND = timedelta(seconds=1)
INTEGER_END = 2**63  # Iterable's integers have 64 bits

# Another namespace would double every event that was ever sent.
EVENT_ID_NAMESPACE = uuid.UUID("6f1d3c52-8a0e-5b7c-9d44-2f6a1e0b9c73")


class InvalidValueError(ValueError):
    """A value that Iterable cannot take, or that would not survive the way there."""

    def __init__(self, message: str, code: str = "InvalidValue") -> None:
        super().__init__(message)
        self.code = code

    @property
    def outcome(self) -> Outcome:
        """What becomes of a call with such a value: it fails unsent."""
        return Outcome(Kind.FAILED, {"code": self.code, "msg": str(self)})


def to_utc(value: datetime, zone: tzinfo) -> datetime:
    """The time in UTC, without a zone of its own any more.

    Arguments:
        value: any time.
        zone: the zone of a value that has none.

    Raises:
        InvalidValueError: outside the years 1 to 9999 in UTC.
    """
    aware = value if value.tzinfo else value.replace(tzinfo=zone)
    try:
        utc = aware.astimezone(timezone.utc) if aware.utcoffset() else aware
    except OverflowError:
        raise InvalidValueError(f"time {value} is outside the years 1 to 9999 in UTC") from None
    return datetime.combine(utc, utc.time())  # a quarter of the time of replace(tzinfo=None)


def format_time(utc: datetime) -> str:
    """Iterable's own form of a time of to_utc(): `2026-01-13 08:45:12 +00:00`.

    A fraction of a second stays, for event ids.
    """
    return utc.isoformat(" ") + " +00:00"


def unix_seconds(utc: datetime) -> int:
    """The Unix time of a time of to_utc() in whole seconds, as `createdAt` wants it."""
    return (utc - EPOCH) // SECOND  # 2 us less than timestamp()


def json_value(value: Any, zone: tzinfo) -> Any:
    """What Iterable gets for a value from a database.

    Iterable fixes a field's type at first sight, so the JSON type follows from the value's
    type alone: a Decimal is always a number with a fraction, an integer never.

    Arguments:
        value: a cell, or what a JSON column holds.
        zone: of times that have none.

    Raises:
        InvalidValueError: JSON or Iterable cannot hold the value.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _checked_text(str.__str__(value))  # no subclass: JSON's own types alone
    if isinstance(value, int):
        return _checked_integer(value)
    if isinstance(value, (float, Decimal)):
        return _checked_fraction(value)
    if isinstance(value, datetime):
        utc = to_utc(value, zone)
        return format_time(utc.replace(microsecond=0))  # Iterable keeps whole seconds
    if isinstance(value, (date, uuid.UUID)):
        return str(value)
    if isinstance(value, Mapping):
        pairs = value.items()
        return {_checked_text(str(key)): json_value(item, zone) for key, item in pairs}
    if isinstance(value, (list, tuple)):
        return [json_value(item, zone) for item in value]
    raise InvalidValueError(f"Iterable has no type for {type(value).__name__}")


def _checked_text(text: str) -> str:
    """The text, unless it holds a database's broken bytes: lone surrogates, never UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidValueError("text that is not valid UTF-8") from None
    return text


def _checked_integer(value: int) -> int:
    if not -INTEGER_END <= value < INTEGER_END:
        raise InvalidValueError("int beyond 64 bits")
    return int(value)


def _checked_fraction(value: float | Decimal) -> float:
    is_signaling = isinstance(value, Decimal) and value.is_snan()  # float() raises for it
    if is_signaling or not math.isfinite(float(value)):
        kind = type(value).__name__
        raise InvalidValueError(f"{kind} {value} is not a number that JSON can hold")
    return float(value)


def clean_field(name: str, value: Any, zone: tzinfo) -> Any:
    """json_value() of a column.

    Raises:
        InvalidValueError: naming the column.
    """
    try:
        return json_value(value, zone)
    except InvalidValueError as error:
        raise InvalidValueError(f"column {name}: {error}") from None
    except RecursionError:
        raise InvalidValueError(f"column {name}: nested too deeply") from None


def clean_fields(fields: Mapping[str, Any], zone: tzinfo) -> Json:
    """The dataFields of values by column.

    Raises:
        InvalidValueError: naming the column.
    """
    return {name: clean_field(name, value, zone) for name, value in fields.items()}


def normalize_identifier(kind: str, value: Any) -> str:
    """An address or a userId as Iterable stores it.

    Arguments:
        kind: "email" (trimmed, in lower case) or "userId" (as text).
        value: a cell.

    Raises:
        InvalidValueError: there is none, or this is no identifier.
    """
    if value is None:
        raise InvalidValueError(f"the row has no {kind}", "NoIdentifier")
    if isinstance(value, str):
        return _normalize_text(kind, value)
    if isinstance(value, Decimal) and _is_whole(value):
        value = int(value)  # a NUMERIC key
    is_key = isinstance(value, (int, uuid.UUID)) and not isinstance(value, bool)
    is_too_long = isinstance(value, int) and value.bit_length() > 1000
    if kind == "email" or not is_key or is_too_long:
        raise InvalidValueError(f"{kind} cannot be made of {type(value).__name__}")
    return str(value)


def _is_whole(value: Decimal) -> bool:
    """Whether it is a whole number, and no longer than keys can be: 1E+5000 takes a while."""
    is_short = value.is_finite() and value.adjusted() < 100
    return is_short and value == value.to_integral_value()


def _normalize_text(kind: str, value: str) -> str:
    stripped = value.strip()
    if not stripped:
        raise InvalidValueError(f"the row has no {kind}", "NoIdentifier")
    return _checked_text(stripped.lower() if kind == "email" else value)


_namespace_hash = sha1(EVENT_ID_NAMESPACE.bytes, usedforsecurity=False)
_canonical_json = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode

# What the canonical JSON of the commonest parts is, without the encoder's overhead.
_PLAIN_JSON: dict[type, Callable[[Any], str]] = {
    str: json.encoder.encode_basestring_ascii,
    int: str,
}


def make_event_id(parts: Sequence[Any]) -> str:
    """The id of an event: uuid5 of our namespace and the canonical JSON of `parts`.

    An event that is sent again under its id replaces the first one instead of adding to it.
    Ids are unique across all custom events of a project, so `parts` begins with identifier
    and event name; then comes what tells the event from others of this user and name.
    """
    sha = _namespace_hash.copy()
    texts = [_PLAIN_JSON.get(part.__class__, _canonical_json)(part) for part in parts]
    sha.update(f"[{','.join(texts)}]".encode())
    # By hand what uuid.uuid5 does, in a third of its time (RFC 9562, section 5.5).
    digest = bytearray(sha.digest())
    digest[6] = digest[6] & 0x0F | 0x50  # version 5
    digest[8] = digest[8] & 0x3F | 0x80  # its variant
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:32]}"


def user_update(kind: str, identifier: str, fields: Json) -> Json:
    """The payload of a user update; `kind` is "email" or "userId"."""
    payload: Json = {kind: identifier, "dataFields": fields}
    if kind == "userId":
        payload["preferUserId"] = True  # an email-based project may create the user, too
    return payload


def event(
    kind: str,
    identifier: str,
    name: str,
    fields: Json,
    created: int | None,
    event_id: str,
) -> Json:
    """The payload of an event.

    Arguments:
        kind: "email" or "userId".
        identifier: of the user.
        name: of the event.
        fields: its dataFields.
        created: Unix seconds, or None for the time at which Iterable receives it.
        event_id: of make_event_id().
    """
    payload: Json = {
        kind: identifier,
        "eventName": name,
        "dataFields": fields,
        "id": event_id,
    }
    if created is not None:
        payload["createdAt"] = created
    return payload


# --- A row, its calls, and what became of them --------------------------------


class Kind(str, Enum):  # of str, whose hash and == are C: 1 us a row
    """What became of a call."""

    ACCEPTED = "accepted"
    SKIPPED = "skipped"
    FAILED = "failed"
    NOT_SENT = "not sent"  # not one byte of it
    IN_DOUBT = "in doubt"  # sent, and nothing or too little is known


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a call, and how that is known."""

    kind: Kind
    answer: Json  # Iterable's own, or a {"code", "msg"} of ours where there is none
    status: int | None = None  # HTTP status of the last attempt, None without one

    @property
    def is_success(self) -> bool:
        """Whether Iterable holds what the call says."""
        return self.kind in (Kind.ACCEPTED, Kind.SKIPPED)

    @property
    def result(self) -> Result:
        """The outcome as the public methods return it."""
        return self.is_success, self.answer


def _interrupted(kind: Kind, message: str) -> Outcome:
    return Outcome(kind, {"code": "Interrupted", "msg": message})


BULK_ACCEPTED = Outcome(Kind.ACCEPTED, {"code": "Success", "bulk": True}, 200)
SKIPPED = Outcome(Kind.SKIPPED, {"code": "Unchanged"})
NOT_SENT = _interrupted(Kind.NOT_SENT, "the run was stopped before this call began")
IN_DOUBT = _interrupted(
    Kind.IN_DOUBT, "the run was stopped before it was clear what became of this call"
)


class StoppedError(Exception):
    """A stop came before a call had an answer to keep."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.answer["msg"])
        self.outcome = outcome


@dataclass(slots=True)
class Call:
    """A call of a row. The main thread alone sets its outcome, once."""

    payload: Json | None  # None where the call cannot be made, or need not
    outcome: Outcome | None = None  # None until it has one
    mark: Any = None  # the caller's own, to find the call again in its books


@dataclass(slots=True)
class Row:
    """A row on its way."""

    number: int
    user: str | None  # the identifier, or the cell as text where it is none
    event_id: str | None
    update: Call | None  # None where the query defines no such call
    event: Call | None

    @property
    def calls(self) -> list[Call]:
        """The calls that there are, in the order in which they are sent."""
        if self.update is None:
            return [] if self.event is None else [self.event]
        return [self.update] if self.event is None else [self.update, self.event]


# --- What an answer says ------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """What an attempt brought."""

    status: int | None  # None without an HTTP answer
    body: Json  # Iterable's JSON, or a {"code", "msg"} of ours
    wait: float = 0.0  # seconds that the answer asks us to wait
    retryable: bool = False

    @property
    def is_ok(self) -> bool:
        """Whether the status is a 2xx."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def code(self) -> str:
        """Iterable's code; a bulk operation that was carried out has none."""
        return str(self.body.get("code", "Success"))


def judge(answer: Answer) -> Outcome:
    """What a single call's answer means.

    An event whose name the project disallows is answered much like a success.
    """
    if not (answer.is_ok and answer.body.get("code") == "Success"):
        return Outcome(Kind.FAILED, answer.body, answer.status)
    msg = str(answer.body.get("msg"))
    if "is disallowed from tracking" in msg:
        body = {"code": "DisallowedEventName", "msg": msg}
        return Outcome(Kind.FAILED, body, answer.status)
    return Outcome(Kind.ACCEPTED, answer.body, answer.status)


# How the names of failedUpdates' lists begin, and what the single operations call the same:
# invalidDataEmails and invalidDataUserIds, say, are about RequestFieldsTypesMismatched.
FAILURE_CODES = {
    "invalidEmails": "InvalidEmailAddressError",
    "invalidUserIds": "InvalidUserIdError",
    "notFoundEmails": "UnknownEmailError",
    "notFoundUserIds": "UnknownUserIdError",
    "forgotten": "ForgottenUserError",
    "invalidData": "RequestFieldsTypesMismatched",
    "conflictEmails": "EmailAlreadyExists",
    "conflictUserIds": "UserIdAlreadyExists",
}


@dataclass(frozen=True)
class Named:
    """What a bulk answer names as failed."""

    codes: Mapping[str, str]  # by user
    mentions: Mapping[str, int]  # by user: how often one list names them
    event_names: frozenset[str]  # that the project disallows


def judge_bulk(body: Json, payloads: Sequence[Json]) -> list[Outcome | None]:
    """What the answer to a bulk request says of each item.

    Items fail by the name of their user, in a list of `failedUpdates` or in the older lists
    beside it, or by that of their event. If the counts do not agree with that, any item that
    was not named may have failed, too, and of a user's several items any may be meant.

    Arguments:
        body: of the answer, with integer counts.
        payloads: the items of the request.

    Returns:
        An outcome for each item, in their order, or None where the answer leaves it open.
        That item is to be sent again: both operations are idempotent.
    """
    named = _read_names(body)
    counts = (body["successCount"], body["failCount"])
    if not named.codes and not named.event_names and counts == (len(payloads), 0):
        return [BULK_ACCEPTED] * len(payloads)  # nearly always
    outcomes = [_outcome_of_item(item, named) for item in payloads]
    failed = sum(outcome.kind == Kind.FAILED for outcome in outcomes)
    counts_agree = counts == (len(payloads) - failed, failed)
    if not (counts_agree and _all_are_found(named, payloads)):
        return _only_certain(outcomes, payloads, named)
    if failed < len(payloads) and _partly_named(named, payloads):
        return _only_certain(outcomes, payloads, named)
    return list(outcomes)


def _outcome_of_item(item: Json, named: Named) -> Outcome:
    if item.get("eventName") in named.event_names:
        code = "DisallowedEventName"
    elif (user := user_of(item)) in named.codes:
        code = named.codes[user]
    else:
        return BULK_ACCEPTED
    msg = "so says Iterable's answer to the bulk request"
    answer = {"code": code, "msg": msg, "bulk": True}
    return Outcome(Kind.FAILED, answer, BULK_ACCEPTED.status)


def _all_are_found(named: Named, payloads: Sequence[Json]) -> bool:
    """Whether every name in the answer is one of the request's."""
    users = {user_of(item) for item in payloads}
    event_names = {item.get("eventName") for item in payloads}
    return named.codes.keys() <= users and named.event_names <= event_names


def _only_certain(
    outcomes: Sequence[Outcome], payloads: Sequence[Json], named: Named
) -> list[Outcome | None]:
    """The failures of which there is no doubt, though the counts say something else."""
    partly_named = _partly_named(named, payloads)
    certain: list[Outcome | None] = []
    for outcome, item in zip(outcomes, payloads, strict=True):
        is_certain = outcome.kind == Kind.FAILED and user_of(item) not in partly_named
        certain.append(outcome if is_certain else None)
    return certain


def _partly_named(named: Named, payloads: Sequence[Json]) -> set[str]:
    """The users who have more items than mentions: any of these items may be meant."""
    items = Counter(user_of(item) for item in payloads)
    return {user for user in named.codes if named.mentions[user] < items[user]}


def _read_names(body: Json) -> Named:
    """The users and events that a bulk answer names as failed."""
    codes: dict[str, str] = {}
    mentions: Counter[str] = Counter()
    for list_name, source in _failure_lists(body):
        users = Counter(names_in(source, list_name))
        code = _code_of_list(list_name)
        for user in users:
            codes.setdefault(user, code)
        mentions |= users
    return Named(codes, mentions, frozenset(names_in(body, "disallowedEventNames")))


def _failure_lists(body: Json) -> Iterator[tuple[str, Json]]:
    """Name and holder of each list of failures; the older ones beside failedUpdates come last."""
    updates = body.get("failedUpdates")
    if isinstance(updates, dict):
        for list_name in updates:
            if not list_name.startswith("noOp"):  # nothing to change is a success
                yield list_name, updates
    yield "invalidEmails", body
    yield "invalidUserIds", body


def _code_of_list(list_name: str) -> str:
    for beginning, code in FAILURE_CODES.items():
        if list_name.startswith(beginning):
            return code
    # One that Iterable added since: its name says why, where it is no more than a name.
    return list_name if CODE.fullmatch(list_name) else "UnknownReason"


def names_in(source: Json, list_name: str) -> list[str]:
    """What a list of an answer names; emails are comparable with those of user_of()."""
    names = source.get(list_name)
    if not isinstance(names, list):
        return []
    texts = map(str, names)
    if list_name.endswith("Emails"):
        return [text.strip().lower() for text in texts]
    return list(texts)


def user_of(payload: Json) -> str:
    """The user whom an item of a bulk request is about."""
    if "email" in payload:
        return str(payload["email"]).strip().lower()
    return str(payload["userId"])


def in_own_words(named: Outcome, again: Outcome) -> Outcome:
    """A failure that a bulk answer named, once its item was sent again singly.

    The code stays the bulk answer's: failures are counted by it.

    Arguments:
        named: what the bulk answer says.
        again: what became of the single call.

    Returns:
        The success, which is the truth; Iterable's reason for the failure; or what is known
        already, where the single call got no answer about its item.
    """
    if again.kind == Kind.ACCEPTED:
        return again
    code = again.answer["code"]
    is_about_the_item = (
        again.kind == Kind.FAILED
        and again.status not in (None, 401, *RETRIED_STATUSES)
        and code not in REFUSALS
        and code != "InvalidResponse"
    )
    if not is_about_the_item:
        return named
    return Outcome(Kind.FAILED, {**again.answer, "code": named.answer["code"]}, again.status)


# --- One attempt: HTTP, token, redaction --------------------------------------

# What an answer with a 2xx holds, and of which type: by that it is known to be Iterable's.
SINGLE_EXPECTED: Mapping[str, type] = {"code": str}
BULK_EXPECTED: Mapping[str, type] = {"successCount": int, "failCount": int}
FIELDS_EXPECTED: Mapping[str, type] = {"fields": dict}


@dataclass(frozen=True, slots=True)
class Request:
    """A request to make, as often as it takes."""

    method: str
    url: str
    body: bytes  # empty: it has none
    name: str  # for the log
    expected: Mapping[str, type]  # in its answer
    email: str | None = None  # whom a single call is about, for its token
    user_id: str | None = None

    @property
    def is_about_a_user(self) -> bool:
        """Whether it is about one user, by whose token it may be allowed."""
        return self.email is not None or self.user_id is not None


def is_loopback(host: str) -> bool:
    """Whether a host of a URL is this machine: "localhost", 127.0.0.0/8 or ::1."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def encode(payload: object) -> bytes:
    """JSON as it goes over the wire.

    Raises:
        TypeError, ValueError: JSON cannot hold the payload.
    """
    text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode()


sign_jwt = partial(jwt.encode, algorithm="HS256")
"""A JSON Web Token as Iterable wants it, of claims and a secret that is taken as text."""

TOKEN_SECONDS = 3600


@dataclass(frozen=True)
class Credentials:
    """What makes Iterable believe who calls."""

    api_key: str = field(repr=False)
    jwt_secret: str | None = field(repr=False)
    use_jwt: bool

    def __post_init__(self) -> None:
        if not self.api_key or (self.use_jwt and not self.jwt_secret):
            raise ValueError("api_key is required, and jwt_secret with use_jwt")

    def token(self, email: str | None, user_id: str | None, now: float) -> str:
        """A token for one user and one hour from `now`, in Unix seconds.

        Source: https://support.iterable.com/hc/articles/360050801231 (JWT-enabled API keys).

        Raises:
            ValueError: without JWT, or unless one of the two is given.
        """
        is_about_one = (email is None) != (user_id is None)
        if not (self.use_jwt and self.jwt_secret and is_about_one):
            raise ValueError("a token needs use_jwt, and either an email or a user_id")
        claims: Json = {"iss": "iterable-integration", "iat": int(now)}
        claims["exp"] = claims["iat"] + TOKEN_SECONDS
        if email is not None:
            claims["email"] = email
        else:
            claims["userId"] = user_id
        return sign_jwt(claims, self.jwt_secret)


DOTTED_WORD = re.compile(r"(?<![\w.-])[\w-]+(?:\.[\w-]*){2,}")


def _redact_token(word: re.Match[str]) -> str:
    """A JSON Web Token is a dotted word; its parts begin with the base64 of `{"`."""
    return "[redacted]" if "eyj" in word[0].lower() else word[0]


class Redactor:
    """Takes keys, secrets and tokens out of answers, which may echo their request."""

    def __init__(self, credentials: Credentials) -> None:
        secrets = filter(None, [credentials.api_key, credentials.jwt_secret])
        longest_first = sorted(map(re.escape, secrets), key=len, reverse=True)
        self._secrets = re.compile("|".join(longest_first), re.IGNORECASE)

    def text(self, text: str) -> str:
        """The text without them. It takes linear time, whatever the text."""
        return DOTTED_WORD.sub(_redact_token, self._secrets.sub("[redacted]", text))

    def value(self, value: Any) -> Any:
        """JSON without them, in keys, too."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(key): self.value(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.value(item) for item in value]
        return value


TOTAL_TIMEOUTS = 4  # an attempt takes so many timeouts at most, however steadily bytes drip
SEND_SIZE = 16_384  # bytes, a record of TLS: each has a timeout of its own


class _BoundedReader(io.RawIOBase):
    """What a socket receives, until a deadline: each byte that drips in renews its timeout."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._raw = sock.makefile("rb", buffering=0)
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        _check_deadline(self._deadline)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _BoundedResponse(http.client.HTTPResponse):
    def __init__(
        self, sock: socket.socket, *args: Any, deadline: float = math.inf, **kwargs: Any
    ) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self.fp = io.BufferedReader(_BoundedReader(sock, deadline))


class _BoundedSending:
    """A connection whose requests are sent, and whose answers are read, until a deadline."""

    timeout: Any
    _attempt_ends: float | None = None

    @property
    def response_class(self) -> Any:
        """What http.client makes the answer of."""
        return partial(_BoundedResponse, deadline=self._deadline())

    def putrequest(self, *args: Any, **kwargs: Any) -> None:
        """The beginning of an attempt."""
        self._attempt_ends = None
        self._attempt_ends = self._deadline()
        super().putrequest(*args, **kwargs)  # type: ignore[misc]

    def getresponse(self) -> Any:
        """The answer, which knows until when it may be read; the next attempt has its own."""
        response = super().getresponse()  # type: ignore[misc]
        self._attempt_ends = None
        return response

    def send(self, data: Any) -> None:
        """Sends what belongs to it."""
        deadline = self._deadline()
        for start in range(0, len(data), SEND_SIZE):
            _check_deadline(deadline)
            super().send(data[start : start + SEND_SIZE])  # type: ignore[misc]

    def _deadline(self) -> float:
        """When it is over; before it, while a proxy is asked for a tunnel, from now."""
        if self._attempt_ends is not None:
            return self._attempt_ends
        if self.timeout is None:
            return math.inf
        return time.monotonic() + TOTAL_TIMEOUTS * float(self.timeout)


def _check_deadline(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError(f"timed out: {TOTAL_TIMEOUTS} times the timeout, in drips")


class _Connection(_BoundedSending, HTTPConnection):  # type: ignore[override]
    pass


class _SecureConnection(_BoundedSending, HTTPSConnection):  # type: ignore[override]
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class _Adapter(HTTPAdapter):
    """requests' adapter, over such connections; a proxy's, too."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self._bound(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        if not proxy.lower().startswith("socks"):  # those have connections of their own
            self._bound(manager)
        return manager

    def _bound(self, manager: Any) -> None:
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}


class Transport:
    """Makes attempts, from any number of threads; what comes of one is an Answer, always.

    The adapter is called directly: that is half the CPU time of Session.send, and without
    cookies, redirects and .netrc.
    """

    def __init__(
        self,
        base_url: str,
        credentials: Credentials,
        timeout: float,
        connections: int,
        stop: Stop,
    ) -> None:
        """`timeout` in seconds; tokens go by the clock of `stop`."""
        self._credentials = credentials
        self._timeout = timeout
        self._stop = stop
        self._redactor = Redactor(credentials)
        self._adapter = _Adapter(pool_connections=1, pool_maxsize=connections)
        agent = f"iterable-integration {requests.utils.default_user_agent()}"
        headers = {"Api-Key": credentials.api_key, "User-Agent": agent}
        headers["Content-Type"] = "application/json"
        self._template = requests.Request("POST", base_url, headers=headers).prepare()
        environment = requests.Session().merge_environment_settings(
            base_url, {}, stream=False, verify=None, cert=None
        )
        self._verify = environment["verify"] or True
        is_local = is_loopback(urlsplit(base_url).hostname or "")
        self._proxies = {} if is_local else environment["proxies"]

    def attempt(self, request: Request) -> Answer:
        """Sends a request once."""
        try:
            response = self._adapter.send(
                self._prepare(request),
                stream=True,
                timeout=self._timeout,
                verify=self._verify,
                proxies=self._proxies,
            )
            return self._read(response, request.expected)
        except (requests.RequestException, OSError, ValueError) as error:
            return self._explain(error)

    def _prepare(self, request: Request) -> requests.PreparedRequest:
        prepared = self._template.copy()
        prepared.method = request.method
        prepared.url = request.url
        if request.body:
            prepared.body = request.body
            prepared.headers["Content-Length"] = str(len(request.body))
        else:
            del prepared.headers["Content-Type"], prepared.headers["Content-Length"]
        if self._credentials.use_jwt and request.is_about_a_user:
            # Signed for each attempt: no token expires in a queue or a backoff.
            now = self._stop.unix_time()
            token = self._credentials.token(request.email, request.user_id, now)
            prepared.headers["Authorization"] = f"Bearer {token}"
        return prepared

    def _read(self, response: requests.Response, expected: Mapping[str, type]) -> Answer:
        """The answer, unless it is not Iterable's: then an InvalidResponse."""
        status = response.status_code
        if status < 200:  # http.client takes 102 and 103 for a final answer
            # The real one would be read as the next call's: this connection is done with.
            response.close()
            msg = f"HTTP {status} and no final answer"
            return Answer(status, {"code": "InvalidResponse", "msg": msg}, retryable=True)
        content = _content_of(response)
        if content is None:
            msg = f"HTTP {status} with an answer of more than {LONGEST_ANSWER:,} bytes"
            body = {"code": "InvalidResponse", "msg": msg}
            return Answer(status, body, retryable=should_retry(status, is_valid=False))
        body = self._parse(content)
        demanded = demanded_wait(status, response.headers, body)
        is_valid = self._is_iterables(body, status, expected)
        if not is_valid:
            body = {"code": "InvalidResponse", "msg": self._describe(response, content)}
        return Answer(status, body, demanded, should_retry(status, is_valid))

    def _parse(self, content: bytes) -> Any:
        """The answer's JSON, redacted but for its code: what it means follows from that."""
        with contextlib.suppress(ValueError, RecursionError):
            parsed = json.loads(content, parse_constant=_no_constant)
            body = self._redactor.value(parsed)
            if isinstance(parsed, dict) and "code" in parsed:
                body["code"] = parsed["code"]
            return body
        return None

    def _is_iterables(self, body: Any, status: int, expected: Mapping[str, type]) -> bool:
        """Whether JSON is Iterable's: with a code or, of a 2xx, with what is expected."""
        if not isinstance(body, dict):
            return False
        if "code" in body and not self._is_code(body["code"]):
            return False
        if 200 <= status < 300:
            return all(type(body.get(name)) is kind for name, kind in expected.items())
        return "code" in body and body["code"] != "Success"

    def _is_code(self, code: Any) -> bool:
        """Whether this may be a code of Iterable's: short, plain, and without a secret."""
        if not isinstance(code, str) or not CODE.fullmatch(code):
            return False
        return self._redactor.text(code) == code

    def _describe(self, response: requests.Response, content: bytes) -> str:
        """What is wrong with an answer that is not Iterable's JSON."""
        hint = ""
        if response.is_redirect:
            hint = "; redirects are not followed, check the base URL"
        # Redacted before it is cut: half a key is no key any more, but still a secret.
        text = self._redactor.text(content[:10_000].decode(errors="replace"))
        return f"HTTP {response.status_code} without Iterable's JSON{hint}: {text[:200]!r}"

    def _explain(self, error: Exception) -> Answer:
        """The answer of ours where the network gave none."""
        msg = self._redactor.text(_describe_error(error))
        is_timeout = isinstance(error, requests.Timeout) or "timed out" in msg
        code = "Timeout" if is_timeout else "ConnectionError"
        is_retryable = should_retry(None, error=error)
        return Answer(None, {"code": code, "msg": msg}, retryable=is_retryable)


# Which of our objects noticed it tells a person nothing.
CONNECTION_OBJECT = re.compile(r"_\w*(Connection|Pool)\(host=[^)]*\): ")


def _describe_error(error: Exception) -> str:
    """What the network says: of several errors in one another the one that tells why."""
    cause = error.args[0] if error.args else error
    reason = getattr(cause, "reason", cause)
    proxys = getattr(reason, "original_error", None)  # of urllib3's ProxyError
    text = str(reason) if proxys is None else f"the proxy cannot be reached: {proxys}"
    return CONNECTION_OBJECT.sub("", text)


LONGEST_ANSWER = 16_000_000  # bytes, unpacked
PIECE = 4096  # bytes off the wire: at gzip's best a few million, unpacked
CODE = re.compile(r"[\w.-]{1,64}", re.ASCII)


def _content_of(response: requests.Response) -> bytes | None:
    """The body, unpacked; None where it is too long."""
    pieces = []
    size = 0
    for piece in response.iter_content(PIECE):
        size += len(piece)
        if size > LONGEST_ANSWER:
            response.close()
            return None
        pieces.append(piece)
    return b"".join(pieces)


def _no_constant(name: str) -> None:
    """What NaN and Infinity are taken for: JSON has none."""


# --- Whether to try again, and after how long ---------------------------------


RETRIED_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
LONGEST_WAIT = 60.0  # seconds; an answer that demands more ends the attempts of its call
LONGEST_HOLD = 300.0  # seconds of an operation, in a batch run, after one 429


def should_retry(status: int | None, is_valid: bool = True, error: Exception | None = None) -> bool:
    """Whether another attempt may help.

    Arguments:
        status: of HTTP, None where none came.
        is_valid: whether the body was Iterable's JSON. A 2xx without it comes from something
            in between, like a 502.
        error: of the network. A refused certificate stays refused, an invalid URL (a
            ValueError) invalid.
    """
    if error is not None:
        if "EOF occurred" in str(error):
            return True  # dropped while TLS was being set up, which is no refusal
        return not isinstance(error, (requests.exceptions.SSLError, ValueError))
    if status is None:
        return False
    return status in RETRIED_STATUSES or (200 <= status < 300 and not is_valid)


def retry_delay(
    attempt: int,
    initial: float,
    factor: float,
    demanded: float = 0.0,
    noise: float = 0.5,
) -> float:
    """Seconds to wait after an attempt.

    Arguments:
        attempt: its number, from 1.
        initial: seconds after the first.
        factor: of each wait to the one before.
        demanded: seconds that the answer asks for, at the least.
        noise: in [0, 1), for a jitter of +-10%.
    """
    backoff = initial * factor ** (attempt - 1)
    jitter = 0.9 + 0.2 * noise
    return max(backoff * jitter, demanded)


def demanded_wait(status: int, headers: Mapping[str, str], body: Any) -> float:
    """Seconds that an answer asks us to wait, 0 where it does not.

    `Retry-After` (RFC 9110, section 10.2.3) or, in the body of Iterable's 429s,
    `params.rateLimitReset`.
    """
    header = headers.get("Retry-After")
    if header:
        with contextlib.suppress(InvalidHeader, ValueError, OverflowError):
            return Retry().parse_retry_after(header)
    if status == 429:
        with contextlib.suppress(KeyError, TypeError, ValueError, OverflowError):
            return max(0.0, float(body["params"]["rateLimitReset"]))  # 0 for NaN, too
    return 0.0


# --- Stop, pace, health -------------------------------------------------------


class Gate:
    """Opens once, for all who wait before it: threading.Event, without its code in Python.

    In that of Event or Future a MemoryError may come just before a lock is given back. It
    stays taken then, and whoever is next waits for ever.
    """

    def __init__(self) -> None:
        self.is_open = False
        self._first = threading.Lock()  # taken by who opens it
        self._shut = threading.Lock()  # taken until then, and in passing by who waited
        self._shut.acquire()

    def open(self) -> None:
        """Opens it. A second time changes nothing."""
        if self._first.acquire(blocking=False):
            self.is_open = True
            self._shut.release()

    def wait(self, seconds: float) -> bool:
        """Waits for that, at most so long; returns whether it is open."""
        if not self.is_open and self._shut.acquire(timeout=max(0.0, seconds)):
            self._shut.release()
        return self.is_open


GRACE = 10.0  # seconds that calls on the wire get after a stop


class Stop:
    """Ends every wait and lets no further attempt begin; the clocks by which all of it goes."""

    def __init__(self, grace: float = GRACE) -> None:
        """`grace`: seconds that calls on the wire get."""
        self.deadline = math.inf  # by now(): when nobody waits for answers any longer
        self.is_abort = False  # whether it stopped because of what went wrong
        self._grace = grace
        self._gate = Gate()

    def abort(self) -> None:
        """Stops because of what went wrong, and not because somebody wished it."""
        self.is_abort = self.is_abort or not self.is_set()
        self.set()

    def set(self) -> None:
        """Stops. A second time changes nothing."""
        self.deadline = min(self.deadline, self.now() + self._grace)
        self._gate.open()

    def is_set(self) -> bool:
        """Whether it was."""
        return self._gate.is_open

    def wait(self, seconds: float) -> bool:
        """Sleeps, unless or until a stop comes; returns whether one came."""
        return self._gate.wait(seconds)

    def now(self) -> float:
        """Seconds of a clock that is never set."""
        return time.monotonic()

    def unix_time(self) -> float:
        """Seconds since 1970."""
        return time.time()


class Pacer:
    """Lets callers through one at a time, evenly, at a pace that follows the answers.

    Iterable's limiter is a token bucket, which an even pace never empties, but a project's
    limits are shared with all that calls it. Below the pace that the others leave, every call
    is accepted; above it some are refused; and a few are refused at any pace, because the
    others' calls come in bursts. So one 429 says little, and their share says all: an
    accepted call earns a twelfth of a 429. One that is paid for slows the pace a little, any
    other by nearly half. That keeps them near one in twelve, however much is left, where
    halving at each 429 (AIMD, as in TCP) leaves up to half of it unused, and so does CUBIC.
    The kinship is with the retry budgets of the AWS SDKs, spent on the pace here.
    """

    CATCH_UP = 0.02  # seconds of a stall that are made good: a pause cannot end in a burst
    SLOWEST = 1 / 20  # calls a second: slower, and a change would take minutes to be seen
    EARNED = 1 / 12  # of a 429, by an accepted call
    MOST_SAVED = 5.0  # 429s: what went well long ago excuses little
    PAID, UNPAID = 0.85, 0.55  # what a 429 leaves of the pace; from full to 5% in six unpaid
    FASTER = 0.015  # by which share an accepted call raises the pace, in step with refusals,
    FASTER_A_SECOND = 0.002  # and each second since the last raise: a crawl does not last
    LONGEST_GAP = 20.0  # seconds that count so
    RAISE_EVERY = 0.1  # seconds; else 500 calls a second would be 1,700 times as fast
    EXHAUSTED_AFTER = (300.0, 10)  # seconds, and calls, with nothing but 429

    def __init__(self, per_second: float, stop: Stop) -> None:
        """`per_second` is the pace at which it begins, and the fastest."""
        self._fastest = self._pace = per_second
        self._stop = stop
        self._turn = threading.Lock()  # held while sleeping: others wait for it, not for slots
        self._state = threading.Lock()  # never held while waiting
        self._next = 0.0
        self._held_until = 0.0
        self._credit = 0.0  # in 429s
        self._slowed_at = -math.inf
        self._raised_at = -math.inf
        self._refusals = 0  # in a row
        self._refused_since = 0.0

    def wait(self) -> bool:
        """Returns when the caller may send: True, or False where a stop came first."""
        with self._turn:
            slot = max(self._next, self._stop.now() - self.CATCH_UP)
            while (pause := max(slot, self._held_until) - self._stop.now()) > 0:
                if self._stop.wait(pause):
                    return False
            self._next = max(slot, self._held_until) + 1 / self._pace
        return not self._stop.is_set()

    def hold(self, seconds: float) -> None:
        """Lets nobody through for so long."""
        with self._state:
            self._held_until = max(self._held_until, self._stop.now() + seconds)

    def note_refused(self, sent_at: float) -> None:
        """A 429 came for a call of `sent_at`: slower, once for all that were on their way."""
        now = self._stop.now()
        with self._state:
            if self._refusals == 0:
                self._refused_since = now
            self._refusals += 1
            if sent_at > self._slowed_at:
                left = self.PAID if self._credit >= 1 else self.UNPAID
                slowest = min(self.SLOWEST, self._fastest)
                self._pace = max(slowest, self._pace * left)
                self._slowed_at = self._raised_at = now
            self._credit = max(0.0, self._credit - 1)

    def note_accepted(self, sent_at: float) -> None:
        """Any other answer came: faster, up to where it began."""
        now = self._stop.now()
        with self._state:
            self._refusals = 0
            self._credit = min(self.MOST_SAVED, self._credit + self.EARNED)
            gap = now - self._raised_at
            if sent_at > self._slowed_at and gap >= self.RAISE_EVERY:
                share = self.FASTER + self.FASTER_A_SECOND * min(gap, self.LONGEST_GAP)
                self._pace = min(self._fastest, self._pace * (1 + share))
                self._raised_at = now

    @property
    def is_exhausted(self) -> bool:
        """Whether the others leave nothing: for minutes nothing but 429 came."""
        seconds, calls = self.EXHAUSTED_AFTER
        with self._state:
            has_lasted = self._stop.now() - self._refused_since >= seconds
            return self._refusals >= calls and has_lasted


# The codes that refuse the credentials, and what to check for each; "" is any other at 401.
REFUSALS = {
    "BadApiKey": "ITERABLE_API_KEY, and that ITERABLE_API_BASE_URL is that of the key's data "
    "centre, US or EU",
    "Unauthorized": "that ITERABLE_API_KEY is a server-side key, and enabled; a JWT-enabled one "
    "needs USE_JWT_AUTH=true",
    "BadAuthorizationHeader": "whether ITERABLE_API_KEY is JWT-enabled: such a key needs "
    "USE_JWT_AUTH=true and ITERABLE_JWT_SECRET, and no other takes them",
    "Forbidden": "that ITERABLE_API_KEY is a server-side key that may update users and track "
    "events",
    "InvalidJwtPayload": "ITERABLE_JWT_SECRET, and this machine's clock",
    "": "ITERABLE_API_KEY, and what may stand between here and ITERABLE_API_BASE_URL",
}


def is_refusal(answer: Answer, has_succeeded: bool) -> bool:
    """Whether an answer refuses the credentials of all calls, and not those of one user alone.

    Arguments:
        answer: of any attempt.
        has_succeeded: whether a call of the run has: then secret and clock are right, and
            InvalidJwtPayload is about one user's token.
    """
    if answer.code == "JwtUserIdentifiersMismatched":
        return False
    if answer.code == "InvalidJwtPayload" and has_succeeded:
        return False
    return answer.status == 401 or (answer.status in (400, 403) and answer.code in REFUSALS)


WORD = re.compile(r"[^\s\"<>]+")  # words do not overlap: linear time, whatever the text
AT = re.compile(r"@|%40|\\u0040|&#64;|&#x40;|\uff20", re.IGNORECASE)  # in URLs, JSON, HTML


def without_addresses(text: str, identifier: str | None = None) -> str:
    """A message for logs and screens: Iterable's may name a user.

    Arguments:
        text: of any origin and length.
        identifier: of the user whom it is about; a userId does not look like one.
    """
    if identifier:
        for name in (identifier, quote(identifier, safe="")):
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "***", text, flags=re.IGNORECASE)
    return WORD.sub(_mask_address, text)


def _mask_address(word: re.Match[str]) -> str:
    """What holds an @ may be an address; of a word with one, the quotes around it stay."""
    if not AT.search(word[0]):
        return word[0]
    before = word[0][: len(word[0]) - len(word[0].lstrip("'([{"))]
    after = word[0][len(word[0].rstrip("'\\)]},;:.!?")) :]
    return f"{before}***{after}"


class Health:
    """Decides, from all answers of a batch run, whether it makes sense to go on.

    Refused credentials end the run at once, and so do many calls in a row that Iterable never
    answered usefully.
    """

    def __init__(self, base_url: str, give_up_after: int | None, stop: Stop) -> None:
        """`give_up_after`: calls of one operation in a row without a useful answer.

        None: it never ends. A row makes at most one call of an operation: so many are as many
        rows, whether or not each makes another call, too.
        """
        self.ending: str | None = None  # what ended the run, as a sentence for a person
        self.was_answered = False  # usefully, be it with a refusal
        self._base_url = base_url
        self._last_failure = ""
        self._give_up_after = give_up_after
        self._stop = stop
        self._lock = threading.Lock()
        self._succeeded = False
        self._unanswered: Counter[str] = Counter()  # calls in a row, by operation

    def begin_query(self) -> None:
        """Forgets which calls were answered; that one succeeded is known for good."""
        with self._lock:
            self.was_answered = False
            self._unanswered.clear()

    def note(self, operation: str, answer: Answer, is_last: bool) -> None:
        """Takes notice of an attempt's answer; `is_last`: no other attempt of its call follows."""
        if self._give_up_after is None or answer.status == 429:
            return  # a 429 is the pace's business
        with self._lock:
            if answer.is_ok and answer.code == "Success":
                self._succeeded = True
            if _is_useful(answer):
                self.was_answered = True
                self._unanswered.clear()
            elif is_last:
                self._unanswered[operation] += 1
                self._last_failure = str(answer.body.get("msg"))
            has_given_up = self._unanswered[operation] >= self._give_up_after
        if is_refusal(answer, self._succeeded):
            self.was_answered = True
            self.end(_describe_refusal(answer))
        elif has_given_up and not self._stop.is_set():
            self.end(self.no_answer)

    @property
    def no_answer(self) -> str:
        """What to say where Iterable is not to be reached: why, as the last failure has it."""
        said = without_addresses(self._last_failure)[:300]
        return f"{self._base_url} gives no useful answer: {said}; run again later"

    def end(self, reason: str) -> None:
        """Stops the run; the first reason stands."""
        with self._lock:
            self.ending = self.ending or reason
        self._stop.abort()


def _describe_refusal(answer: Answer) -> str:
    code = answer.code if answer.code in REFUSALS else ""
    said = without_addresses(str(answer.body.get("msg")))[:200]
    return (
        f"Iterable refused the credentials ({answer.code}, HTTP {answer.status}): "
        f"check {REFUSALS[code]}. It said: {said}"
    )


def _is_useful(answer: Answer) -> bool:
    has_come = answer.status is not None and answer.code != "InvalidResponse"
    return has_come and not answer.retryable


# --- Threads ------------------------------------------------------------------


class Task(Generic[T]):
    """What became of a piece of work. It does not keep what that was made of."""

    def __init__(self) -> None:
        self.result: T | None = None  # None until it is done
        self.error: BaseException | None = None
        self.done = Gate()

    def carry_out(self, function: Callable[..., T], *args: Any) -> None:
        """Does the work."""
        try:
            self.result = function(*args)
        except BaseException as error:
            self.error = error
        finally:
            self.done.open()

    def take(self) -> T | None:
        """What came of it, None before; raises what it raised."""
        if self.error is not None:
            raise self.error
        return self.result


ROOM = 96 << 20  # bytes of address space: a thread's stack, glibc's arena for it, and some more


def has_room() -> bool:
    """Whether one thread more leaves memory for those that there are.

    Without it, wherever it runs out, Python's own code leaves locks taken, or gives up.
    """
    try:
        bytes(ROOM)  # by calloc(): no page of it is touched
    except MemoryError:
        return False
    return True


class Workers:
    """Threads that carry out what is submitted, in its order.

    concurrent.futures' own pool loses a call where the system has no thread to give, and
    threading.Thread.start() waits for ever for a thread that died of lack of memory. This one
    goes on with the threads that there are, the caller's at the least. They do not keep the
    process from ending.
    """

    def __init__(self, most: int) -> None:
        """`most`: threads."""
        self.has_lost_one = False  # a thread died at its work, of lack of memory
        self._most = most
        self._started = 0
        self._serving = 0  # of those: at work, or waiting for some
        self._lock = threading.Lock()
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()  # None: a thread ends

    def submit(self, function: Callable[..., T], *args: Any) -> Task[T]:
        """Has function(*args) carried out; who waits for it calls help() now and then."""
        task: Task[T] = Task()
        with self._lock:
            if self._started < self._most and has_room():
                with contextlib.suppress(RuntimeError, MemoryError):
                    _thread.start_new_thread(self._serve, ())
                    self._started += 1
        if self._started == 0:
            task.carry_out(function, *args)
        else:
            self._work.put(partial(task.carry_out, function, *args))
        return task

    def help(self) -> None:
        """Carries out here what there is to do, where no thread lives to do it.

        Not after one died at its work: what waits for that would wait here for ever.
        """
        with contextlib.suppress(Empty):
            while self._serving == 0 and not self.has_lost_one:
                work = self._work.get_nowait()
                if work:
                    work()

    def close(self) -> None:
        """Lets the threads end once all that was submitted is done. It waits for none."""
        for _ in range(self._started):
            self._work.put(None)

    def _serve(self) -> None:
        with self._lock:
            self._serving += 1
        try:
            while (work := self._work.get()) is not None:
                work()
        except BaseException:
            self.has_lost_one = True
            raise
        finally:
            with self._lock:
                self._serving -= 1


# --- The client ---------------------------------------------------------------


@dataclass(frozen=True)
class Delivery:
    """What became of the payloads of one send()."""

    outcomes: list[Outcome]  # in their order
    filtered_fields: frozenset[str] = frozenset()  # that Iterable dropped, saying success


class IterableClient:
    """Calls Iterable, from any number of threads.

    Arguments:
        api_key: Iterable's API key; with JWT, too.
        jwt_secret: the secret of a JWT-enabled key, as text.
        use_jwt: send a token of its own with each attempt.
        base_url: https://api.iterable.com, or https://api.eu.iterable.com for a project in
            the European data centre.
        max_retries: attempts of a call in all, at least 1.
        backoff_factor: of each wait between attempts to the one before.
        initial_backoff: seconds of the first wait.
        timeout: seconds to connect, and seconds without a byte, that end an attempt.
        workers: how many threads will call at a time.
        rate_limit_factor: the share of Iterable's documented limits to use; above 1 for a
            project with raised ones.
        zone: of times that have none.
        give_up_after: for batch runs, the number of calls in a row without a useful answer
            after which the client stops itself, as it then also does when its credentials
            are refused; default never.
        stop: what ends every wait; its clocks are the client's.
        jitter: makes a number in [0, 1) for each wait.

    Raises:
        ValueError: a key or secret is missing, or max_retries is less than 1.
    """

    def __init__(
        self,
        api_key: str | None = None,
        jwt_secret: str | None = None,
        use_jwt: bool = False,
        base_url: str = "https://api.iterable.com",
        *,
        max_retries: int = 3,
        backoff_factor: float = 2,
        initial_backoff: float = 1,
        timeout: float = 30,
        workers: int = 64,
        rate_limit_factor: float = 0.95,
        zone: tzinfo = timezone.utc,
        give_up_after: int | None = None,
        stop: Stop | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        if max_retries < 1:
            raise ValueError("max_retries is the number of attempts in all: at least 1")
        self.max_retries = max_retries
        self.backoff_factor = backoff_factor
        self.initial_backoff = initial_backoff
        self.base_url = base_url.rstrip("/")
        self.counts = Counter(sent=0, retried=0, rate_limited=0)  # of attempts
        self.stop = stop or Stop()
        self.health = Health(self.base_url, give_up_after, self.stop)
        self._asked_why: Counter[str] = Counter()  # failures in bulk that were sent again, by code
        self._credentials = Credentials(api_key or "", jwt_secret, use_jwt)
        self._is_batch = give_up_after is not None
        self._zone = zone
        self._jitter = jitter
        self._lock = threading.Lock()
        # A pool of its own: bulk calls in the caller's would wait for themselves.
        self._singles = Workers(workers)
        self._pacers = self._make_pacers(rate_limit_factor)
        self._transport = Transport(
            self.base_url, self._credentials, timeout, 2 * workers, self.stop
        )
        _warn_of_short_secret(self._credentials)

    def begin_query(self) -> None:
        """Begins to count anew, where one client sends the rows of several queries.

        Counts, unanswered calls and what was asked about failures in bulk are of one query.
        Pace, connections, and what ended the run stay. It is called while no call is on its
        way.
        """
        self.counts = Counter(sent=0, retried=0, rate_limited=0)
        self._asked_why = Counter()
        self.health.begin_query()

    def update_user(
        self,
        email: str | None,
        data_fields: Mapping[str, Any],
        *,
        user_id: str | int | None = None,
    ) -> Result:
        """Creates a user or merges fields into their profile.

        POST /api/users/update, at most 500 a second.

        Arguments:
            email: the user's address, or None where `user_id` is given.
            data_fields: profile fields; a field keeps the type that it had when Iterable
                first saw it.
            user_id: the user's userId, instead of the email.

        Returns:
            Whether it succeeded, and Iterable's answer or a {"code", "msg"} of ours.
        """
        try:
            kind, identifier = _identity(email, user_id)
            payload = user_update(kind, identifier, clean_fields(data_fields, self._zone))
        except InvalidValueError as error:
            return error.outcome.result
        return self._send_one(USERS_UPDATE, payload).result

    def track_event(
        self,
        email: str | None,
        event_name: str,
        data_fields: Mapping[str, Any] | None = None,
        *,
        user_id: str | int | None = None,
        created_at: datetime | float | None = None,
        event_id: str | None = None,
    ) -> Result:
        """Tracks a custom event.

        POST /api/events/track, at most 2,000 a second.

        Arguments:
            email: the user's address, or None where `user_id` is given.
            event_name: the event's name in Iterable.
            data_fields: fields of the event; within one event name a field keeps its first
                type.
            user_id: the user's userId, instead of the email.
            created_at: when it happened, as a datetime or in Unix seconds; default now.
            event_id: at most 512 bytes; an event with the same id is updated. By default it
                is made of user, name, second and fields: two events that agree in all of
                these are one.

        Returns:
            Whether it succeeded, and Iterable's answer or a {"code", "msg"} of ours.
        """
        try:
            kind, identifier = _identity(email, user_id)
            fields = clean_fields(data_fields or {}, self._zone)
            created = self._created_at(created_at)
        except InvalidValueError as error:
            return error.outcome.result
        own_id = event_id or make_event_id([identifier, event_name, created, fields])
        payload = event(kind, identifier, event_name, fields, created, own_id)
        return self._send_one(EVENTS_TRACK, payload).result

    def get_user_fields(self) -> Result:
        """Asks for the fields of the project's user profiles.

        GET /api/users/getFields, at most 3 a second. JWT-enabled keys cannot call it: a
        client with use_jwt gets its credentials refused.

        Returns:
            Whether it succeeded, and {"fields": {name: type}} or a {"code", "msg"}. What an
            object holds has a name with dots, `address.city`. Types are "string", "long",
            "double", "boolean", "date", "object", "geo_location" and "nested"; an array has
            that of its items (https://support.iterable.com/hc/articles/208183076).
        """
        url = self._url(USERS_GET_FIELDS)
        request = Request("GET", url, b"", USERS_GET_FIELDS.name, FIELDS_EXPECTED)
        try:
            answer = self._exchange(request)
        except StoppedError as stopped:
            return stopped.outcome.result
        if not _is_as_expected(answer):
            return False, answer.body
        types = {name: str(type_) for name, type_ in answer.body["fields"].items()}
        return True, {"fields": types}

    def send(self, operation: Operation, payloads: Sequence[Json]) -> Delivery:
        """Sends user updates or events, by a single operation or a bulk one.

        Repeating it is safe: both are idempotent. A bulk request that is too large is halved;
        what its answer leaves open, and all of a request that was refused as a whole, is sent
        again singly. So are the first failures of each reason: a bulk answer does not say why.
        """
        if not operation.items:
            return Delivery([self._send_one(operation, payload) for payload in payloads])
        body = encode(_bulk_body(operation, payloads))
        if len(body) <= BULK_BYTES and len(payloads) <= BULK_ITEMS:
            return self._send_bulk(operation, payloads, body)
        if len(payloads) == 1:
            msg = f"the row makes a request of {len(body)} bytes, Iterable takes 4 MB"
            return Delivery([InvalidValueError(msg).outcome])
        half = len(payloads) // 2
        first = self.send(operation, payloads[:half])
        second = self.send(operation, payloads[half:])
        return Delivery(
            first.outcomes + second.outcomes,
            first.filtered_fields | second.filtered_fields,
        )

    def _generate_jwt_token(self, email: str | None = None, user_id: str | None = None) -> str:
        """A token for one user and one hour.

        Raises:
            ValueError: without use_jwt, or unless one of the two is given.
        """
        return self._credentials.token(email, user_id, self.stop.unix_time())

    def _make_request_with_retry(
        self,
        method: str,
        endpoint_url: str,
        payload: Mapping[str, Any],
        endpoint_name: str,
    ) -> Result:
        """Makes one call about one user until there is an answer to keep: (success, answer)."""
        return self._call(method, endpoint_url, payload, endpoint_name).result

    def _send_one(self, operation: Operation, payload: Json) -> Outcome:
        return self._call("POST", self._url(operation), payload, operation.name)

    def _call(self, method: str, url: str, payload: Mapping[str, Any], name: str) -> Outcome:
        email, user_id = payload.get("email"), payload.get("userId")
        if self._credentials.use_jwt and (email is None) == (user_id is None):
            msg = "a call with JWT is about one user, by email or userId"
            return InvalidValueError(msg).outcome
        try:
            body = encode(payload)
        except (TypeError, ValueError) as error:
            return InvalidValueError(str(error)).outcome
        try:
            request = Request(method, url, body, name, SINGLE_EXPECTED, email, user_id)
            return judge(self._exchange(request))
        except StoppedError as stopped:
            return stopped.outcome

    def _send_bulk(self, operation: Operation, payloads: Sequence[Json], body: bytes) -> Delivery:
        url = self._url(operation)
        try:
            answer = self._exchange(Request("POST", url, body, operation.name, BULK_EXPECTED))
        except StoppedError as stopped:
            return Delivery([stopped.outcome] * len(payloads))
        if _is_as_expected(answer):
            filtered = frozenset(names_in(answer.body, "filteredOutFields"))
            judged = judge_bulk(answer.body, payloads)
            return Delivery(self._clear_up(operation, payloads, judged, answer), filtered)
        if _may_be_one_rows_fault(answer):
            unknown: list[Outcome | None] = [None] * len(payloads)
            return Delivery(self._clear_up(operation, payloads, unknown, answer))
        failed = Outcome(Kind.FAILED, answer.body, answer.status)
        return Delivery([failed] * len(payloads))

    def _clear_up(
        self,
        operation: Operation,
        payloads: Sequence[Json],
        judged: Sequence[Outcome | None],
        answer: Answer,
    ) -> list[Outcome]:
        """Sends again singly what a bulk answer left open, and some of what it did not explain.

        By user, to keep the order. `judged`: what the answer says of each item.
        """
        places_by_user: dict[str, list[int]] = {}
        for place in self._choose_again(judged):
            places_by_user.setdefault(user_of(payloads[place]), []).append(place)
        if places_by_user:
            users = len(places_by_user)
            log.info("%s: what became of %d users is asked singly", operation.name, users)
        single = operation.single or operation
        tasks: dict[str, Task[Delivery]] = {}
        for user, places in places_by_user.items():
            items = [payloads[place] for place in places]
            tasks[user] = self._singles.submit(self.send, single, items)
        self._wait_for_singles(tasks.values())
        settled = [outcome or IN_DOUBT for outcome in judged]
        for user, places in places_by_user.items():
            delivery = tasks[user].take()
            if delivery:
                for place, again in zip(places, delivery.outcomes, strict=True):
                    settled[place] = _settle_again(judged[place], again, answer.status)
        return settled

    def _choose_again(self, judged: Sequence[Outcome | None]) -> list[int]:
        """The places of what is sent again: all that is open, and the first of each reason."""
        places = []
        for place, outcome in enumerate(judged):
            if outcome is None or (outcome.kind == Kind.FAILED and self._may_ask_why(outcome)):
                places.append(place)
        return places

    def _may_ask_why(self, failure: Outcome) -> bool:
        """Whether this failure is one of the first of its reason; if so, it counts as one."""
        code = failure.answer["code"]
        with self._lock:
            if len(self._asked_why) >= MOST_REASONS and code not in self._asked_why:
                return False
            self._asked_why[code] += 1
            return self._asked_why[code] <= ASKED_WHY

    def end_if_lost(self, workers: Workers) -> None:
        """Ends the run where a thread has died: what it was at will never be done."""
        if workers.has_lost_one and not self.stop.is_set():
            self.health.end("a thread died while sending, perhaps of lack of memory: see the log")

    def _wait_for_singles(self, tasks: Iterable[Task[Delivery]]) -> None:
        """Waits until these are done, or it is nearly too late for the caller, who waits, too."""
        for task in tasks:
            while not task.done.is_open:
                task.done.wait(0.25)
                self._singles.help()
                self.end_if_lost(self._singles)
                if self.stop.now() >= self.stop.deadline - 1:
                    return

    def _exchange(self, request: Request) -> Answer:
        """The retry loop: makes attempts until there is an answer to keep.

        In a batch run a 429 is the pace's business, and uses up no attempt of the call.

        Raises:
            StoppedError: a stop came first.
        """
        pacer = self._pacers.get(request.url)
        outcome = NOT_SENT
        attempt = 1
        while self._may_begin(pacer):
            answer = self._attempt(request, pacer, is_retry=outcome != NOT_SENT)
            is_paced = pacer is not None and self._is_batch and answer.status == 429
            has_more = attempt < self.max_retries and answer.wait <= LONGEST_WAIT
            is_last = not is_paced and not (answer.retryable and has_more)
            self.health.note(request.name, answer, is_last)
            if is_last:
                return answer
            delay = self._delay_after(attempt, answer)
            what = f"{request.name}: HTTP {answer.status} {answer.code}"
            # What is known so far is the outcome, should a stop prevent the next attempt.
            outcome = Outcome(Kind.IN_DOUBT, answer.body, answer.status)
            if is_paced:
                log.info("%s, the pace is slower now", what)
                continue
            log.warning("%s, again in %.1f s", what, delay)
            attempt += 1
            self.stop.wait(delay)
        raise StoppedError(outcome)

    def _may_begin(self, pacer: Pacer | None) -> bool:
        """Returns when an attempt may begin; False where a stop came first."""
        if self.stop.is_set():
            return False
        return pacer is None or pacer.wait()

    def _attempt(self, request: Request, pacer: Pacer | None, is_retry: bool) -> Answer:
        """One attempt, with what it means to the counts and to the pace."""
        with self._lock:  # before the answer: a run that stops may not wait for it
            self.counts["sent"] += 1
            self.counts["retried"] += is_retry
        sent_at = self.stop.now()
        answer = self._transport.attempt(request)
        log.debug("%s: HTTP %s %s", request.name, answer.status, answer.code)
        if answer.status == 429:
            with self._lock:
                self.counts["rate_limited"] += 1
        if pacer:
            self._tell_pacer(pacer, answer, sent_at, request.name)
        return answer

    def _tell_pacer(self, pacer: Pacer, answer: Answer, sent_at: float, name: str) -> None:
        if answer.status != 429:
            # Of a timeout or a 5xx nobody knows whether the limiter had let it through.
            if answer.status is not None and answer.status < 500:
                pacer.note_accepted(sent_at)
            return
        pacer.note_refused(sent_at)
        if not self._is_batch:
            if answer.wait <= LONGEST_WAIT:
                pacer.hold(answer.wait)
            return
        # In a second the bucket has room again; a demand of hours is looked into earlier.
        pacer.hold(min(max(1.0, answer.wait), LONGEST_HOLD))
        if pacer.is_exhausted:
            self.health.end(
                f"others use up the limit of {name}: for five minutes Iterable answered "
                "nothing but 429; run again when they are done"
            )

    def _delay_after(self, attempt: int, answer: Answer) -> float:
        initial, factor = self.initial_backoff, self.backoff_factor
        return retry_delay(attempt, initial, factor, answer.wait, self._jitter())

    def _url(self, operation: Operation) -> str:
        return f"{self.base_url}/api/{operation.name}"

    def _make_pacers(self, factor: float) -> dict[str, Pacer]:
        """A pacer for each operation, by its URL."""
        pacers = {}
        for operation in OPERATIONS:
            pacers[self._url(operation)] = Pacer(operation.per_second * factor, self.stop)
        return pacers

    def _created_at(self, created_at: datetime | float | None) -> int:
        """The `createdAt` of an event, in Unix seconds."""
        if isinstance(created_at, datetime):
            return unix_seconds(to_utc(created_at, self._zone))
        try:
            return math.floor(self.stop.unix_time() if created_at is None else created_at)
        except (ValueError, OverflowError):
            raise InvalidValueError(f"created_at {created_at} is no time") from None


def _bulk_body(operation: Operation, payloads: Sequence[Json]) -> Json:
    """The body of a bulk request. What it says of all its items, each payload says, too."""
    name = operation.of_all
    if not name or name not in payloads[0]:
        return {operation.items: payloads}
    items = []
    for payload in payloads:
        item = dict(payload)
        del item[name]
        items.append(item)
    return {operation.items: items, name: payloads[0][name]}


def _identity(email: str | None, user_id: str | int | None) -> tuple[str, str]:
    if user_id is None:
        return "email", normalize_identifier("email", email)
    if email is None:
        return "userId", normalize_identifier("userId", user_id)
    raise InvalidValueError("a call is about an email or a userId, not both")


def _warn_of_short_secret(credentials: Credentials) -> None:
    """Says it once, in the log: PyJWT's own warning would be one a call, on stderr."""
    if credentials.use_jwt and len((credentials.jwt_secret or "").encode()) < 32:
        log.warning("The JWT secret is shorter than 32 bytes, the least RFC 7518 allows for HS256")
        warnings.filterwarnings("ignore", category=InsecureKeyLengthWarning)


def _is_as_expected(answer: Answer) -> bool:
    """Whether a request without a code in its answer was carried out."""
    return answer.is_ok and not answer.retryable  # retryable: what came was not Iterable's


def _settle_again(named: Outcome | None, again: Outcome, bulk_status: int | None) -> Outcome:
    """What became of an item that was sent again; `named`: what the bulk answer says of it."""
    if named is not None:
        return in_own_words(named, again)
    if again == NOT_SENT:  # by itself: it did go out in the bulk request
        return replace(IN_DOUBT, status=bulk_status)
    return again


def _may_be_one_rows_fault(answer: Answer) -> bool:
    """Whether a bulk request may have been refused as a whole because of one of its rows."""
    if answer.body.get("code") in REFUSALS:
        return False
    return answer.status in (400, 408, 409, 413, 500) or answer.code == "BatchTooLarge"


# --- Rows, from a pool of threads ---------------------------------------------


@dataclass(frozen=True)
class Settled:
    """Rows of which every call has an outcome."""

    rows: list[Row]
    dropped_user_fields: frozenset[str] = frozenset()  # by Iterable, which said success
    dropped_event_fields: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Handover:
    """What a worker gives back: calls, each with what became of it."""

    pairs: list[tuple[Call, Outcome]]
    dropped_user_fields: frozenset[str] = frozenset()
    dropped_event_fields: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Shipment:
    """Rows that one worker sends. It reads payloads; what it tells are the last two."""

    rows: list[Row]
    updates: list[Call]
    events: list[Call]
    keys: frozenset[str | None]  # users who are updated, and ids of events
    begun: Gate = field(default_factory=Gate)  # it opens before a byte is sent
    handovers: SimpleQueue[Handover] = field(default_factory=SimpleQueue)


Flight = tuple[Shipment, Task[None]]


def deliver(
    client: IterableClient, batches: Iterable[list[Row]], is_bulk: bool, workers: int
) -> Iterator[Settled]:
    """Sends rows, in bulk by batches or one by one, from a pool of threads.

    A row's update goes before its event, whatever becomes of the update. Updates of one user
    and events of one id keep the order of their rows. Calls that have an outcome already are
    not sent. After client.stop no more rows begin.

    Arguments:
        client: what to send with.
        batches: rows; as many batches as workers, or twice as many rows, are on their way.
        is_bulk: whether the bulk operations are used.
        workers: threads.

    Returns:
        The rows in their order; now and then, while it waits, none.
    """
    most_in_flight = workers if is_bulk else 2 * workers  # a batch takes 2 MB
    in_flight: deque[Flight] = deque()
    with contextlib.closing(Workers(workers)) as pool:
        for rows in batches if is_bulk else _one_by_one(batches):
            if client.stop.is_set():
                break
            shipment = _pack(rows)
            before = [task for other, task in in_flight if other.keys & shipment.keys]
            task = pool.submit(_ship, client, shipment, is_bulk, before)
            in_flight.append((shipment, task))
            while in_flight and (len(in_flight) >= most_in_flight or in_flight[0][1].done.is_open):
                yield from _settle(client, pool, *in_flight.popleft())
        while in_flight:
            yield from _settle(client, pool, *in_flight.popleft())


def _one_by_one(batches: Iterable[list[Row]]) -> Iterator[list[Row]]:
    for rows in batches:
        for row in rows:
            yield [row]


def _pack(rows: list[Row]) -> Shipment:
    updates = []
    events = []
    keys = set()
    for row in rows:
        if row.update and row.update.outcome is None:
            updates.append(row.update)
            keys.add(row.user)
        if row.event and row.event.outcome is None:
            events.append(row.event)
            keys.add(row.event_id)
    return Shipment(rows, updates, events, frozenset(keys))


def _ship(
    client: IterableClient,
    shipment: Shipment,
    is_bulk: bool,
    before: list[Task[None]],
) -> None:
    """A worker's part."""
    for task in before:  # no deadlock: the pool starts its work in order: these have threads
        while not task.done.wait(1):
            if client.stop.now() >= client.stop.deadline:
                return  # that one's thread has died, or hangs
    shipment.begun.open()
    stages = [(USERS_UPDATE, shipment.updates), (EVENTS_TRACK, shipment.events)]
    if is_bulk:
        stages = [
            (USERS_BULK_UPDATE, shipment.updates),
            (EVENTS_TRACK_BULK, shipment.events),
        ]
    for operation, calls in stages:
        if calls:
            delivery = client.send(operation, [call.payload or {} for call in calls])
            pairs = list(zip(calls, delivery.outcomes, strict=True))
            dropped = delivery.filtered_fields
            if operation in (USERS_UPDATE, USERS_BULK_UPDATE):
                shipment.handovers.put(Handover(pairs, dropped_user_fields=dropped))
            else:
                shipment.handovers.put(Handover(pairs, dropped_event_fields=dropped))


def _settle(
    client: IterableClient, pool: Workers, shipment: Shipment, task: Task[None]
) -> Iterator[Settled]:
    """Puts outcomes into calls: what came and, when time is up, that nothing did."""
    while not task.done.is_open and client.stop.now() < client.stop.deadline:
        task.done.wait(0.25)
        pool.help()
        client.end_if_lost(pool)
        yield Settled([])
    # Where the time is up, what has not begun never will: it would meet the stop.
    rest = IN_DOUBT if shipment.begun.is_open else NOT_SENT
    if task.error is not None:
        _end_by_surprise(client, task.error)
    of_users: frozenset[str] = frozenset()
    of_events: frozenset[str] = frozenset()
    with contextlib.suppress(Empty):
        while True:
            handover = shipment.handovers.get_nowait()
            of_users |= handover.dropped_user_fields
            of_events |= handover.dropped_event_fields
            for call, outcome in handover.pairs:
                call.outcome = _name_ending(client.stop, outcome)
    for call in shipment.updates + shipment.events:
        if call.outcome is None:
            call.outcome = _name_ending(client.stop, rest)
    yield Settled(shipment.rows, of_users, of_events)


def _name_ending(stop: Stop, outcome: Outcome) -> Outcome:
    """The outcome; "Interrupted" is for calls of a run that somebody interrupted."""
    if not stop.is_abort or outcome.answer["code"] != "Interrupted":
        return outcome
    return replace(outcome, answer={**outcome.answer, "code": "Aborted"})


def _end_by_surprise(client: IterableClient, error: BaseException) -> None:
    """Ends the run where something happened for which nothing here provides."""
    log.error("while sending", exc_info=error)
    what = without_addresses(f"{type(error).__name__}: {error}")
    client.health.end(f"something unexpected happened while sending ({what}): see the log")


# --- Files --------------------------------------------------------------------

# First characters that make a spreadsheet run a cell (OWASP, "CSV Injection"). The last are
# the full-width forms of the first.
RISKY_STARTS = frozenset("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


class OutputFile:
    """A text file that appears under its name whole or not at all, and never over another one.

    Until commit() it is a hidden `.part` beside the final name, for its owner alone.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self._final = directory / name
        self._part = directory / f".{name}.{os.getpid()}.part"
        self._part.unlink(missing_ok=True)
        descriptor = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        self.text = open(  # noqa: SIM115 - closed by commit() or close()
            descriptor, "w", encoding="utf-8", errors="backslashreplace", newline=""
        )

    def commit(self) -> Path:
        """Makes the file durable, then visible.

        Returns:
            Its path, whose name ends in `_2` and so on where it was taken.
        """
        self.text.flush()
        os.fsync(self.text.fileno())
        self.text.close()
        for path in self._candidates():
            try:
                os.link(self._part, path)  # unlike a rename it fails where the name exists
            except FileExistsError:
                continue
            except OSError:
                if path.exists():
                    continue
                self._part.rename(path)  # no links here; the lock keeps other runs away
                return path
            self._part.unlink()
            return path
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Removes what was not committed."""
        with contextlib.suppress(OSError):  # closing flushes; a full disk was reported already
            self.text.close()
        self._part.unlink(missing_ok=True)

    def _candidates(self) -> Iterator[Path]:
        yield self._final
        for number in itertools.count(2):
            yield self._final.with_stem(f"{self._final.stem}_{number}")


class CsvFile(OutputFile):
    """An OutputFile of rows: UTF-8, the csv module's defaults, NULL empty.

    Text that a spreadsheet would run gets an apostrophe before it.
    """

    def __init__(self, directory: Path, name: str) -> None:
        super().__init__(directory, name)
        self.longest_row = 0  # in characters
        self._writer = csv.writer(self.text)

    def write(self, row: Iterable[Any]) -> int:
        """Writes one row, or the header; returns its length in characters."""
        cells = [cell if _is_plain_cell(cell) else _csv_cell(cell) for cell in row]
        length: int = self._writer.writerow(cells)
        if length > self.longest_row:
            self.longest_row = length
        return length


def _is_plain_cell(cell: Any) -> bool:
    """Whether a cell is text that goes into the CSV as it is: most are."""
    return cell.__class__ is str and cell[:1] not in RISKY_STARTS and "\0" not in cell


def _csv_cell(cell: Any) -> Any:
    if cell is None or isinstance(cell, (int, float, Decimal)):
        return cell
    if isinstance(cell, bytes):
        return "\\x" + cell.hex()  # as PostgreSQL shows them
    if isinstance(cell, (dict, list)):
        text = json.dumps(cell, ensure_ascii=False, default=str)
    else:
        text = str(cell)
    if text[:1] in RISKY_STARTS:
        text = "'" + text
    return text.replace("\0", "\\x00")  # Python's own csv module cannot read NUL before 3.11


def export_results_to_csv(
    user_records: Sequence[Mapping[str, Any]], filename: str | None = None
) -> str:
    """Writes records to a CSV file.

    Arguments:
        user_records: a mapping of column to value per row. The columns are those of all
            rows, in order of appearance.
        filename: default `query_results_YYYYMMDD_HHMMSS.csv` in the working directory. An
            existing file is left alone: the new one's name gets `_2`.

    Returns:
        Its path.

    Raises:
        OSError: it cannot be written; then there is no file.
    """
    path = Path(filename or f"query_results_{datetime.now():%Y%m%d_%H%M%S}.csv")
    columns: dict[str, None] = {}  # a set that keeps its order
    for record in user_records:
        columns.update(dict.fromkeys(record))
    with contextlib.closing(CsvFile(path.parent, path.name)) as file:
        file.write(columns)
        for record in user_records:
            file.write([record.get(column) for column in columns])
        return str(file.commit())

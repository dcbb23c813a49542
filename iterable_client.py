"""A client for the operations of Iterable's API that update users and track events.

    client = IterableClient(api_key="...")
    ok, answer = client.update_user("ada@example.com", {"plan_type": "pro"})
    ok, answer = client.track_event("ada@example.com", "page_view", {"page": "pricing"}, created_at=1768293912)

It paces itself below Iterable's documented limits, retries what is worth retrying, gives every event an id so that
a repeated call changes nothing, and never raises for what HTTP or Iterable did: a call returns (success, answer).
Facts about Iterable are from its API description (https://api.iterable.com/api/docs, 1.8) unless said otherwise.
"""
from __future__ import annotations

import contextlib
import csv
import json
import logging
import math
import os
import random
import re
import ssl
import threading
import time
import uuid
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from email.utils import parsedate_to_datetime
from functools import partial
from hashlib import sha1
from itertools import repeat
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt
import requests
from jwt.warnings import InsecureKeyLengthWarning
from requests.adapters import HTTPAdapter

log = logging.getLogger("iterable_client")

Result = tuple[bool, dict[str, Any]]
"""Whether a call succeeded, and Iterable's own answer, or a {"code", "msg"} of ours where there is none."""

Call = dict[str, Any] | Result | None
"""A call of a row: its payload until it was sent, its result where that is known, None where there is no such call."""

NOT_SENT = {"code": "Interrupted", "msg": "the run was stopped before this call began"}
"""The very answer of a call that a stop prevented: not one byte of it was sent."""

IN_DOUBT = {"code": "Interrupted", "msg": "the run was stopped before it was clear what became of this call"}


@dataclass(frozen=True)
class Operation:
    """One of Iterable's operations: path, limit in requests per second and project, and how a bulk one is made up."""

    name: str
    per_second: float
    items: str = ""  # of a bulk operation: the property of the body that holds the list
    single: Operation | None = None  # of a bulk operation: the one that takes one item


USERS_UPDATE = Operation("users/update", 500)
EVENTS_TRACK = Operation("events/track", 2000)
USERS_BULK_UPDATE = Operation("users/bulkUpdate", 5, "users", USERS_UPDATE)
EVENTS_TRACK_BULK = Operation("events/trackBulk", 10, "events", EVENTS_TRACK)
SINGLE_OPERATIONS = (USERS_UPDATE, EVENTS_TRACK)
BULK_OPERATIONS = (USERS_BULK_UPDATE, EVENTS_TRACK_BULK)
BULK_ITEMS = 1000  # by Iterable's custom
BULK_BYTES = 4_000_000  # "Max size of request body: 4MB", counted the strict way


# --- Values ----------------------------------------------------------------------------------------------------------

EPOCH = datetime(1970, 1, 1)
SECOND = timedelta(seconds=1)
MOST = 2**63  # Iterable's integers have 64 bits
EVENT_ID_NAMESPACE = uuid.UUID("6f1d3c52-8a0e-5b7c-9d44-2f6a1e0b9c73")  # another one would double every event ever sent


class InvalidValueError(ValueError):
    """A value that Iterable cannot take, or that would not survive the way there."""

    def __init__(self, message: str, code: str = "InvalidValue") -> None:
        super().__init__(message)
        self.result: Result = (False, {"code": code, "msg": message})


def to_utc(value: datetime, zone: tzinfo) -> datetime:
    """The time in UTC, without a zone of its own any more; `zone` is that of a value that has none."""
    aware = value if value.tzinfo else value.replace(tzinfo=zone)
    try:
        utc = aware.astimezone(timezone.utc) if aware.utcoffset() else aware
        return datetime.combine(utc, utc.time())  # a quarter of the time of replace(tzinfo=None)
    except OverflowError:
        raise InvalidValueError(f"time {value} is outside the years 1 to 9999 in UTC") from None


def format_time(utc: datetime) -> str:
    """Iterable's own form of a time of to_utc(): `2026-01-13 08:45:12 +00:00`; a fraction stays, for event ids."""
    return utc.isoformat(" ") + " +00:00"


def unix_seconds(utc: datetime) -> int:
    """The Unix time of a time of to_utc() in whole seconds, as `createdAt` wants it."""
    return (utc - EPOCH) // SECOND


def json_value(value: Any, zone: tzinfo) -> Any:
    """What Iterable gets for a value from a database. Raises InvalidValueError for what JSON or Iterable cannot hold.

    Iterable fixes a field's type at first sight, so the JSON type follows from the value's type alone: a Decimal is
    always a number with a fraction, an integer never.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _checked_text(str.__str__(value))  # no subclass: what came of a value is of JSON's own types alone
    if isinstance(value, int):
        if not -MOST <= value < MOST:
            raise InvalidValueError("int beyond 64 bits")
        return int(value)
    if isinstance(value, (float, Decimal)):
        number = float(value) if isinstance(value, float) or value.is_finite() else math.nan
        if not math.isfinite(number):
            raise InvalidValueError(f"{type(value).__name__} {value} is not a number that JSON can hold")
        return number
    if isinstance(value, datetime):
        return format_time(to_utc(value, zone).replace(microsecond=0))  # Iterable keeps whole seconds
    if isinstance(value, (date, uuid.UUID)):
        return str(value)
    if isinstance(value, Mapping):
        return {_checked_text(str(key)): json_value(item, zone) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_value(item, zone) for item in value]
    raise InvalidValueError(f"Iterable has no type for {type(value).__name__}")


def _checked_text(text: str) -> str:
    """The text, unless it holds lone surrogates, which UTF-8 cannot encode: a database's broken text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidValueError("text that is not valid UTF-8") from None
    return text


def clean_field(name: str, value: Any, zone: tzinfo) -> Any:
    """json_value() of a column. Raises InvalidValueError, naming the column."""
    try:
        return json_value(value, zone)
    except InvalidValueError as error:
        raise InvalidValueError(f"column {name}: {error}") from None
    except RecursionError:
        raise InvalidValueError(f"column {name}: nested too deeply") from None


def clean_fields(items: Iterable[tuple[str, Any]], zone: tzinfo) -> dict[str, Any]:
    """The dataFields of (column, value) pairs. Raises InvalidValueError, naming the column."""
    return {name: clean_field(name, value, zone) for name, value in items}


def normalize_identifier(kind: str, value: Any) -> str:
    """An "email" trimmed and in lower case, as Iterable stores it, or a "userId" as text. Raises InvalidValueError."""
    if value is None or (isinstance(value, str) and not value.strip()):
        raise InvalidValueError(f"the row has no {kind}", "NoIdentifier")
    if isinstance(value, str):
        return _checked_text(value.strip().lower() if kind == "email" else value)
    if isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value():
        value = int(value)  # a NUMERIC key
    if kind == "email" or isinstance(value, bool) or not isinstance(value, (int, uuid.UUID)):
        raise InvalidValueError(f"{kind} cannot be made of {type(value).__name__}")
    return str(value)


_namespace_hash = sha1(EVENT_ID_NAMESPACE.bytes, usedforsecurity=False)
_canonical_json = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
FAST_JSON: dict[type, Callable[[Any], str]] = {  # the same, without its overhead
    str: json.encoder.encode_basestring_ascii, int: str,
}  # fmt: skip


def make_event_id(parts: Sequence[Any]) -> str:
    """The id of an event: uuid5 of EVENT_ID_NAMESPACE and the canonical JSON of what tells it from others.

    An event sent again under its id replaces the first one instead of adding to it. Ids are unique across all custom
    events of a project, so `parts` begins with identifier and event name. Three times as fast as uuid.uuid5.
    """
    sha = _namespace_hash.copy()
    texts = [FAST_JSON.get(part.__class__, _canonical_json)(part) for part in parts]
    sha.update(f"[{','.join(texts)}]".encode())
    digest = bytearray(sha.digest())
    digest[6] = digest[6] & 0x0F | 0x50  # version 5, RFC 9562 section 5.5
    digest[8] = digest[8] & 0x3F | 0x80  # and its variant
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:32]}"


def user_update(kind: str, identifier: str, fields: dict[str, Any]) -> dict[str, Any]:
    """The payload of a user update; `kind` is "email" or "userId"."""
    payload: dict[str, Any] = {kind: identifier, "dataFields": fields}
    if kind == "userId":
        payload["preferUserId"] = True  # lets an email-based project create a user whom it does not know yet
    return payload


def event(
    kind: str, identifier: str, name: str, fields: dict[str, Any], created: int | None, id_: str
) -> dict[str, Any]:
    """The payload of an event; `created` in Unix seconds, or None for the time at which Iterable receives it."""
    payload: dict[str, Any] = {kind: identifier, "eventName": name, "dataFields": fields, "id": id_}
    if created is not None:
        payload["createdAt"] = created
    return payload


# --- Attempts: what came, whether to try again, how long to wait -----------------------------------------------------

GRACE = 10.0  # seconds that calls on the wire get after a stop
RETRIED_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
LONGEST_WAIT = 60.0  # seconds; an answer that demands more ends the attempts of its call
REFUSALS = frozenset({"BadApiKey", "Unauthorized", "BadAuthorizationHeader", "Forbidden", "InvalidJwtPayload"})


@dataclass(frozen=True)
class Answer:
    """What an attempt brought: the HTTP status, 0 if none came; the JSON; the seconds to wait that it asks for."""

    status: int
    body: dict[str, Any]
    wait: float = 0.0
    retryable: bool = False


def should_retry(status: int, valid: bool = True, error: Exception | None = None) -> bool:
    """Whether another attempt may help, from the status, whether the body was Iterable's JSON, and a network error.

    A refused certificate stays refused, an invalid URL (a ValueError) invalid. A 2xx without Iterable's JSON comes from
    something in between, like a 502.
    """
    if error is not None:
        dropped = "EOF occurred" in str(error)  # while TLS was being set up: no refusal
        return dropped or not isinstance(error, (requests.exceptions.SSLError, ValueError))
    return status in RETRIED_STATUSES or (200 <= status < 300 and not valid)


def retry_delay(attempt: int, initial: float, factor: float, demanded: float = 0.0, noise: float = 0.5) -> float:
    """Seconds to wait after attempt number `attempt` (from 1); `noise` in [0, 1) is the jitter of +-10%."""
    return max(initial * factor ** (attempt - 1) * (0.9 + 0.2 * noise), demanded)


def demanded_wait(status: int, headers: Mapping[str, str], body: Any, now: float) -> float:
    """Seconds that an answer asks us to wait: `Retry-After` (RFC 9110, 10.2.3), or a 429's `params.rateLimitReset`."""
    header = headers.get("Retry-After", "").strip()
    if header.isdecimal():
        return float(header)
    with contextlib.suppress(TypeError, ValueError, OverflowError):  # none, or no date
        return max(parsedate_to_datetime(header).timestamp() - now, 0.0)
    with contextlib.suppress(KeyError, TypeError, ValueError, OverflowError):
        return max(float(body["params"]["rateLimitReset"]), 0.0) if status == 429 else 0.0
    return 0.0


class Pacer:
    """Lets callers through one at a time, evenly, at a rate.

    Iterable's limiter is a token bucket, which an even pace never empties. At most 20 ms are caught up after a stall,
    so that a pause cannot end in a burst.
    """

    def __init__(self, per_second: float, stop: threading.Event, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = 1 / per_second
        self._stop = stop
        self._clock = clock
        self._turn = threading.Lock()
        self._next = self._held_until = 0.0

    def wait(self) -> bool:
        """Returns when the caller may send: True, or False where a stop came first."""
        with self._turn:  # held while sleeping: the others wait for the lock, not for slots of their own
            slot = max(self._next, self._clock() - 0.02)
            while (pause := max(slot, self._held_until) - self._clock()) > 0:
                if self._stop.wait(pause):
                    return False
            self._next = max(slot, self._held_until) + self._interval
        return not self._stop.is_set()

    def hold(self, seconds: float) -> None:
        """Lets nobody through for so long."""
        self._held_until = max(self._held_until, self._clock() + seconds)


# --- What an answer says ---------------------------------------------------------------------------------------------

BULK_SUCCESS: Result = (True, {"code": "Success", "bulk": True})
FAILURE_CODES = {  # beginnings of the names of failedUpdates' lists, and what the single operations call the same
    "invalidEmails": "InvalidEmailAddressError", "invalidUserIds": "InvalidUserIdError",
    "notFoundEmails": "UnknownEmailError", "notFoundUserIds": "UnknownUserIdError",
    "forgotten": "ForgottenUserError", "invalidData": "RequestFieldsTypesMismatched",
    "conflictEmails": "EmailAlreadyExists", "conflictUserIds": "UserIdAlreadyExists",
}  # fmt: skip


def judge(answer: Answer) -> Result:
    """Whether a single call succeeded. An event whose name the project disallows is answered much like a success."""
    msg = str(answer.body.get("msg"))
    is_success = 200 <= answer.status < 300 and answer.body.get("code") == "Success"
    if is_success and "is disallowed from tracking" in msg:
        return False, {"code": "DisallowedEventName", "msg": msg}
    return is_success, answer.body


def judge_bulk(body: Mapping[str, Any], payloads: Sequence[Mapping[str, Any]]) -> list[Result | None]:
    """What a bulk answer says of each item: a result, or None where it leaves open what became of the item.

    Items fail by the name of their user, in a list of `failedUpdates` or in the older lists beside it, or by that of
    their event. The counts must then agree: if they do not, items that were not named may have failed, too; and of a
    user's several items, if the user was named less often, any may be meant.
    """
    named, mentions = _named_users(body)
    disallowed = set(_names(body, "disallowedEventNames"))
    if not named and not disallowed and (body["successCount"], body["failCount"]) == (len(payloads), 0):
        return [BULK_SUCCESS] * len(payloads)  # nearly always
    users = [_user_of(item) for item in payloads]
    results: list[Result | None] = []
    for user, item in zip(users, payloads, strict=True):
        code = "DisallowedEventName" if item.get("eventName") in disallowed else named.get(user)
        msg = "so says Iterable's answer to the bulk request"
        results.append((False, {"code": code, "msg": msg, "bulk": True}) if code else BULK_SUCCESS)

    sent, failed = len(payloads), sum(result is not BULK_SUCCESS for result in results)
    all_found = named.keys() <= set(users) and disallowed <= {item.get("eventName") for item in payloads}
    all_counted = all_found and body["successCount"] + body["failCount"] == sent
    if all_counted and body["failCount"] == failed:
        return results
    doubtful = Counter(user for user in users if user in named) - mentions  # only users with more items than mentions
    others_succeeded = all_counted and body["failCount"] == failed - doubtful.total()
    return [
        None if user in doubtful or (result is BULK_SUCCESS and not others_succeeded) else result
        for user, result in zip(users, results, strict=True)
    ]


def _named_users(body: Mapping[str, Any]) -> tuple[dict[str, str], Counter[str]]:
    """The users whom a bulk answer names as failed, each with the code, and how often one list names them."""
    named: dict[str, str] = {}
    mentions: Counter[str] = Counter()
    updates = body.get("failedUpdates")
    older = {name: body.get(name) for name in ("invalidEmails", "invalidUserIds")}
    for source in (updates if isinstance(updates, dict) else {}, older):
        for name in source:
            code = next((code for start, code in FAILURE_CODES.items() if name.startswith(start)), name)
            if not name.startswith("noOp"):  # nothing to change is a success
                users = Counter(_names(source, name))
                named = dict.fromkeys(users, code) | named
                mentions |= users
    return named, mentions


def _names(source: Mapping[str, Any], list_name: str) -> list[str]:
    """What a list of an answer names; emails are comparable with those of _user_of()."""
    value = source.get(list_name)
    names = [str(item) for item in value] if isinstance(value, list) else []
    return [name.strip().lower() for name in names] if list_name.endswith("Emails") else names


def _user_of(payload: Mapping[str, Any]) -> str:
    return payload["email"].strip().lower() if "email" in payload else str(payload["userId"])


# --- The client ------------------------------------------------------------------------------------------------------


sign_jwt = partial(jwt.encode, algorithm="HS256")
"""A JSON Web Token as Iterable wants it, of claims and a secret that is taken as text."""


def encode(payload: object) -> bytes:
    """JSON as it goes over the wire. Raises TypeError or ValueError for what JSON cannot hold."""
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


class IterableClient:
    """Calls Iterable, from any number of threads.

    Arguments:
        api_key: Iterable's API key; with JWT, too.
        jwt_secret: the secret of a JWT-enabled key, as text.
        use_jwt: send a token of its own with each attempt.
        base_url: https://api.iterable.com, or https://api.eu.iterable.com for a project in the European data centre.
        max_retries: attempts of a call in all.
        backoff_factor, initial_backoff: attempt n is followed by initial_backoff * backoff_factor ** (n - 1) seconds.
        timeout: seconds to connect, and seconds without a byte, before an attempt is given up.
        workers: how many threads will call at a time.
        rate_limit_factor: the share of Iterable's documented limits to use; above 1 for a project with raised ones.
        zone: of times that have none.
        give_up_after: for batch runs, the number of calls in a row without a useful answer after which the client stops
            itself, as it then also does when its credentials are refused; default never.

    Raises ValueError where a key or secret is missing, or the environment names a CA bundle that does not exist.
    """

    def __init__(
        self, api_key: str | None = None, jwt_secret: str | None = None, use_jwt: bool = False,
        base_url: str = "https://api.iterable.com", *, max_retries: int = 3, backoff_factor: float = 2,
        initial_backoff: float = 1, timeout: float = 30, workers: int = 64, rate_limit_factor: float = 0.95,
        zone: tzinfo = timezone.utc, give_up_after: int | None = None,
    ) -> None:  # fmt: skip
        if not api_key or (use_jwt and not jwt_secret):
            raise ValueError("api_key is required, and jwt_secret with use_jwt")
        self.max_retries = max_retries
        self.backoff_factor = backoff_factor
        self.initial_backoff = initial_backoff
        self.base_url = base_url.rstrip("/")
        self.counts: Counter[str] = Counter(sent=0, retried=0, rate_limited=0)  # of attempts
        self.refusal: dict[str, Any] | None = None  # the answer that refused our credentials
        self.ever_answered = False  # usefully, be it with a refusal
        self.unanswered = 0  # calls in a row that were not
        self.gave_up = False
        self.deadline = math.inf  # by time.monotonic(): when nobody waits for answers any longer
        self.filtered_fields: set[str] = set()  # fields that Iterable dropped, saying success
        self._jwt_secret = jwt_secret if use_jwt else None
        self._timeout = timeout
        self._zone = zone
        self._give_up_after = give_up_after
        self._succeeded = False
        self._lock = threading.Lock()
        self._stop = threading.Event()
        operations = (*SINGLE_OPERATIONS, *BULK_OPERATIONS)
        self._pacers = {self._url(op): Pacer(op.per_second * rate_limit_factor, self._stop) for op in operations}
        self._singles = ThreadPoolExecutor(workers, "single")  # not the caller's: bulk calls would wait for themselves
        secrets = sorted((re.escape(secret) for secret in (api_key, jwt_secret) if secret), key=len, reverse=True)
        self._secrets = re.compile("|".join([*secrets, r"eyJ[\w-]+\.[\w-]+\.[\w-]*"]), re.IGNORECASE)
        if use_jwt and len((jwt_secret or "").encode()) < 32:
            log.warning("The JWT secret is shorter than 32 bytes, the least that RFC 7518 allows with HS256")
            warnings.filterwarnings("ignore", category=InsecureKeyLengthWarning)  # one a call, on stderr
        agent = f"iterable-integration {requests.utils.default_user_agent()}"
        headers = {"Api-Key": api_key, "Content-Type": "application/json", "User-Agent": agent}
        self._template = requests.Request("POST", self.base_url, headers=headers).prepare()
        # The adapter is called directly: half the CPU time of Session.send, and no cookies, redirects or .netrc.
        self._adapter = HTTPAdapter(pool_connections=1, pool_maxsize=2 * workers)
        settings = requests.Session().merge_environment_settings(self.base_url, {}, False, None, None)
        self._verify = bundle = settings["verify"] or True
        is_loopback = re.fullmatch(r"localhost|127(\.\d+){3}|::1", urlsplit(self.base_url).hostname or "")
        self._proxies = {} if is_loopback else settings["proxies"]
        if isinstance(bundle, str) and not Path(bundle).is_dir():
            try:
                ssl.create_default_context(cafile=bundle)
            except OSError as error:
                what = f"{bundle} is no file of certificates ({error.strerror or error})"
                raise ValueError(f"REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE: {what}") from None

    def update_user(
        self, email: str | None, data_fields: Mapping[str, Any], *, user_id: str | int | None = None
    ) -> Result:
        """Creates a user or merges fields into their profile: POST /api/users/update, at most 500 a second.

        Arguments:
            email: the user's address, or None where `user_id` is given.
            data_fields: profile fields; a field keeps the type that it had when Iterable first saw it.
            user_id: the user's userId, instead of the email.
        """
        try:
            payload = user_update(*_identity(email, user_id), clean_fields(data_fields.items(), self._zone))
        except InvalidValueError as error:
            return error.result
        return self.send(USERS_UPDATE, [payload])[0]

    def track_event(
        self, email: str | None, event_name: str, data_fields: Mapping[str, Any] | None = None, *,
        user_id: str | int | None = None, created_at: datetime | float | None = None, event_id: str | None = None,
    ) -> Result:  # fmt: skip
        """Tracks a custom event: POST /api/events/track, at most 2,000 a second.

        Arguments:
            email: the user's address, or None where `user_id` is given.
            event_name: the event's name in Iterable.
            data_fields: fields of the event; within one event name a field keeps its first type.
            user_id: the user's userId, instead of the email.
            created_at: when it happened, as a datetime or in Unix seconds; default now.
            event_id: at most 512 bytes; an event with the same id is updated. By default it is made of user, name,
                second and fields: two events that agree in all of these are one.
        """
        try:
            if isinstance(created_at, datetime):
                created_at = unix_seconds(to_utc(created_at, self._zone))
            kind, identifier = _identity(email, user_id)
            fields = clean_fields((data_fields or {}).items(), self._zone)
            created = math.floor(time.time() if created_at is None else created_at)
        except InvalidValueError as error:
            return error.result
        except (ValueError, OverflowError):
            return InvalidValueError(f"created_at {created_at} is no time").result
        id_ = event_id or make_event_id([identifier, event_name, created, fields])
        return self.send(EVENTS_TRACK, [event(kind, identifier, event_name, fields, created, id_)])[0]

    def send(self, operation: Operation, payloads: Sequence[dict[str, Any]]) -> list[Result]:
        """Sends user updates or events, by a single operation or a bulk one; returns their results in order.

        Repeating it is safe: both are idempotent. A bulk request that is too large is halved; what its answer leaves
        open, and all of a request that was refused as a whole, is sent again singly.
        """
        url = self._url(operation)
        if not operation.items:
            return [self._make_request_with_retry("POST", url, payload, operation.name) for payload in payloads]
        body = encode({operation.items: payloads})
        if len(body) > BULK_BYTES or len(payloads) > BULK_ITEMS:
            if len(payloads) == 1:
                return [InvalidValueError(f"the row makes a request of {len(body)} bytes, Iterable takes 4 MB").result]
            half = len(payloads) // 2
            return self.send(operation, payloads[:half]) + self.send(operation, payloads[half:])
        answer = self._exchange("POST", url, body, operation.name)
        code = answer.body.get("code")
        if 200 <= answer.status < 300 and not answer.retryable:  # retryable: what came was not Iterable's
            with self._lock:
                self.filtered_fields.update(_names(answer.body, "filteredOutFields"))
            results = judge_bulk(answer.body, payloads)
        elif code not in REFUSALS and (answer.status in (400, 413, 500) or code == "BatchTooLarge"):
            results = [None] * len(payloads)  # one row may spoil a request
        else:
            return [(False, answer.body)] * len(payloads)
        return self._send_unclear_singly(operation, payloads, results)

    def _send_unclear_singly(
        self, operation: Operation, payloads: Sequence[dict[str, Any]], results: Sequence[Result | None]
    ) -> list[Result]:
        unclear: dict[str, list[dict[str, Any]]] = {}  # by user, whose updates must keep their order
        for payload, result in zip(payloads, results, strict=True):
            if result is None:
                unclear.setdefault(_user_of(payload), []).append(payload)
        if unclear:
            log.info("%s: what became of %d users is asked singly", operation.name, len(unclear))
        single = operation.single or operation
        futures = {user: self._singles.submit(self.send, single, items) for user, items in unclear.items()}
        while wait(futures.values(), 0.25).not_done and time.monotonic() < self.deadline - 1:  # the caller waits, too
            pass
        doubt = repeat((False, IN_DOUBT))
        answers = {user: iter(future.result()) if future.done() else doubt for user, future in futures.items()}
        settled = (result or next(answers[_user_of(item)]) for item, result in zip(payloads, results, strict=True))
        return [(False, IN_DOUBT) if result[1] is NOT_SENT else result for result in settled]

    def stop(self) -> None:
        """Ends every wait and lets no further attempt begin; those on the wire have GRACE seconds to be answered."""
        self.deadline = min(self.deadline, time.monotonic() + GRACE)
        self._stop.set()

    @property
    def stopped(self) -> bool:
        """Whether no further attempt will begin: after stop(), or where the client gave up."""
        return self._stop.is_set()

    def _url(self, operation: Operation) -> str:
        return f"{self.base_url}/api/{operation.name}"

    def _generate_jwt_token(self, email: str | None = None, user_id: str | None = None) -> str:
        """A token for one user and one hour. Raises ValueError without use_jwt, or unless one of the two is given.

        Source: https://support.iterable.com/hc/articles/360050801231 (JWT-enabled API keys).
        """
        if self._jwt_secret is None or (email is None) == (user_id is None):
            raise ValueError("a token needs use_jwt, and either an email or a user_id")
        now = int(time.time())
        user = {"email": email} if email is not None else {"userId": user_id}
        return sign_jwt({"iss": "iterable-integration", "iat": now, "exp": now + 3600, **user}, self._jwt_secret)

    def _make_request_with_retry(
        self, method: str, endpoint_url: str, payload: Mapping[str, Any], endpoint_name: str
    ) -> Result:
        """Makes one call about one user until there is an answer to keep: (success, answer)."""
        try:
            body = encode(payload)
            user = (payload.get("email"), payload.get("userId"))
            if self._jwt_secret is not None and user.count(None) != 1:
                raise ValueError("a call with JWT is about one user, by email or userId")
        except (TypeError, ValueError) as error:
            return InvalidValueError(str(error)).result
        return judge(self._exchange(method, endpoint_url, body, endpoint_name, user))

    def _exchange(
        self, method: str, url: str, body: bytes, name: str, user: tuple[str | None, str | None] | None = None
    ) -> Answer:
        """The retry loop. `user`: email and userId for the token; None for a bulk operation."""
        pacer = self._pacers.get(url)
        answer = Answer(0, NOT_SENT)
        for attempt in range(1, self.max_retries + 1):
            if self.stopped or (pacer and not pacer.wait()):
                break
            with self._lock:
                self.counts["sent"] += 1  # now: a run that stops may not wait for the answer
                self.counts["retried"] += attempt > 1
            answer = self._attempt(method, url, body, user)
            is_last = not answer.retryable or answer.wait > LONGEST_WAIT or attempt == self.max_retries
            self._note(answer, is_last)
            delay = retry_delay(attempt, self.initial_backoff, self.backoff_factor, answer.wait, random.random())
            if answer.status == 429 and pacer and answer.wait <= LONGEST_WAIT:
                pacer.hold(delay)  # whoever else called now would only be refused, too
            if is_last:
                return answer
            log.warning("%s: HTTP %d %s, again in %.1f s", name, answer.status, answer.body["code"], delay)
            if self._stop.wait(delay):
                break
        if answer.body is NOT_SENT:
            return answer
        msg = f"the run was stopped before a retry; the last attempt ended with {answer.body['code']}"
        return Answer(0, {"code": "Interrupted", "msg": msg})

    def _attempt(self, method: str, url: str, body: bytes, user: tuple[str | None, str | None] | None) -> Answer:
        request = self._template.copy()
        request.method, request.url, request.body = method, url, body
        request.headers["Content-Length"] = str(len(body))
        if self._jwt_secret is not None and user:  # signed for each attempt: no token expires in a queue or a backoff
            request.headers["Authorization"] = f"Bearer {self._generate_jwt_token(*user)}"
        try:
            response = self._adapter.send(request, timeout=self._timeout, verify=self._verify, proxies=self._proxies)
            return self._read(response, bulk=user is None)
        except (requests.RequestException, OSError, ValueError) as error:
            cause = error.args[0] if error.args else error
            code = "Timeout" if isinstance(error, requests.Timeout) or "timed out" in str(cause) else "ConnectionError"
            msg = self._redact(str(getattr(cause, "reason", cause)))
            return Answer(0, {"code": code, "msg": msg}, retryable=should_retry(0, error=error))

    def _read(self, response: requests.Response, bulk: bool) -> Answer:
        """The answer, whose body is Iterable's JSON, with a code, or, of a bulk request carried out, with counts."""
        status = response.status_code
        body: Any = None
        with contextlib.suppress(ValueError, RecursionError):
            body = self._redact(json.loads(response.content, parse_constant=lambda name: None))  # JSON has no NaN
        if bulk and 200 <= status < 300:
            valid = isinstance(body, dict) and all(type(body.get(n)) is int for n in ("successCount", "failCount"))
        else:
            valid = isinstance(body, dict) and isinstance(body.get("code"), str)
        demanded = demanded_wait(status, response.headers, body, time.time())
        if not valid:
            hint = "; redirects are not followed, check the base URL" if response.is_redirect else ""
            text = self._redact(response.content[:10_000].decode(errors="replace"))[:200]
            body = {"code": "InvalidResponse", "msg": f"HTTP {status} without Iterable's JSON{hint}: {text!r}"}
        return Answer(status, body, demanded, should_retry(status, valid))

    def _note(self, answer: Answer, is_last: bool) -> None:
        code = answer.body.get("code", "Success")  # a bulk operation that was carried out has none
        log.debug("HTTP %d %s", answer.status, code)
        with self._lock:
            self.counts["rate_limited"] += answer.status == 429
            self._succeeded |= 200 <= answer.status < 300 and code == "Success"
            useful = answer.status > 0 and not answer.retryable and code != "InvalidResponse"
            self.ever_answered |= useful
            self.unanswered = 0 if useful else self.unanswered + is_last
            # InvalidJwtPayload says that secret or clock are wrong, or, once calls succeeded, that one user's token is
            is_users_token = code == "InvalidJwtPayload" and self._succeeded
            if answer.status in (400, 401, 403) and code in REFUSALS and not is_users_token:
                self.refusal = self.refusal or answer.body
            if self._give_up_after:
                self.gave_up |= self.unanswered >= self._give_up_after and not self.stopped
                if self.gave_up or self.refusal:
                    self.stop()

    def _redact(self, value: Any) -> Any:
        """The value without key, secret or token: an answer may echo its request."""
        if isinstance(value, str):
            return self._secrets.sub("[redacted]", value)
        if isinstance(value, dict):
            return {self._redact(key): self._redact(item) for key, item in value.items()}
        return [self._redact(item) for item in value] if isinstance(value, list) else value


def _identity(email: str | None, user_id: str | int | None) -> tuple[str, str]:
    if email is not None and user_id is not None:
        raise InvalidValueError("a call is about an email or a userId, not both")
    kind, value = ("email", email) if user_id is None else ("userId", user_id)
    return kind, normalize_identifier(kind, value)


@dataclass(slots=True)
class Row:
    """A row on its way: its user update and its event, in this order."""

    number: int
    user: str | None  # as the row has it where it is none
    event_id: str | None
    calls: list[Call]
    marks: list[Any] = field(default_factory=list)  # the caller's, of these calls


def send_rows(client: IterableClient, batches: Iterable[list[Row]], bulk: bool, workers: int) -> Iterator[list[Row]]:
    """Sends rows, one by one or in bulk by batches, from a pool of threads; puts results in the place of payloads.

    Yields the rows in their order; now and then, while it waits, none. A row's update goes before its event, whatever
    becomes of the update. After client.stop() no more rows begin.
    """
    most = workers + 2 if bulk else 2 * workers
    pool = ThreadPoolExecutor(workers, "call")
    in_flight: deque[tuple[list[Row], Future[None], set[str | None]]] = deque()
    for rows in batches if bulk else ([row] for batch in batches for row in batch):
        if client.stopped:
            break
        # updates of one user and events of one id keep the order of their rows: what is in flight is waited for
        names = {row.user for row in rows if isinstance(row.calls[0], dict)}
        names |= {row.event_id for row in rows if isinstance(row.calls[1], dict)}
        before = [future for _, future, others in in_flight if not names.isdisjoint(others)]
        in_flight.append((rows, pool.submit(_deliver, client, bulk, rows, before), names))
        if len(in_flight) >= most:
            yield from _settle(client, *in_flight.popleft()[:2])
    while in_flight:
        yield from _settle(client, *in_flight.popleft()[:2])


def _deliver(client: IterableClient, bulk: bool, rows: list[Row], before: list[Future[None]]) -> None:
    wait(before)  # no deadlock: the pool starts its work in order, so these have threads already
    for place, operation in enumerate(BULK_OPERATIONS if bulk else SINGLE_OPERATIONS):
        waiting = [(row.calls, call) for row in rows if isinstance(call := row.calls[place], dict)]
        results = client.send(operation, [payload for _, payload in waiting]) if waiting else []
        for (calls, _), result in zip(waiting, results, strict=True):
            calls[place] = result


def _settle(client: IterableClient, rows: list[Row], future: Future[None]) -> Iterator[list[Row]]:
    while not future.done() and time.monotonic() < client.deadline:
        wait([future], 0.25)
        yield []
    if future.done():
        future.result()  # raises what the thread raised
    else:  # an update that was answered stays so, though the answer about its event is still out
        rest = (False, NOT_SENT if future.cancel() else IN_DOUBT)
        for row in rows:  # in a list of its own: the thread may still put its results into the old one
            row.calls = [rest if isinstance(call, dict) else call for call in row.calls]
    yield rows


# --- Files -----------------------------------------------------------------------------------------------------------

RISKY_STARTS = frozenset("=+-@\t\r")  # first characters that make a spreadsheet run a cell (OWASP, CSV injection)


class OutputFile:
    """A text file that appears under its name whole or not at all, for its owner alone, and never over another file.

    Until commit() it is a hidden `.part` beside the final name. Raises OSError where it cannot be written.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self._final = directory / name
        self._part = directory / f".{name}.{os.getpid()}.part"
        self._part.unlink(missing_ok=True)
        descriptor = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        self.text = open(descriptor, "w", encoding="utf-8", errors="backslashreplace", newline="")  # noqa: SIM115

    def commit(self) -> Path:
        """Makes the file durable, then visible; returns its path, which ends in `_2` and so on where it was taken."""
        self.text.flush()
        os.fsync(self.text.fileno())
        self.text.close()
        path, number = self._final, 1
        while True:
            try:
                os.link(self._part, path)  # unlike a rename it fails where the name exists
                break
            except OSError as error:
                if not isinstance(error, FileExistsError) and not path.exists():
                    self._part.rename(path)  # a file system without links; the lock keeps other runs away
                    return path
                number += 1
                path = self._final.with_stem(f"{self._final.stem}_{number}")
        self._part.unlink()
        return path

    def close(self) -> None:
        """Removes what was not committed."""
        with contextlib.suppress(OSError):  # closing flushes, and a full disk was reported already
            self.text.close()
        self._part.unlink(missing_ok=True)


class CsvFile(OutputFile):
    """An OutputFile of rows: UTF-8, the csv module's defaults, text that a spreadsheet would run defused.

    NUL is written as \\x00: Python's own csv module could not read it before 3.11.
    """

    def __init__(self, directory: Path, name: str) -> None:
        super().__init__(directory, name)
        self._writer = csv.writer(self.text)

    def write(self, row: Iterable[Any]) -> int:
        """Writes one row, or the header; returns its length in characters."""
        length: int = self._writer.writerow([
            cell if cell.__class__ is str and cell[:1] not in RISKY_STARTS and "\0" not in cell else _csv_cell(cell)
            for cell in row
        ])  # fmt: skip
        return length


def _csv_cell(cell: Any) -> Any:
    if cell is None or isinstance(cell, (int, float, Decimal)):
        return cell
    if isinstance(cell, bytes):
        return "\\x" + cell.hex()  # as PostgreSQL shows them
    text = json.dumps(cell, ensure_ascii=False, default=str) if isinstance(cell, (dict, list)) else str(cell)
    return ("'" + text if text[:1] in RISKY_STARTS else text).replace("\0", "\\x00")


def export_results_to_csv(user_records: Sequence[Mapping[str, Any]], filename: str | None = None) -> str:
    """Writes records to a CSV file and returns its path. Raises OSError where it cannot; then there is no file.

    Arguments:
        user_records: a mapping of column to value per row. The columns are those of all rows, in order of appearance.
        filename: default `query_results_YYYYMMDD_HHMMSS.csv` in the working directory. An existing file is left
            alone: the new one's name gets `_2`.
    """
    path = Path(filename or f"query_results_{datetime.now():%Y%m%d_%H%M%S}.csv")
    columns = list(dict.fromkeys(column for record in user_records for column in record))
    with contextlib.closing(CsvFile(path.parent, path.name)) as file:
        file.write(columns)
        for record in user_records:
            file.write([record.get(column) for column in columns])
        return str(file.commit())

"""Requests and replies as values, and the form of an HTTP answer."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable
from dataclasses import dataclass
from http.client import responses
from typing import Any, NamedTuple

from tests.fake_iterable.rules import Json

END_OF_HEAD = b"\r\n\r\n"


class Request(NamedTuple):
    """A request off the wire; `body` is None where it was over the size limit."""

    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes | None


class Seen(NamedTuple):
    """A recorded request."""

    time: float  # in seconds of the stand-in's clock
    path: str
    status: int  # 0: it got no answer
    headers: dict[str, str]  # names in lower case
    body: Any  # parsed, or None


class End(enum.Enum):
    """How a connection goes on after a reply."""

    KEEP = enum.auto()
    FIN = enum.auto()
    RST = enum.auto()


@dataclass(frozen=True)
class Reply:
    """What goes back, and then how the connection goes on.

    First `data`, after `delay` seconds; then each piece of `rest`, after `pause` seconds. `rest`
    may have no end, and can be read once.
    """

    status: int = 0  # as it is recorded; 0: no answer
    data: bytes = b""
    delay: float = 0.0
    end: End = End.KEEP
    rest: Iterable[bytes] = ()
    pause: float = 0.0


def json_reply(status: int, answer: Json) -> Reply:
    """A JSON answer."""
    return Reply(status, http_answer(status, json.dumps(answer).encode()))


def http_answer(
    status: int, body: bytes, *fields: str, content_type: str = "application/json"
) -> bytes:
    """A whole HTTP answer; `fields` are further ones of its header."""
    size = f"Content-Length: {len(body)}"
    return http_head(status, f"Content-Type: {content_type}", *fields, size) + body


def http_head(status: int, *fields: str) -> bytes:
    """An HTTP answer up to its body."""
    status_line = f"HTTP/1.1 {status} {responses.get(status, 'Unknown')}"
    return "\r\n".join((status_line, *fields)).encode("latin-1") + END_OF_HEAD

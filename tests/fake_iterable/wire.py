"""Requests and replies as values, and the form of an HTTP answer."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from http.client import responses
from typing import Any, NamedTuple

from tests.fake_iterable.rules import Json


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
    """What goes back: bytes, after a delay in seconds; and then how the connection goes on."""

    status: int = 0  # as it is recorded; 0: no answer
    data: bytes = b""
    delay: float = 0.0
    end: End = End.KEEP


def json_reply(status: int, answer: Json) -> Reply:
    """A JSON answer."""
    return Reply(status, http_answer(status, json.dumps(answer).encode()))


def http_answer(
    status: int, body: bytes, content_type: str = "application/json", headers: str = ""
) -> bytes:
    """A whole HTTP answer; `headers` are further header lines."""
    head = (
        f"{status_line(status)}Content-Type: {content_type}\r\n"
        f"{headers}Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("latin-1") + body


def status_line(status: int) -> str:
    """The first line of an HTTP answer."""
    return f"HTTP/1.1 {status} {responses.get(status, 'Unknown')}\r\n"

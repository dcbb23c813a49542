"""What goes wrong on the way: faults that strike requests instead of the answer they deserve."""

from __future__ import annotations

import gzip
import itertools
import json
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.fake_iterable.rules import Json
from tests.fake_iterable.wire import END_OF_HEAD, End, Reply, Request, http_answer, http_head

REFUSING = {"status", "html", "redirect", "echo_headers"}
STORING = {"drop_after", "truncated", "empty", "drip", "flood", "early"}
KINDS = {*REFUSING, *STORING, "drop_before", "hang"}
USUAL_STATUS = {
    "status": 500,
    "html": 502,
    "redirect": 302,
    "echo_headers": 401,
    "early": 102,
}
USUAL_CODES = {
    400: "BadParams",
    401: "BadApiKey",
    403: "Forbidden",
    404: "NotFound",
    409: "ExternalKeyConflict",
    413: "BatchTooLarge",
    429: "RateLimitExceeded",
}
PARTS = ("header", "body")
FRAMINGS = ("chunked", "close", "gzip")
PIECE = b" " * 65_536  # of a flood: JSON may begin with any number of blanks
BOMB = 20_000_000  # bytes, unpacked: more than a client needs to read


@dataclass
class Fault:
    """A fault that strikes requests whose path contains `path` and whose body names `user`.

    It spares the first `after` of them, strikes with `probability` (drawn with `seed`) and at most
    `times` times. Of several faults the first that strikes is the one. Kinds:

        status        answers `status` with `code`, `msg` and `params`, or `body`; `retry_after`
                      as it stands
        html          answers `status` with a page of HTML, as a gateway does
        redirect      answers 302 (or `status`) to `location`
        echo_headers  answers 401 (or `status`) with a msg that repeats every header of the request
        drop_before   closes the connection without an answer, nothing stored; `reset` tells RST
                      from FIN
        drop_after    the same, but stored
        hang          holds the connection for `seconds`, then closes it; `stored` or not
        truncated     stores, promises a whole answer and sends half
        empty         stores, answers 200 without a body
        drip          stores, sends `rate` bytes a second: of the whole answer, or, where `part` is
                      "body", of what follows its header
        flood         stores, sends `size` blanks before the JSON, without an end where that is
                      None; `framing` is "chunked", "close" (up to the end of the connection) or
                      "gzip" (little on the wire, 20 MB by default)
        early         stores, sends an interim response (102 or `status`), and after `pause` seconds
                      the answer; without the pause a client may read both at once
    """

    kind: str
    path: str | None = None
    user: str | None = None
    times: int | None = None
    probability: float = 1.0
    after: int = 0
    seed: int | None = None
    status: int = 0  # 0: the usual one of the kind
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
    part: str = "body"
    rate: float = 1.0
    size: int | None = None
    framing: str = "chunked"
    pause: float = 0.05
    seen: int = field(default=0, init=False)  # requests that path and user choose
    hits: int = field(default=0, init=False)
    random: random.Random = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            kinds = ", ".join(sorted(KINDS))
            raise ValueError(f"{self.kind!r} is no kind of fault; there are {kinds}")
        if self.part not in PARTS or self.framing not in FRAMINGS:
            raise ValueError(f"part is one of {PARTS}, framing one of {FRAMINGS}")
        self.status = self.status or USUAL_STATUS.get(self.kind, 200)
        self.random = random.Random(self.seed)

    def strikes(self, path: str, body: Any) -> bool:
        """Whether this request is struck; counts it."""
        if not self._chooses(path, body):
            return False
        self.seen += 1
        if self.seen <= self.after or self.hits == self.times:
            return False
        if self.random.random() >= self.probability:
            return False
        self.hits += 1
        return True

    def _chooses(self, path: str, body: Any) -> bool:
        if self.path is not None and self.path not in path:
            return False
        return not self.user or self.user.lower() in users_in(body)

    def reply(self, request: Request, judge: Callable[[], Reply]) -> Reply:
        """What a struck request gets.

        `judge` carries the request out, which may store something, and gives the reply that it
        deserves.
        """
        if self.kind in REFUSING:
            return Reply(self.status, self._refusal(request.headers))
        deserved = Reply()
        if self.kind in STORING or self.stored:
            deserved = judge()
        if self.kind == "hang":
            return Reply(delay=self.seconds, end=End.FIN)
        if self.kind == "empty":
            return Reply(200, http_answer(200, b""))
        if self.kind == "truncated":
            size = len(deserved.data.partition(END_OF_HEAD)[2])
            return Reply(deserved.status, deserved.data[: -size // 2], end=End.FIN)
        if self.kind == "drip":
            return self._drip(deserved)
        if self.kind == "flood":
            return self._flood(deserved)
        if self.kind == "early":
            interim = http_head(self.status)
            return Reply(deserved.status, interim, rest=[deserved.data], pause=self.pause)
        return Reply(end=End.RST if self.reset else End.FIN)

    def _drip(self, deserved: Reply) -> Reply:
        at_once, slow = b"", deserved.data
        if self.part == "body":
            head, _, slow = deserved.data.partition(END_OF_HEAD)
            at_once = head + END_OF_HEAD
        pieces = [bytes([byte]) for byte in slow]
        return Reply(deserved.status, at_once, rest=pieces, pause=1 / self.rate)

    def _flood(self, deserved: Reply) -> Reply:
        status, json_type = deserved.status, "Content-Type: application/json"
        body = deserved.data.partition(END_OF_HEAD)[2]
        if self.framing == "gzip":
            unpacked = b"".join(flood(self.size or BOMB, body))
            packed = gzip.compress(unpacked, compresslevel=1)  # 30 ms; 130 ms at the usual 9
            return Reply(status, http_answer(status, packed, "Content-Encoding: gzip"))
        pieces = flood(self.size, body)
        if self.framing == "close":
            head = http_head(status, json_type, "Connection: close")
            return Reply(status, head, end=End.FIN, rest=pieces)
        head = http_head(status, json_type, "Transfer-Encoding: chunked")
        return Reply(status, head, rest=chunked(pieces))

    def _refusal(self, request_headers: dict[str, str]) -> bytes:
        """The HTTP answer of a kind that refuses."""
        content_type, body, fields = self.content_type, self.body, list[str]()
        if self.kind == "html":
            content_type = "text/html"
            body = f"<html><body><h1>Error {self.status}</h1></body></html>"
        elif self.kind == "redirect":
            body = ""
            fields.append(f"Location: {self.location}")
        elif body is None:
            body = self._json_refusal(request_headers)
        if self.retry_after is not None:
            fields.append(f"Retry-After: {self.retry_after}")
        content = body.encode() if isinstance(body, str) else body
        return http_answer(self.status, content, *fields, content_type=content_type)

    def _json_refusal(self, request_headers: dict[str, str]) -> str:
        """The body in Iterable's form."""
        code = self.code or USUAL_CODES.get(self.status, "GenericError")
        msg = self.msg
        if self.kind == "echo_headers":
            msg = "\n".join(f"{name}: {value}" for name, value in request_headers.items())
        return json.dumps({"code": code, "msg": msg, "params": self.params})


def flood(size: int | None, body: bytes) -> Iterator[bytes]:
    """`size` blanks and then a body, in pieces; or blanks without an end."""
    if size is None:
        yield from itertools.repeat(PIECE)
        return
    for _ in range(size // len(PIECE)):
        yield PIECE
    yield b" " * (size % len(PIECE)) + body


def chunked(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The chunks of a body (RFC 9112, section 7.1)."""
    for piece in pieces:
        yield f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
    yield b"0\r\n\r\n"


def users_in(body: Any) -> set[str]:
    """The identifiers, in lower case, that a body of any shape names."""
    items = [body]
    for name in ("users", "events"):
        listed = body.get(name) if isinstance(body, dict) else None
        items += listed if isinstance(listed, list) else []
    users = set()
    for item in items:
        if isinstance(item, dict):
            users.add(str(item.get("email") or item.get("userId")).lower())
    return users

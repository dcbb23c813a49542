"""A project behind HTTP: connections, credentials, limits, faults; what a test asks about it."""

from __future__ import annotations

import asyncio
import copy
import hmac
import json
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Iterable
from dataclasses import replace
from typing import Any, TypeVar

from tests.fake_iterable.faults import Fault
from tests.fake_iterable.limits import Bucket, Others
from tests.fake_iterable.project import OPERATIONS, Operation, Policy, Project
from tests.fake_iterable.rules import (
    FieldTypes,
    IterableError,
    Json,
    decode_json,
    read_items,
    verify_jwt,
)
from tests.fake_iterable.wire import END_OF_HEAD, End, Reply, Request, Seen, json_reply

T = TypeVar("T")

DEFAULT_API_KEY = "test-api-key"
INSPECTION = "/_stand_in/"
WAIT = 10  # seconds for the server's thread to open or close its port
NO_LINGER = struct.pack(
    "ii", 1, 0
)  # a socket that may linger for no seconds is closed with a reset


class FakeIterable(Policy):
    """The stand-in. Use it in a `with` block; whom and what it refuses are attributes, see Policy.

    Arguments: `jwt_secret` makes the key a JWT-enabled one; `latency` is in seconds, before each
    answer; `rate_limit_factor` multiplies every limit; of each, other senders take the share
    `others`, with `wave` (seconds) in the second half of each such period alone, see Others;
    `max_body` is in bytes; `clock` rules the limits. What a test reads of it are copies, each taken
    between two requests.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        api_key: str = DEFAULT_API_KEY,
        jwt_secret: str | None = None,
        latency: float = 0.0,
        enforce_limits: bool = True,
        rate_limit_factor: float = 1.0,
        others: float = 0.0,
        wave: float = 0.0,
        allowed_event_names: Collection[str] | None = None,
        disallowed_event_names: Collection[str] = (),
        max_body: int = 4_000_000,
        record_requests: bool = True,
        ssl_context: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(allowed_event_names, disallowed_event_names)
        self.latency = latency
        self.max_body = max_body
        self._api_key = api_key.encode()
        self._jwt_secret = jwt_secret
        self._record_requests = record_requests
        self._clock = clock
        self._buckets: dict[str, Bucket] = {}
        if enforce_limits:
            for path, operation in OPERATIONS.items():
                rate = operation.limit * rate_limit_factor
                self._buckets[path] = Bucket(rate, clock(), Others(others, wave))
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._forget()
        self._listener = Listener(self.handle, port, max_body, ssl_context)

    def _forget(self) -> None:
        self._project = Project(self)
        self._requests: list[Seen] = []
        self._counts: Counter[tuple[str, int]] = Counter()

    # what a test reads and sets

    @property
    def port(self) -> int:
        """The port that it listens on, or will; 0 until it has chosen one."""
        return self._listener.port

    @property
    def url(self) -> str:
        """The base URL, without a slash at the end."""
        return self._listener.url

    @property
    def users(self) -> dict[str, Json]:
        """Merged dataFields by lower-case email or userId."""
        with self._lock:
            return copy.copy(self._project.users)

    @property
    def events(self) -> dict[str, Json]:
        """Events as received, by id."""
        with self._lock:
            return copy.copy(self._project.events)

    @property
    def event_writes(self) -> Counter[str]:
        """How often each event id was written."""
        with self._lock:
            return copy.copy(self._project.event_writes)

    @property
    def requests(self) -> list[Seen]:
        """Every request to the operations, in order, unless `record_requests` is False."""
        with self._lock:
            return copy.copy(self._requests)

    @property
    def counts(self) -> Counter[tuple[str, int]]:
        """Requests to the operations by (path, status)."""
        with self._lock:
            return copy.copy(self._counts)

    def add_user_fields(self, types: FieldTypes) -> None:
        """Give the project user fields of these types, by path, such as "address.city"."""
        with self._lock:
            self._project.user_types.update(types)

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

    # life

    def __enter__(self) -> FakeIterable:
        self._listener.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.stop()

    def up(self) -> None:
        """Listen; after `down`, on the same port."""
        self._listener.up()

    def down(self) -> None:
        """Stop listening and drop every connection."""
        self._listener.down()

    # one request

    def handle(self, request: Request) -> Reply:
        """Answer one request; runs on the server's thread, one request after the other."""
        if request.path.startswith(INSPECTION):
            return self._inspect(request)
        body, mistake = parse(request)
        with self._lock:
            reply = self._reply(request, body, mistake)
            self._counts[request.path, reply.status] += 1
            if self._record_requests:
                seen = Seen(self._clock(), request.path, reply.status, request.headers, body)
                self._requests.append(seen)
        if self.latency:
            reply = replace(reply, delay=reply.delay + self.latency)
        is_last = request.headers.get("connection", "").lower() == "close"
        if is_last and reply.end == End.KEEP:
            reply = replace(reply, end=End.FIN)
        return reply

    def _reply(self, request: Request, body: Any, mistake: IterableError | None) -> Reply:
        """What the request deserves, or what the first fault that strikes makes of it."""

        def judge() -> Reply:
            return self._judge(request, body, mistake)

        for fault in self._faults:
            if fault.strikes(request.path, body):
                return fault.reply(request, judge)
        return judge()

    def _judge(self, request: Request, body: Any, mistake: IterableError | None) -> Reply:
        """The answer that the request deserves."""
        try:
            return json_reply(200, self._perform(request, body, mistake))
        except IterableError as error:
            return json_reply(error.status, error.answer)

    def _perform(self, request: Request, body: Any, mistake: IterableError | None) -> Json:
        """Carry out a request; `mistake` is what is wrong with its body as JSON."""
        operation = OPERATIONS.get(request.path)
        if operation is None:
            raise IterableError(404, "NotFound", f"No such operation: {request.path}")
        if request.method != operation.method:
            raise IterableError(405, "GenericError", f"{request.method} is not allowed here")
        claims = self._authenticate(request.headers, operation)
        if request.body is None:
            raise IterableError(413, "BatchTooLarge", f"The body is over {self.max_body} bytes")
        if request.path in self._buckets:
            self._buckets[request.path].take(self._clock())
        if operation.item is None:
            return operation.perform(self._project, [])
        if mistake is not None:
            raise mistake
        items = read_items(body, operation.item, operation.bulk)
        if claims is not None:
            check_identity(items[0], claims)
        return operation.perform(self._project, items)

    def _authenticate(self, headers: dict[str, str], operation: Operation) -> Json | None:
        """The JWT's claims, or None where the key is an ordinary one."""
        api_key = headers.get("api-key", "").encode("latin-1")
        if not hmac.compare_digest(api_key, self._api_key):
            raise IterableError(401, "BadApiKey", "Invalid API key", {"endpoint": "api"})
        if self._jwt_secret is None:
            return None
        if not operation.is_about_one_user:
            msg = "JWT-enabled API keys cannot call operations that are not about one user"
            raise IterableError(401, "Unauthorized", msg)
        return verify_jwt(headers.get("authorization"), self._jwt_secret, time.time())

    # inspection, for whoever runs the stand-in as a process; no authentication

    def _inspect(self, request: Request) -> Reply:
        """Answer one request to the paths under /_stand_in/."""
        what = f"{request.method} {request.path.removeprefix(INSPECTION)}"
        if what == "GET stored":
            return json_reply(200, {"users": self.users, "events": self.events})
        if what == "GET counts":
            return json_reply(200, self._all_counts())
        if what == "POST faults":
            return self._replace_faults(request.body or b"")
        if what == "POST reset":
            self.reset()
            return json_reply(200, {"msg": "Nothing is stored now"})
        msg = "There are GET stored, GET counts, POST faults and POST reset"
        return json_reply(404, {"msg": msg})

    def _all_counts(self) -> Json:
        requests = {f"{path} {status}": count for (path, status), count in self.counts.items()}
        return {
            "users": len(self.users),
            "events": len(self.events),
            "event_writes": self.event_writes.total(),
            "requests": requests,
        }

    def _replace_faults(self, body: bytes) -> Reply:
        try:
            self.set_faults([Fault(**fault) for fault in json.loads(body)])
        except (ValueError, TypeError) as error:
            return json_reply(400, {"msg": f"Expected a JSON list of faults: {error}"})
        return json_reply(200, {"msg": "Faults set"})


def parse(request: Request) -> tuple[Any, IterableError | None]:
    """The body as JSON, None where there is none, and what is wrong with it as JSON."""
    content_type = request.headers.get("content-type", "")
    try:
        return decode_json(content_type, request.body or b""), None
    except IterableError as error:
        return None, error


def check_identity(item: Json, claims: Json) -> None:
    """JwtUserIdentifiersMismatched unless a token is the very user's whom a request is about."""
    for name in ("email", "userId"):
        if item.get(name) != claims.get(name):
            msg = "The JWT is another user's"
            raise IterableError(401, "JwtUserIdentifiersMismatched", msg)


class Listener:
    """HTTP/1.1 on a port of 127.0.0.1, in a thread of its own.

    Arguments: `handle` answers a request, in that thread; port 0 means any free one; bodies of more
    than `max_body` bytes are not kept.
    """

    def __init__(
        self,
        handle: Callable[[Request], Reply],
        port: int,
        max_body: int,
        ssl_context: ssl.SSLContext | None,
    ) -> None:
        self.port = port
        self._handle = handle
        self._max_body = max_body
        self._ssl_context = ssl_context

    @property
    def url(self) -> str:
        """The base URL, without a slash at the end."""
        return f"{'https' if self._ssl_context else 'http'}://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the thread and listen; OSError where the port is taken."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="fake-iterable", daemon=True
        )
        self._thread.start()
        try:
            self.up()
        except OSError:
            self._end_loop()
            raise

    def stop(self) -> None:
        """Drop every connection and end the thread."""
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
        asyncio.run_coroutine_threadsafe(work, self._loop).result(WAIT)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(
            self._serve,
            "127.0.0.1",
            self.port,
            backlog=1024,
            limit=2 * self._max_body,
            ssl=self._ssl_context,
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _drop_all(self) -> None:
        # A connection just accepted has a task that has not begun: cancelled then, or begun after
        # close(), it would leave its socket open. So: no new ones, let all begin, close, cancel.
        for listening in self._server.sockets:
            self._loop.remove_reader(listening)
        await asyncio.sleep(0)
        self._server.close()
        while connections := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.sleep(0)
            for task in connections:
                task.cancel()
            await asyncio.wait(connections)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One keep-alive connection, from its first request to its end."""
        try:
            end = End.KEEP
            while end == End.KEEP:
                reply = self._handle(await self._read_request(reader))
                await send(writer, reply)
                end = reply.end
            if end == End.RST:
                connection: socket.socket = writer.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            else:
                writer.close()
                await writer.wait_closed()
        except (OSError, EOFError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass  # the client or this server went away, or it was not HTTP
        finally:
            writer.transport.abort()

    async def _read_request(self, reader: asyncio.StreamReader) -> Request:
        """The next request."""
        head = (await reader.readuntil(END_OF_HEAD)).removesuffix(END_OF_HEAD)
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        try:
            method, target, _ = first.split(" ")
            size = int(headers.get("content-length", 0))
        except ValueError:
            raise ConnectionAbortedError("not HTTP/1.1") from None
        path = target.partition("?")[0]
        if size <= self._max_body:
            return Request(method, path, headers, await reader.readexactly(size))
        await discard(reader, size)
        return Request(method, path, headers, None)


async def send(writer: asyncio.StreamWriter, reply: Reply) -> None:
    """Put a reply on the wire. (asyncio sets TCP_NODELAY: no piece waits for an earlier ACK.)"""
    if reply.delay:
        await asyncio.sleep(reply.delay)
    writer.write(reply.data)
    for piece in reply.rest:
        await asyncio.sleep(reply.pause)  # even for no time: other connections have their turn
        writer.write(piece)
        await writer.drain()


async def discard(reader: asyncio.StreamReader, size: int) -> None:
    """Read a body that is not kept: a client that still writes would not see the answer."""
    while size > 0:
        size -= len(await reader.read(size)) or size  # nothing more comes: the end

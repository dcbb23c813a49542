"""Requests to the stand-in for Iterable, and what it says to them."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from typing import Any

import jwt
import requests

from tests.fake_iterable import OPERATIONS, FakeIterable, Request

UPDATE = "/api/users/update"
BULK_UPDATE = "/api/users/bulkUpdate"
TRACK = "/api/events/track"
TRACK_BULK = "/api/events/trackBulk"
GET_FIELDS = "/api/users/getFields"
ADA = {"email": "ada@example.com"}
VIEW = {**ADA, "eventName": "page_view"}
SECRET = "s" * 64
JSON_TYPE = {"Content-Type": "application/json"}
ENDED = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)

OK = (200, "Success")  # as told() gives it
SUCCESS = b'{"code": "Success", "msg": "", "params": null}'  # the body of that answer

Post = Callable[..., requests.Response]


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0  # seconds

    def __call__(self) -> float:
        return self.now


def told(response: requests.Response) -> tuple[int, str]:
    """Status and code of an answer."""
    return response.status_code, response.json()["code"]


def ask(
    server: FakeIterable, path: str, body: Any, api_key: str = "test-api-key"
) -> tuple[int, Any]:
    """Status and JSON of a request that skips the wire."""
    headers = {"api-key": api_key, "content-type": "application/json"}
    method = OPERATIONS[path].method
    reply = server.handle(Request(method, path, headers, json.dumps(body).encode()))
    head, _, content = reply.data.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(content)


def raw_update(*fields: str) -> bytes:
    """The bytes of a request that updates Ada; `fields` are further ones of its header."""
    body = json.dumps(ADA)
    size = f"Content-Length: {len(body)}"
    head = (f"POST {UPDATE} HTTP/1.1", "Api-Key: key", "Content-Type: application/json", size)
    return "\r\n".join((*head, *fields, "", body)).encode()


def exchange(server: FakeIterable, data: bytes) -> bytes:
    """What the server sends back until it closes the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(data)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def token(secret: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    """A token about Ada, valid for an hour; a claim that is None is left out."""
    now = int(time.time())
    whole = {**ADA, "iat": now, "exp": now + 3600, **claims}
    given = {name: value for name, value in whole.items() if value is not None}
    return jwt.encode(given, secret, algorithm)

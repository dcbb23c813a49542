"""A stand-in whose API key is "key", like that of the fixture `session`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.fake_iterable import FakeIterable
from tests.stand_in.asking import Post


@pytest.fixture
def server() -> Iterator[FakeIterable]:
    """Enforces its limits, has no latency."""
    with FakeIterable(api_key="key") as server:
        yield server


@pytest.fixture
def post(server: FakeIterable, session: requests.Session) -> Post:
    """post(path, body): the answer of `server`."""

    def post(path: str, body: Any, **more: Any) -> requests.Response:
        return session.post(server.url + path, json=body, timeout=10, **more)

    return post

"""A client in virtual time, and HTTP without a server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from iterable_client import IterableClient
from tests.fake_iterable import FakeIterable
from tests.project import KEY
from tests.unit.clients import HOST, Connect, Mock, VirtualTime


@pytest.fixture
def time() -> VirtualTime:
    """The time of a client that `connect` makes."""
    return VirtualTime()


@pytest.fixture
def connect(time: VirtualTime) -> Connect:
    """connect(server, ...): a client in virtual time."""

    def connect(server: FakeIterable | None = None, **settings: Any) -> IterableClient:
        base_url = server.url if server else HOST
        return IterableClient(KEY, base_url=base_url, **{"stop": time, **settings})

    return connect


@pytest.fixture
def http() -> Iterator[Mock]:
    """Answers of the tests' own, without a server."""
    with Mock(assert_all_requests_are_fired=False) as mock:
        yield mock

"""What the tests of the client share: virtual time, Iterable's answers, names."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

import responses

from iterable_client import IterableClient, Result

HOST = "https://api.iterable.com"
UPDATE = f"{HOST}/api/users/update"
TRACK = f"{HOST}/api/events/track"
ADA = "ada@example.com"
SUCCESS = {"code": "Success", "msg": "", "params": None}
REFUSAL = {"code": "GenericError", "msg": "no", "params": None}
ONCE, ALL = 1, 3  # attempts

Connect = Callable[..., IterableClient]
Mock = responses.RequestsMock


class VirtualTime(threading.Event):
    """A stop event whose waits are written down and move a clock on, but take no time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_768_293_912.0
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.waits.append(timeout)
        if not self.is_set():
            self.now += timeout
        return self.is_set()

    def clock(self) -> float:
        return self.now


def codes(results: Iterable[Result]) -> list[str]:
    """The code of each answer."""
    return [answer["code"] for _, answer in results]

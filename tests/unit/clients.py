"""What the tests of the client share: virtual time, Iterable's answers, names."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import responses

from iterable_client import Delivery, IterableClient, Result, Stop

HOST = "https://api.iterable.com"
UPDATE = f"{HOST}/api/users/update"
TRACK = f"{HOST}/api/events/track"
ADA = "ada@example.com"
SUCCESS = {"code": "Success", "msg": "", "params": None}
REFUSAL = {"code": "GenericError", "msg": "no", "params": None}
ONCE, ALL = 1, 3  # attempts

Connect = Callable[..., IterableClient]
Mock = responses.RequestsMock


class VirtualTime(Stop):
    """A stop whose waits are written down and move its clocks on, but take no time."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 1_768_293_912.0
        self.waits: list[float] = []

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        if not self.is_set():
            self.seconds += seconds
        return self.is_set()

    def now(self) -> float:
        return self.seconds

    def unix_time(self) -> float:
        return self.seconds


def codes(results: Iterable[Result]) -> list[str]:
    """The code of each answer."""
    return [answer["code"] for _, answer in results]


def codes_of(delivery: Delivery) -> list[str]:
    """The code of each outcome's answer."""
    return [outcome.answer["code"] for outcome in delivery.outcomes]

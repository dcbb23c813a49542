"""How often Iterable may be asked: its limiter is a token bucket (the descriptions of its 429)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from tests.fake_iterable.rules import IterableError


@dataclass(frozen=True)
class Others:
    """Other senders to the same project: its app, its other syncs.

    They take their `share` of a limit (0.8 is four fifths, 1 leaves nothing) as an even flow, and
    first: what is asked for here gets what they leave. With a `wave`, a period in seconds, they
    send in the second half of each period alone.
    """

    share: float = 0.0
    wave: float = 0.0  # 0: they send all the time

    def stretches(self, origin: float, since: float, until: float) -> Iterator[tuple[float, float]]:
        """The time from `since` to `until` in stretches of one share each: (seconds, share).

        The first period began at `origin`.
        """
        if not self.wave:
            yield until - since, self.share
            return
        half = self.wave / 2
        first = int((since - origin) // half)
        last = int((until - origin) // half)
        for number in range(first, last + 1):
            begin = max(since, origin + number * half)
            end = min(until, origin + (number + 1) * half)
            yield end - begin, self.share if number % 2 else 0.0


ALONE = Others()


class Bucket:
    """A token bucket that holds one second's worth of tokens; each request takes one.

    Arguments: `rate` in tokens per second, `now` in seconds of the clock that `take` is told.
    """

    def __init__(self, rate: float, now: float, others: Others = ALONE) -> None:
        self.rate = rate
        self.capacity = max(1.0, rate)
        self.tokens = self.capacity
        self.others = others
        self.made = now
        self.at = now

    def take(self, now: float) -> None:
        """Take a token; RateLimitExceeded, without Retry-After, where there is none."""
        for seconds, share in self.others.stretches(self.made, self.at, now):
            tokens = self.tokens + seconds * self.rate * (1 - share)
            self.tokens = min(self.capacity, max(0.0, tokens))
        self.at = now
        if self.tokens < 1:
            raise self._exceeded()
        self.tokens -= 1

    def _exceeded(self) -> IterableError:
        # the reset is the bucket's: Iterable does not know what others will send, either
        params = {
            "rateLimitLimit": int(self.capacity),
            "rateLimitRemaining": 0,
            "rateLimitReset": math.ceil((1 - self.tokens) / self.rate),
        }
        return IterableError(429, "RateLimitExceeded", "Rate limit exceeded", params)

"""How often Iterable may be asked: its limiter is a token bucket (the descriptions of its 429)."""

from __future__ import annotations

import math

from tests.fake_iterable.rules import IterableError


class Bucket:
    """A token bucket that holds one second's worth of tokens; each request takes one.

    Arguments: `rate` in tokens per second, `now` in seconds of the clock that `take` is told.
    """

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self.capacity = max(1.0, rate)
        self.tokens = self.capacity
        self.at = now

    def take(self, now: float) -> None:
        """Take a token; RateLimitExceeded, without Retry-After, where there is none."""
        self.tokens = min(self.capacity, self.tokens + (now - self.at) * self.rate)
        self.at = now
        if self.tokens < 1:
            raise self._exceeded()
        self.tokens -= 1

    def _exceeded(self) -> IterableError:
        params = {
            "rateLimitLimit": int(self.capacity),
            "rateLimitRemaining": 0,
            "rateLimitReset": math.ceil((1 - self.tokens) / self.rate),
        }
        return IterableError(429, "RateLimitExceeded", "Rate limit exceeded", params)

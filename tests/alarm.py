"""A signal whose handler raises KeyboardInterrupt, as Ctrl-C does."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

_SOON = 0.05
_QUICK = 10  # seconds: far more than it takes, far less than what it interrupts


@contextmanager
def alarm() -> Iterator[None]:
    """One comes soon, and must end what is done meanwhile by far sooner than that would end."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    began = monotonic()
    signal.setitimer(signal.ITIMER_REAL, _SOON)
    try:
        yield
        assert monotonic() - began < _QUICK
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

"""A fifth of all requests struck by faults: nothing is lost, doubled or misreported."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest

from tests.fake_iterable import FakeIterable, Fault, Seen
from tests.project import Finished, Json, Project, check_counts
from tests.runs.delivery import Calls, all_calls, calls_in, delivered, event_ids, recorded

FAULTS: dict[str, Json] = {
    "408": {"kind": "status", "status": 408},
    "429 with Retry-After": {"kind": "status", "status": 429, "retry_after": "1"},
    "429 with params": {"kind": "status", "status": 429, "params": {"rateLimitReset": 0.2}},
    "429 with neither": {"kind": "status", "status": 429},
    "429 as plain text": {
        "kind": "status",
        "status": 429,
        "body": "Slow down",
        "content_type": "text/plain",
    },
    "500": {"kind": "status", "status": 500},
    "502": {"kind": "status", "status": 502},
    "503": {"kind": "status", "status": 503},
    "504": {"kind": "status", "status": 504},
    "dropped, not stored": {"kind": "drop_before"},
    "dropped, stored": {"kind": "drop_after"},
    "hung, not stored": {"kind": "hang"},
    "hung, stored": {"kind": "hang", "stored": True},
    "HTML": {"kind": "html", "status": 200},
    "truncated": {"kind": "truncated"},
    "empty": {"kind": "empty"},
}


class Lots:
    """Decides which fault strikes a request, if any.

    The first call that a request makes, and how often it was made before, decide on it, with the
    seed: not the order of arrival, which threads and machine would change from run to run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.attempts: Counter[tuple[str, str]] = Counter()
        self.drawn: list[str | None] = []  # a name in FAULTS, or None, for each request

    def draw(self, path: str, body: Any) -> None:
        """Decides on the next request."""
        call = min(calls_in(Seen(0, path, 0, {}, body)))
        self.attempts[path, call[1]] += 1
        chance = random.Random(f"{self.seed} {path} {call} {self.attempts[path, call[1]]}")
        if chance.random() < 0.2:
            self.drawn.append(chance.choice(list(FAULTS)))
        else:
            self.drawn.append(None)


@dataclass
class Drawing(Fault):
    """Stands before the others, has the lots drawn, and never strikes itself."""

    lots: Lots | None = None

    def strikes(self, path: str, body: Any) -> bool:
        assert self.lots
        self.lots.draw(path, body)
        return False


@dataclass
class Drawn(Fault):
    """A fault that strikes where the lots say its name."""

    lots: Lots | None = None
    name: str = ""

    def strikes(self, path: str, body: Any) -> bool:
        assert self.lots
        return self.lots.drawn[-1] == self.name


def set_faults(server: FakeIterable, seed: int) -> Lots:
    """Has a fifth of all requests struck."""
    lots = Lots(seed)
    drawn = [Drawn(**settings, lots=lots, name=name) for name, settings in FAULTS.items()]
    server.set_faults([Drawing("status", lots=lots), *drawn])
    return lots


def check_run(done: Finished, rows: int, requests: list[Seen], struck: list[str | None]) -> Calls:
    """The results are true, call by call; returns the calls that were answered with success."""
    results = done.results
    pairs = zip(requests, struck, strict=True)
    answered = delivered(seen for seen, fault in pairs if not fault)
    assert recorded(results) == answered
    check_counts(results, rows)
    assert results["requests"]["sent"] == len(requests)
    limited = [fault for fault in struck if fault and fault.startswith("429")]
    assert results["requests"]["rate_limited"] == len(limited)
    assert done.code == (results["successful"] < rows)
    return answered


@pytest.mark.parametrize(("mode", "rows", "seed"), [("single", 120, 20), ("bulk", 14_000, 213)])
def test_with_a_fifth_of_all_calls_struck_nothing_is_lost_or_doubled_and_the_results_are_true(
    fast_project: Project, unlimited: FakeIterable, mode: str, rows: int, seed: int
) -> None:
    lots = set_faults(unlimited, seed)
    fast_project.add_customers(rows - 5)
    # two attempts, not three, and a seed by which HTML, nothing or half an answer is the last
    # of some calls
    settings = {"SEND_MODE": mode, "MAX_RETRIES": "2", "REQUEST_TIMEOUT": "3", "WORKERS": "64"}
    successes = Calls()
    runs = 0
    while True:
        before = len(unlimited.requests)
        done = fast_project.run(**settings)
        runs += 1
        successes |= check_run(done, rows, unlimited.requests[before:], lots.drawn[before:])
        missing = all_calls(done.results) - successes
        if not missing or runs == 3:
            break
    kinds = Counter(name for name in lots.drawn if name)
    ids = event_ids(done.results)
    lost = ids - unlimited.events.keys()
    doubled = unlimited.events.keys() - ids
    print(
        f"\n{mode}: {rows} rows, {len(lots.drawn)} requests, {kinds.total()} faults {dict(kinds)}, "
        f"{runs} runs, {len(lost)} rows lost, {len(doubled)} events doubled"
    )
    assert (missing, lost, doubled) == (set(), set(), set())
    assert len(unlimited.users) == len(unlimited.events) == rows
    assert runs > 1, "some calls were given up"
    assert kinds.keys() == FAULTS.keys() or mode == "bulk"

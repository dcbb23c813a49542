"""What the results keep while a run goes on: bounds, and the best example of each failure."""

from __future__ import annotations

import io
from collections.abc import Iterable

from iterable_client import Call, Kind, Outcome, Row, Settled
from main import Results
from tests.wire import Json


def failed(answers: Iterable[Json]) -> list[Row]:
    """Rows of one update each that failed with these answers."""
    rows = []
    for number, answer in enumerate(answers, 1):
        call = Call(None, Outcome(Kind.FAILED, answer, 400))
        rows.append(Row(number, f"user{number}", None, call, None))
    return rows


def test_what_iterable_names_is_kept_in_bounds() -> None:
    results = Results(io.StringIO(), "email")
    for start in range(0, 3000, 1000):
        names = frozenset(f"{number}-" + "x" * 1000 for number in range(start, start + 1000))
        results.record(Settled([], dropped_user_fields=names, dropped_event_fields=names))
    assert len(results.filtered_fields) == 100
    assert max(map(len, results.filtered_fields)) == 200


def test_codes_without_end_are_counted_together() -> None:
    results = Results(io.StringIO(), "email")
    codes = [f"Code{number}" for number in range(1000)] + ["Code1"]
    results.record(Settled(failed({"code": code, "msg": "no"} for code in codes)))
    assert results.failure_reasons.total() == 1001
    assert len(results.failure_reasons) == len(results.failure_examples) == 101
    assert (results.failure_reasons["Code1"], results.failure_reasons["Other"]) == (2, 900)


def test_an_example_in_iterables_words_goes_before_one_without() -> None:
    results = Results(io.StringIO(), "email")
    bulk = {"code": "C", "msg": "so says the list", "bulk": True}
    for answers in ([bulk, bulk], [{"code": "C", "msg": "why"}, {"code": "C", "msg": "later"}]):
        results.record(Settled(failed(answers)))
    assert results.failure_examples["C"]["msg"] == "why"
    assert results.failure_reasons == {"C": 4}

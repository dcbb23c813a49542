"""What becomes of a row, from what became of its calls."""

from __future__ import annotations

import pytest

from iterable_client import Kind
from main import RowState, judge_row

ACCEPTED, SKIPPED, FAILED = Kind.ACCEPTED, Kind.SKIPPED, Kind.FAILED
NOT_SENT, IN_DOUBT, TO_SEND = Kind.NOT_SENT, Kind.IN_DOUBT, None


@pytest.mark.parametrize(
    ("kinds", "state"),
    [
        ([ACCEPTED], RowState.SUCCESSFUL),
        ([ACCEPTED, ACCEPTED], RowState.SUCCESSFUL),
        ([SKIPPED, ACCEPTED], RowState.SUCCESSFUL),
        ([SKIPPED], RowState.UNCHANGED),
        ([SKIPPED, SKIPPED], RowState.UNCHANGED),
        ([NOT_SENT], RowState.NOT_SENT),
        ([NOT_SENT, NOT_SENT], RowState.NOT_SENT),
        ([SKIPPED, NOT_SENT], RowState.NOT_SENT),
        ([ACCEPTED, NOT_SENT], RowState.PARTIAL_FAILURE),
        ([ACCEPTED, IN_DOUBT], RowState.PARTIAL_FAILURE),
        ([FAILED, ACCEPTED], RowState.PARTIAL_FAILURE),
        ([SKIPPED, FAILED], RowState.PARTIAL_FAILURE),
        ([FAILED], RowState.FAILED),
        ([FAILED, NOT_SENT], RowState.FAILED),
        ([IN_DOUBT, IN_DOUBT], RowState.FAILED),
        ([TO_SEND, TO_SEND], RowState.PLANNED),
        ([FAILED, TO_SEND], RowState.PLANNED),
        ([SKIPPED, TO_SEND], RowState.PLANNED),
    ],
)
def test_a_rows_state_follows_from_its_calls_in_any_order(
    kinds: list[Kind | None], state: RowState
) -> None:
    assert judge_row(tuple(kinds)) == judge_row(tuple(reversed(kinds))) == state

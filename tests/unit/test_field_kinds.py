"""Which kinds of JSON fields go out as, in one query and in the next of the run."""

from __future__ import annotations

from datetime import date
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from main import Column, FieldKinds, KindsOfRun, Plan

UTC = ZoneInfo("UTC")


def plan_of(type_name: str) -> Plan:
    """A query's plan, with one user field."""
    return Plan("email", Column("email", 0), [Column("x", 1, type_name)], None, None, {}, UTC)


@pytest.mark.parametrize(
    ("first_type", "first", "second_type", "second", "kinds"),
    [
        ("", 1, "", 2, ""),
        ("", 1, "", 1.5, "fraction and integer"),
        ("date", date(2026, 1, 13), "", 1, "integer and text"),
        ("text", UUID(int=1), "", 1, "integer and text"),
        ("", "2026-01-13", "date", date(2026, 1, 13), ""),
        ("decimal", 1, "", 1, "fraction and integer"),
        ("json", "[]", "", 1, ""),
        ("", None, "", 1, ""),
        ("integer", None, "", "x", ""),
    ],
)
def test_a_field_of_two_queries_that_goes_out_as_two_kinds_is_told(
    first_type: str, first: Any, second_type: str, second: Any, kinds: str
) -> None:
    earlier: KindsOfRun = {}
    before = FieldKinds(plan_of(first_type), 0, earlier)
    before.note([("a@example.com", first)])
    assert before.warnings() == []
    before.remember()
    after = FieldKinds(plan_of(second_type), 0, earlier)
    after.note([("a@example.com", second)])
    found = [warning.partition(":")[0] for warning in after.warnings()]
    assert found == ([f"Field x goes out as {kinds}"] if kinds else [])

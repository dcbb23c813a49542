"""What a typed field takes from a database, and what it becomes."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from db import CELL_TYPES, UnreadableTime, cast_cell
from iterable_client import json_value

BERLIN = ZoneInfo("Europe/Berlin")
SOME_UUID = UUID("12345678-1234-5678-1234-567812345678")
LATE = datetime(2026, 1, 12, 23, 30, tzinfo=timezone.utc)  # in Berlin it is the 13th
LATE_TEXT = "2026-01-13 08:45:12"

TAKEN: dict[str, list[tuple[Any, Any]]] = {
    "decimal": [
        (10, 10.0),
        (0, 0.0),
        (-3, -3.0),
        (10.5, 10.5),
        (Decimal("10.00"), 10.0),
        (Decimal("9960.31"), 9960.31),
        ("10", 10.0),
        (" 9960.31 ", 9960.31),
        ("1e3", 1000.0),
        ("-0.5", -0.5),
        (2**63, float(2**63)),
    ],
    "integer": [
        (10, 10),
        (Decimal("10.00"), 10),
        (10.0, 10),
        ("10", 10),
        ("-7 ", -7),
        ("10.00", 10),
        (2**63 - 1, 2**63 - 1),
        (-(2**63), -(2**63)),
    ],
    "boolean": [
        (True, True),
        (False, False),
        (1, True),
        (0, False),
        (Decimal(1), True),
        ("true", True),
        ("FALSE", False),
        ("t", True),
        (" f", False),
    ],
    "date": [
        (date(2026, 1, 13), "2026-01-13"),
        (date.min, "0001-01-01"),
        (datetime(2026, 1, 13, 23, 59), "2026-01-13"),
        (LATE, "2026-01-13"),
        ("2026-01-13", "2026-01-13"),
        ("2026-01-12T23:30:00Z", "2026-01-13"),
        (LATE_TEXT, "2026-01-13"),
    ],
    "timestamp": [
        (LATE, "2026-01-12 23:30:00 +00:00"),
        (datetime(2026, 1, 13, 0, 30), "2026-01-12 23:30:00 +00:00"),
        (date(2026, 1, 13), "2026-01-12 23:00:00 +00:00"),
        ("2026-01-13", "2026-01-12 23:00:00 +00:00"),
        (LATE_TEXT, "2026-01-13 07:45:12 +00:00"),
        ("2026-01-28T04:27:41.223515+00:00", "2026-01-28 04:27:41 +00:00"),
        (1768293912, "2026-01-13 08:45:12 +00:00"),
        (Decimal("1768293912.9"), "2026-01-13 08:45:12 +00:00"),
    ],
    "json": [
        ({"a": [1]}, {"a": [1]}),
        ([], []),
        ('{"a": {"b": null}}', {"a": {"b": None}}),
        (" [1, 2.5] ", [1, 2.5]),
    ],
    "text": [
        ("", ""),
        ("007", "007"),
        (7, "7"),
        (SOME_UUID, str(SOME_UUID)),
    ],
}

REFUSED: dict[str, list[Any]] = {
    "decimal": [
        "",
        "1_000",
        "\uff11",
        "ten",
        "1,5",
        "nan",
        "Infinity",
        float("inf"),
        Decimal("sNaN"),
        True,
        b"1",
    ],
    "integer": [10.5, "10.5", "x", "", True, float("nan"), Decimal("1E+5000"), b"1", "0x10"],
    "boolean": [2, -1, "yes", "", "1", 0.5, b"\x01", Decimal("0.5")],
    "date": ["13.01.2026", "2026-02-30", "", 1768293912, True, time(8), UnreadableTime("infinity")],
    "timestamp": ["2026-02-30", "soon", "", True, b"x", UnreadableTime("0000-00-00")],
    "json": ["", "7", '"text"', "{", 7, True, b"{}", "[" * 100_000],
    "text": [True, 1.5, Decimal("1"), date(2026, 1, 13), b"x", {}, LATE],
}


def cases(table: dict[str, list[Any]]) -> list[tuple[str, Any]]:
    """Each entry of a table with its type."""
    return [(type_name, entry) for type_name, entries in table.items() for entry in entries]


def test_the_table_has_every_type() -> None:
    assert list(CELL_TYPES) == list(TAKEN) == list(REFUSED)


@pytest.mark.parametrize(("type_name", "entry"), cases(TAKEN))
def test_what_fits_is_sent_as_its_type(type_name: str, entry: tuple[Any, Any]) -> None:
    cell, sent = entry
    value = json_value(cast_cell(type_name, cell, BERLIN), BERLIN)
    assert value == sent
    assert type(value) is type(sent)


@pytest.mark.parametrize("type_name", CELL_TYPES)
def test_null_has_every_type(type_name: str) -> None:
    assert cast_cell(type_name, None, BERLIN) is None


@pytest.mark.parametrize(("type_name", "cell"), cases(REFUSED))
def test_what_does_not_fit_is_named_by_kind_and_not_by_value(type_name: str, cell: Any) -> None:
    with pytest.raises(ValueError, match=f" that is no {type_name}$") as caught:
        cast_cell(type_name, cell, BERLIN)
    if isinstance(cell, str):
        assert str(caught.value) == f"{'text' if cell else 'empty text'} that is no {type_name}"


@pytest.mark.parametrize(
    ("cell", "kind"),
    [
        (True, "a boolean"),
        (1.5, "a number"),
        (b"x", "binary data"),
        ({}, "an object"),
        (date(2026, 1, 13), "a date"),
        (LATE, "a time"),
        (timedelta(1), "timedelta"),
    ],
)
def test_the_kind_of_a_value_is_said_in_words(cell: Any, kind: str) -> None:
    with pytest.raises(ValueError, match=f"^{kind} that is no text$"):
        cast_cell("text", cell, BERLIN)

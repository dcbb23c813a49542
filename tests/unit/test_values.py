"""What Iterable gets for a value from a database, an identifier, a time."""

from __future__ import annotations

import marshal
import re
import uuid
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from db import UnreadableTime
from iterable_client import (
    InvalidValueError,
    clean_fields,
    encode,
    format_time,
    json_value,
    normalize_identifier,
    to_utc,
    unix_seconds,
)

UTC, BERLIN = timezone.utc, ZoneInfo("Europe/Berlin")


TOKYO, LOS_ANGELES = ZoneInfo("Asia/Tokyo"), ZoneInfo("America/Los_Angeles")


SOME_UUID = uuid.UUID("12345678-1234-5678-1234-567812345678")


MOMENT = datetime(2026, 1, 13, 8, 45, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (1, "1"),
        (0, "0"),
        (1.5, "1.5"),
        (10.0, "10.0"),
        (2**63 - 1, "9223372036854775807"),
        (-(2**63), "-9223372036854775808"),
        (Decimal("10"), "10.0"),
        (Decimal("10.50"), "10.5"),
        (Decimal("1E+3"), "1000.0"),
        (Decimal("-0.1"), "-0.1"),
        (Decimal("0E-10"), "0.0"),
        ("", '""'),
        ("  pró 🎉 ", '"  pró 🎉 "'),
        ("2026-01-13", '"2026-01-13"'),
        ("7", '"7"'),
        (date(2026, 1, 13), '"2026-01-13"'),
        (date(1, 1, 1), '"0001-01-01"'),
        (SOME_UUID, f'"{SOME_UUID}"'),
        (MOMENT, '"2026-01-13 08:45:12 +00:00"'),
        (
            datetime(2026, 1, 13, 9, 45, 12, 999999),
            '"2026-01-13 08:45:12 +00:00"',
        ),  # naive: Berlin's, in winter
        (datetime(2026, 7, 13, 10, 45, 12), '"2026-07-13 08:45:12 +00:00"'),  # and in summer
        (datetime(2026, 10, 25, 2, 30), '"2026-10-25 00:30:00 +00:00"'),  # the first of the two
        (datetime(2026, 10, 25, 2, 30, fold=1), '"2026-10-25 01:30:00 +00:00"'),
        (
            datetime(2026, 1, 13, 8, 45, tzinfo=timezone(timedelta(hours=-5, minutes=-30))),
            '"2026-01-13 14:15:00 +00:00"',
        ),
        (
            {"a": [Decimal(2), {"b": date(2026, 1, 13)}], "é": None, 7: ()},
            '{"a":[2.0,{"b":"2026-01-13"}],"é":null,"7":[]}',
        ),
    ],
)
def test_a_value_has_one_form_in_json_that_follows_from_its_type(value: Any, sent: str) -> None:
    assert encode(json_value(value, BERLIN)).decode() == sent


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (2**63, "int beyond 64 bits"),
        (-(2**63) - 1, "int beyond 64 bits"),
        (10**400, "int beyond 64 bits"),
        (float("nan"), "float nan is not a number"),
        (float("-inf"), "float -inf is not a number"),
        (Decimal("NaN"), "Decimal NaN is not a number"),
        (Decimal("sNaN"), "Decimal sNaN is not a number"),
        (Decimal("Infinity"), "Decimal Infinity is not a number"),
        (Decimal("1E+400"), "Decimal 1E+400 is not a number"),
        (b"\x00", "no type for bytes"),
        (bytearray(), "no type for bytearray"),
        (memoryview(b""), "no type for memoryview"),
        (UnreadableTime("infinity"), "no type for UnreadableTime"),
        (time(8, 45), "no type for time"),
        (timedelta(1), "no type for timedelta"),
        ({1}, "no type for set"),
        (1j, "no type for complex"),
        (object(), "no type for object"),
        ("\udcff", "text that is not valid UTF-8"),
        ({"\ud800": 1}, "text that is not valid UTF-8"),
        ({"a": [{"b": b""}]}, "no type for bytes"),
        ([float("nan")], "float nan"),
        (datetime(1, 1, 1), "outside the years 1 to 9999"),
        (
            datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-2))),
            "outside the years 1 to 9999",
        ),
    ],
)
def test_a_value_that_json_or_iterable_cannot_hold_is_an_error_naming_column_and_type(
    value: Any, reason: str
) -> None:
    with pytest.raises(InvalidValueError, match=f"^column plan: .*{re.escape(reason)}") as error:
        clean_fields({"page": "pricing", "plan": value}, BERLIN)
    assert error.value.outcome.result == (False, {"code": "InvalidValue", "msg": str(error.value)})


def test_a_subclass_of_a_type_comes_to_the_type_itself() -> None:
    class Text(str):
        def __str__(self) -> str:
            return "other"

    class Number(int):
        pass

    values = json_value([Text("é"), {Text("a"): Number(7)}, True], UTC)
    assert values == ["é", {"other": 7}, True]
    assert [type(value) for value in (values[0], values[1]["other"])] == [str, int]
    assert marshal.dumps(
        values, 2
    )  # which takes no subclasses, and is what the ledger's digests are made of


def test_fields_keep_their_names_and_order() -> None:
    fields = clean_fields({"z": "x", "a": None, "é": "ü", "n": Decimal(1)}, UTC)
    assert encode(fields).decode() == '{"z":"x","a":null,"é":"ü","n":1.0}'


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("email", " Ada@Example.COM\n", "ada@example.com"),
        ("email", "É@example.com", "é@example.com"),
        ("userId", "Ab c", "Ab c"),
        ("userId", 7, "7"),
        ("userId", -(10**30), str(-(10**30))),
        ("userId", SOME_UUID, str(SOME_UUID)),
        ("userId", Decimal("7.00"), "7"),
        ("userId", Decimal("1E+3"), "1000"),
    ],
)
def test_an_email_is_trimmed_and_in_lower_case_and_a_user_id_is_text(
    kind: str, value: Any, text: str
) -> None:
    assert normalize_identifier(kind, value) == text


@pytest.mark.parametrize(
    ("kind", "value", "code"),
    [
        *(
            (kind, value, "NoIdentifier")
            for kind in ("email", "userId")
            for value in (None, "", " \t\n")
        ),
        *(
            ("userId", value, "InvalidValue")
            for value in (
                True,
                7.0,
                Decimal("7.5"),
                Decimal("1E+5000"),
                10**400,
                Decimal("NaN"),
                Decimal("sNaN"),
                Decimal("-Infinity"),
                b"7",
                MOMENT,
                ["7"],
                "\ud800",
            )
        ),
        *(
            ("email", value, "InvalidValue")
            for value in (7, Decimal(7), SOME_UUID, b"a@example.com", "\ud800@example.com")
        ),
    ],
)
def test_what_identifies_nobody_is_an_error(kind: str, value: Any, code: str) -> None:
    with pytest.raises(
        InvalidValueError, match=kind if "\ud800" not in str(value) else "UTF-8"
    ) as error:
        normalize_identifier(kind, value)
    assert error.value.code == code


@pytest.mark.parametrize(
    ("moment", "zone", "seconds", "exact"),
    [
        (datetime(2026, 1, 13, 8, 45, 12), UTC, "2026-01-13 08:45:12", "2026-01-13 08:45:12"),
        (
            datetime(2026, 1, 13, 8, 45, 12, 250000),
            TOKYO,
            "2026-01-12 23:45:12",
            "2026-01-12 23:45:12.250000",
        ),
        (MOMENT, TOKYO, "2026-01-13 08:45:12", "2026-01-13 08:45:12"),  # its own zone counts
        (datetime(1, 1, 1), UTC, "0001-01-01 00:00:00", "0001-01-01 00:00:00"),
        (
            datetime(9999, 12, 31, 23, 59, 59, 1),
            UTC,
            "9999-12-31 23:59:59",
            "9999-12-31 23:59:59.000001",
        ),
    ],
)
def test_a_time_has_iterables_form_in_utc(
    moment: datetime, zone: Any, seconds: str, exact: str
) -> None:
    assert json_value(moment, zone) == f"{seconds} +00:00"
    assert format_time(to_utc(moment, zone)) == f"{exact} +00:00"


@pytest.mark.parametrize(
    ("moment", "zone"), [(datetime(1, 1, 1), TOKYO), (datetime(9999, 12, 31, 23), LOS_ANGELES)]
)
def test_a_time_that_utc_cannot_tell_is_an_error(moment: datetime, zone: Any) -> None:
    with pytest.raises(InvalidValueError, match="outside the years"):
        to_utc(moment, zone)


@pytest.mark.parametrize(
    ("moment", "seconds"),
    [
        (MOMENT, 1768293912),
        (MOMENT.astimezone(BERLIN), 1768293912),
        (datetime(1970, 1, 1, tzinfo=UTC), 0),
        (datetime(1970, 1, 1, 0, 0, 0, 999999, UTC), 0),
        (datetime(1969, 12, 31, 23, 59, 59, 999999, UTC), -1),
        (datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC), -1),
        (datetime(1, 1, 1, tzinfo=UTC), -62135596800),
    ],
)
def test_unix_seconds_are_whole_and_never_later_than_the_moment(
    moment: datetime, seconds: int
) -> None:
    assert unix_seconds(to_utc(moment, UTC)) == seconds

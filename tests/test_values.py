"""What becomes of values on their way to Iterable and into files."""

from __future__ import annotations

import csv
import json
import marshal
import os
import re
import stat
import uuid
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from itertools import permutations
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import responses

from db import UnreadableTime
from iterable_client import (
    EVENT_ID_NAMESPACE,
    CsvFile,
    InvalidValueError,
    IterableClient,
    OutputFile,
    clean_fields,
    encode,
    event,
    export_results_to_csv,
    format_time,
    json_value,
    make_event_id,
    normalize_identifier,
    to_utc,
    unix_seconds,
    user_update,
)

UTC, BERLIN = timezone.utc, ZoneInfo("Europe/Berlin")
TOKYO, LOS_ANGELES = ZoneInfo("Asia/Tokyo"), ZoneInfo("America/Los_Angeles")
SOME_UUID = uuid.UUID("12345678-1234-5678-1234-567812345678")
MOMENT = datetime(2026, 1, 13, 8, 45, 12, tzinfo=UTC)


# --- Values of dataFields


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
        clean_fields([("page", "pricing"), ("plan", value)], BERLIN)
    assert error.value.result == (False, {"code": "InvalidValue", "msg": str(error.value)})


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
    fields = clean_fields([("z", "x"), ("a", None), ("é", "ü"), ("n", Decimal(1))], UTC)
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
    assert error.value.result[1]["code"] == code


# --- Times


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


# --- Event ids and payloads


@pytest.mark.parametrize(
    ("parts", "id_"),
    [
        (
            ["ada@example.com", "page_view", [1, "2026-01-13 08:45:12 +00:00", "pricing"]],
            "7a1528f6-b9e9-547d-ad4f-dddb7cfd5794",
        ),
        (
            ["42", "signup", 1768293912, {"plan": "pró", "n": 1.5, "x": None, "a": True}],
            "892cb916-4973-57db-be89-b69cbcb15ead",
        ),
        (["é@example.com", "x"], "1e6ac3e2-adae-5f55-92c9-3914f7587788"),
    ],
)
def test_an_event_id_is_the_uuid5_of_canonical_json_and_never_changes(
    parts: list[Any], id_: str
) -> None:
    """Another form would add every event ever sent once more."""
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    assert make_event_id(parts) == str(uuid.uuid5(EVENT_ID_NAMESPACE, canonical)) == id_


def test_an_event_id_tells_all_its_parts_and_not_the_order_of_fields() -> None:
    all_orders = [dict(fields) for fields in permutations({"a": 1, "b": 2, "c": 3}.items())]
    assert len({make_event_id(["ada", "x", fields]) for fields in all_orders}) == 1
    different = (
        ["a", "x", 1],
        ["a", "x", "1"],
        ["a", "x", 1.0],
        ["a", "x", None],
        ["ax", 1],
        ["x", "a", 1],
    )
    assert len({make_event_id(parts) for parts in different}) == len(different)


# the properties of Iterable's API description, version 1.8: OptionalApiUser and TrackRequest
USER = {
    "dataFields": dict,
    "email": str,
    "mergeNestedObjects": bool,
    "preferUserId": bool,
    "userId": str,
}
EVENT = {
    "campaignId": int,
    "createNewFields": bool,
    "createdAt": int,
    "dataFields": dict,
    "email": str,
    "eventName": str,
    "id": str,
    "templateId": int,
    "userId": str,
}


@pytest.mark.parametrize(
    ("payload", "properties", "expected"),
    [
        (
            user_update("email", "a@x.io", {"n": 1}),
            USER,
            {"email": "a@x.io", "dataFields": {"n": 1}},
        ),
        (
            user_update("userId", "7", {}),
            USER,
            {"userId": "7", "dataFields": {}, "preferUserId": True},
        ),
        (
            event("email", "a@x.io", "view", {"n": 1}, 5, "e1"),
            EVENT,
            {
                "email": "a@x.io",
                "eventName": "view",
                "dataFields": {"n": 1},
                "createdAt": 5,
                "id": "e1",
            },
        ),
        (
            event("userId", "7", "view", {}, 0, "e1"),
            EVENT,
            {"userId": "7", "eventName": "view", "dataFields": {}, "createdAt": 0, "id": "e1"},
        ),
        (
            event("userId", "7", "view", {}, None, "e1"),
            EVENT,
            {"userId": "7", "eventName": "view", "dataFields": {}, "id": "e1"},
        ),
    ],
)
def test_a_payload_has_none_but_iterables_properties(
    payload: dict[str, Any], properties: dict[str, type], expected: dict[str, Any]
) -> None:
    assert payload == expected
    assert {name: type(value) for name, value in payload.items()}.items() <= properties.items()


def tracked(**settings: Any) -> Callable[..., dict[str, Any]]:
    """A track_event that returns the body it sent."""
    client = IterableClient("key", **settings)

    def track(*args: Any, **more: Any) -> dict[str, Any]:
        with responses.RequestsMock() as http:
            http.post(
                "https://api.iterable.com/api/events/track", json={"code": "Success", "msg": ""}
            )
            assert client.track_event(*args, **more)[0]
            body: dict[str, Any] = json.loads(http.calls[0].request.body or "")
            return body

    return track


def test_an_event_happens_now_unless_told_and_its_id_follows_from_user_name_time_and_fields(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("iterable_client.time.time", lambda: 1768293912.9)
    body = tracked()("Ada@example.com", "page_view", {"page": "pricing"})
    parts = ["ada@example.com", "page_view", 1768293912, {"page": "pricing"}]
    assert body == event(
        "email",
        "ada@example.com",
        "page_view",
        {"page": "pricing"},
        1768293912,
        make_event_id(parts),
    )
    assert tracked()("ada@example.com", "page_view", {"page": "pricing"}, created_at=MOMENT) == body
    assert tracked()("ada@example.com", "page_view", {"page": "pricing"}, event_id="mine") == {
        **body,
        "id": "mine",
    }


@pytest.mark.parametrize(
    ("created_at", "seconds"),
    [
        (0, 0),
        (1768293912.9, 1768293912),
        (MOMENT, 1768293912),
        (datetime(2026, 1, 13, 9, 45, 12, 5), 1768293912),
        (-0.5, -1),
        (datetime(1969, 12, 31, 23, 59, 59, 500000, UTC), -1),
    ],
)
def test_an_event_is_created_at_whole_seconds_not_later_than_told(
    created_at: Any, seconds: int
) -> None:
    assert tracked(zone=BERLIN)("a@x.io", "x", created_at=created_at)["createdAt"] == seconds


@pytest.mark.parametrize("created_at", [float("nan"), float("inf")])
def test_an_event_at_no_time_is_a_failure_and_not_sent(created_at: Any) -> None:
    with responses.RequestsMock() as http:
        ok, answer = IterableClient("key").track_event("a@x.io", "x", created_at=created_at)
        assert (ok, answer["code"], len(http.calls)) == (False, "InvalidValue", 0)


# --- Files


def read(path: str | Path) -> list[list[str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (None, ""),
        ("", ""),
        ("text", "text"),
        ("pró 🎉", "pró 🎉"),
        ('say "so", now', 'say "so", now'),
        (" x ", " x "),
        ("two\nlines\r\nand\rmore", "two\nlines\r\nand\rmore"),
        (True, "True"),
        (MOMENT, "2026-01-13 08:45:12+00:00"),
        *((start + "1", f"'{start}1") for start in "=+-@\t\r"),
        ("=", "'="),
        ("a=1", "a=1"),
        ("'=1", "'=1"),
        ("\n=1", "\n=1"),
        (-1, "-1"),
        (-1.5, "-1.5"),
        (Decimal("-1.50"), "-1.50"),
        (2**70, str(2**70)),
        (1e-7, "1e-07"),
        ({"a": ["é", None]}, '{"a": ["é", null]}'),
        ([-1], "[-1]"),
        ([], "[]"),
        (b"\x00\xff", "\\x00ff"),
        (b"", "\\x"),
        (UnreadableTime("infinity"), "infinity"),
        (UnreadableTime("-infinity"), "'-infinity"),
        (time(8, 45), "08:45:00"),
        ("broken \udcff", "broken \\udcff"),
        ({"a": "\ud800"}, '{"a": "\\ud800"}'),
        ([Decimal("1.50")], '["1.50"]'),
        ([date(2026, 1, 13)], '["2026-01-13"]'),
        ({"id": SOME_UUID}, f'{{"id": "{SOME_UUID}"}}'),
    ],
)
def test_a_cell_of_the_csv_says_what_the_value_was_and_nothing_that_a_spreadsheet_runs(
    value: Any, cell: str, tmp_path: Path
) -> None:
    path = export_results_to_csv(
        [{"before": 1, "value": value, "after": 2}], str(tmp_path / "out.csv")
    )
    assert read(path) == [["before", "value", "after"], ["1", cell, "2"]]


def test_a_header_name_that_a_spreadsheet_would_run_is_defused(tmp_path: Path) -> None:
    path = export_results_to_csv([{"=cmd()": 1, "-": 2, "a": 3}], str(tmp_path / "out.csv"))
    assert read(path)[0] == ["'=cmd()", "'-", "a"]


def test_the_columns_are_those_of_all_records_in_order_of_appearance(tmp_path: Path) -> None:
    path = export_results_to_csv([{"b": 1}, {"a": 2, "b": 3}, {}], str(tmp_path / "out.csv"))
    assert Path(path).read_bytes() == b"b,a\r\n1,\r\n3,2\r\n,\r\n"


def test_a_csv_without_a_name_is_named_by_the_time_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = export_results_to_csv([])
    assert re.fullmatch(r"query_results_\d{8}_\d{6}\.csv", path)
    assert datetime.strptime(path, "query_results_%Y%m%d_%H%M%S.csv")
    assert names(tmp_path) == [path]


def test_an_export_is_private_and_never_overwrites_another(tmp_path: Path) -> None:
    paths = [export_results_to_csv([{"n": n}], str(tmp_path / "out.csv")) for n in range(3)]
    assert names(tmp_path) == ["out.csv", "out_2.csv", "out_3.csv"]
    assert paths == [str(tmp_path / name) for name in names(tmp_path)]
    assert [read(path)[1] for path in paths] == [["0"], ["1"], ["2"]]
    assert {stat.S_IMODE(Path(path).stat().st_mode) for path in paths} == {0o600}


class Unprintable:
    def __str__(self) -> str:
        raise OSError("the disk is full")


def test_an_export_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="disk is full"):
        export_results_to_csv([{"a": 1}, {"a": Unprintable()}], str(tmp_path / "out.csv"))
    assert names(tmp_path) == []
    with pytest.raises(FileNotFoundError):
        export_results_to_csv([{"a": 1}], str(tmp_path / "nowhere" / "out.csv"))


def test_an_output_file_is_hidden_and_private_until_it_is_committed(tmp_path: Path) -> None:
    file = OutputFile(tmp_path, "out.json")
    file.text.write("é\n")
    (part,) = tmp_path.iterdir()
    assert (part.name[0], part.suffix, stat.S_IMODE(part.stat().st_mode)) == (".", ".part", 0o600)
    assert file.commit() == tmp_path / "out.json"
    assert (names(tmp_path), (tmp_path / "out.json").read_bytes()) == (["out.json"], "é\n".encode())
    file.close()  # of what was committed nothing is removed
    assert names(tmp_path) == ["out.json"]


def test_a_closed_file_is_gone_and_may_be_closed_again(tmp_path: Path) -> None:
    file = OutputFile(tmp_path, "out.json")
    file.text.write("x")
    file.close()
    file.close()
    assert names(tmp_path) == []


def test_the_leftover_of_a_killed_run_does_not_hinder_the_next(tmp_path: Path) -> None:
    (tmp_path / f".out.json.{os.getpid()}.part").write_text("half a row")
    file = OutputFile(tmp_path, "out.json")
    file.text.write("x")
    assert file.commit().read_text() == "x"
    assert names(tmp_path) == ["out.json"]


def test_a_link_in_the_place_of_an_output_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("old")
    for name in ("out.json", f".out.json.{os.getpid()}.part"):
        (tmp_path / name).symlink_to(tmp_path / "precious")
    file = OutputFile(tmp_path, "out.json")
    file.text.write("new")
    assert file.commit().name == "out_2.json"
    assert (tmp_path / "precious").read_text() == "old"


def test_a_written_row_tells_its_length(tmp_path: Path) -> None:
    file = CsvFile(tmp_path, "out.csv")
    assert [file.write(["é", 10, None]), file.write(["=1"])] == [len("é,10,\r\n"), len("'=1\r\n")]
    file.close()

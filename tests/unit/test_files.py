"""CSV and other output files: what a cell says; whole or not at all; never over another."""

from __future__ import annotations

import csv
import errno
import os
import re
import stat
import uuid
from datetime import date, datetime, time, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from db import UnreadableTime
from iterable_client import CsvFile, OutputFile, export_results_to_csv

MOMENT = datetime(2026, 1, 13, 8, 45, 12, tzinfo=timezone.utc)
SOME_UUID = uuid.UUID("12345678-1234-5678-1234-567812345678")


def read(path: str | Path) -> list[list[str]]:
    """The lines of a CSV."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def names(directory: Path) -> list[str]:
    """The names of the files in a directory."""
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
        *((start + "1", f"'{start}1") for start in "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"),
        ("=", "'="),
        ("a=1", "a=1"),
        ("'=1", "'=1"),
        ("\n=1", "'\n=1"),
        (" =1", " =1"),
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
    record = {"before": 1, "value": value, "after": 2}
    path = export_results_to_csv([record], str(tmp_path / "out.csv"))
    assert read(path) == [["before", "value", "after"], ["1", cell, "2"]]


def test_a_header_name_that_a_spreadsheet_would_run_is_defused(tmp_path: Path) -> None:
    names = ["=cmd()", "-", "\n", "\uff1d1", "a"]
    path = export_results_to_csv([dict.fromkeys(names)], str(tmp_path / "out.csv"))
    assert read(path)[0] == ["'=cmd()", "'-", "'\n", "'\uff1d1", "a"]


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
    [part] = tmp_path.iterdir()
    assert part.name.startswith(".")
    assert part.suffix == ".part"
    assert stat.S_IMODE(part.stat().st_mode) == 0o600
    assert file.commit() == tmp_path / "out.json"
    assert names(tmp_path) == ["out.json"]
    assert (tmp_path / "out.json").read_bytes() == "é\n".encode()
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
    assert file.write(["é", 10, None]) == len("é,10,\r\n")
    assert file.write(["=1"]) == len("'=1\r\n")
    file.close()


def test_a_file_system_without_hard_links_gets_the_file_by_its_name_and_overwrites_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_link(source: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_link)
    for number in (1, 2):
        file = OutputFile(tmp_path, "out.json")
        file.text.write(str(number))
        path = file.commit()
        assert path.read_text() == str(number)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert names(tmp_path) == ["out.json", "out_2.json"]
    assert (tmp_path / "out.json").read_text() == "1"

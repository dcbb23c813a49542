"""Which rows a run takes."""

from __future__ import annotations

from datetime import datetime

import pytest

from tests.fake_iterable import FakeIterable
from tests.project import Project, check_counts
from tests.runs.sample import CELLS, COLUMNS, EMAILS

NOON = "2026-01-13T12:00:00+00:00"
WEEK_BEFORE = "2026-01-06T12:00:00+00:00"


@pytest.mark.parametrize(
    ("flags", "zone", "since", "until", "rows"),
    [
        (["--as-of", "2026-01-13 12:00:00"], "", WEEK_BEFORE, NOON, "12345"),
        (["--as-of", "2026-01-13 13:00+01:00"], "", WEEK_BEFORE, NOON, "12345"),
        (
            ["--as-of", "2026-01-13T12:00:01Z"],
            "",
            "2026-01-06T12:00:01+00:00",
            "2026-01-13T12:00:01+00:00",
            "1245",
        ),
        (
            ["--as-of", "2026-01-13"],
            "",
            "2026-01-06T00:00:00+00:00",
            "2026-01-13T00:00:00+00:00",
            "123458",
        ),
        (["--days", "2"], "", "2026-01-11T12:00:00+00:00", NOON, "1245"),
        (["--days", "0.25"], "", "2026-01-13T06:00:00+00:00", NOON, "14"),
        ([], "Asia/Tokyo", "2026-01-06T12:00:00+09:00", "2026-01-13T12:00:00+09:00", "12345"),
        (
            ["--as-of", "2026-01-13 03:00:01Z"],
            "Asia/Tokyo",
            "2026-01-06T12:00:01+09:00",
            "2026-01-13T12:00:01+09:00",
            "1245",
        ),
        (  # 24 hours, though the day has 23
            ["--as-of", "2026-03-29 12:00", "--days", "1"],
            "Europe/Berlin",
            "2026-03-28T11:00:00+01:00",
            "2026-03-29T12:00:00+02:00",
            "",
        ),
    ],
)
def test_the_window_is_the_days_before_as_of_in_the_databases_zone(
    project: Project, flags: list[str], zone: str, since: str, until: str, rows: str
) -> None:
    done = project.run("--dry-run", *flags, DATABASE_TIMEZONE=zone)
    run = done.results["run"]
    assert datetime.fromisoformat(run["since"]) == datetime.fromisoformat(since)
    assert datetime.fromisoformat(run["until"]) == datetime.fromisoformat(until)
    assert "".join(row[0] for row in done.rows[1:]) == rows


def test_no_more_rows_are_taken_than_the_limit(project: Project, server: FakeIterable) -> None:
    done = project.run("--limit", "2")
    assert (done.code, done.results["total_users"]) == (0, 2)
    assert done.rows == [COLUMNS, *CELLS[:2]]
    assert sorted(server.users) == sorted(EMAILS[:2])


def test_zero_rows_are_a_success_with_both_files(project: Project, server: FakeIterable) -> None:
    done = project.run("--as-of", "2020-01-01")
    assert (done.code, done.results["run"]["status"]) == (0, "completed")
    assert done.rows == [COLUMNS]
    assert server.requests == []
    assert done.results["records"] == []
    assert done.results["reports"] == {"engagement_by_page": []}
    check_counts(done.results, 0)

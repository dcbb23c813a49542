"""Reports: queries whose rows people read."""

from __future__ import annotations

import pytest

from tests.project import Project

SYNC = """
-- name: q
-- email: e
-- user fields: n
SELECT 'a@example.com' AS e, 1 AS n;
"""


def test_a_report_may_hold_anything(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    project.queries(f"""{SYNC}
        -- name: odd
        SELECT CAST(x'61ff' AS TEXT) AS broken, 'Łódź' AS text, x'00' AS data, NULL""")
    done = project.run(QUERY="q")
    assert (done.code, done.err) == (0, "")
    assert done.results["reports"]["odd"][0]["text"] == "Łódź"


def test_a_report_cannot_control_the_terminal(project: Project) -> None:
    project.queries(f"""{SYNC}
        -- name: odd
        SELECT char(27) || '[2J', 'two' || char(13, 10, 155) || 'lines' AS \"\x1b[31m\"""")
    done = project.run(QUERY="q")
    assert done.code == 0
    assert done.results["reports"]["odd"][0]["\x1b[31m"] == "two\r\n\x9blines"
    assert done.out.replace("\n", "").isprintable(), "no escape sequences"


def test_a_cell_that_no_json_can_hold_changes_no_other(project: Project) -> None:
    project.queries(f"{SYNC} -- name: odd\nSELECT x'00ff' AS b, NULL AS n, 7 AS i")
    [row] = project.run(QUERY="q").results["reports"]["odd"]
    assert row == {"b": str(b"\x00\xff"), "n": None, "i": 7}


def test_a_report_that_is_cut_says_so(project: Project) -> None:
    long = """
        -- name: long
        WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 1001)
        SELECT n FROM r"""
    project.queries(SYNC + long)
    done = project.run(QUERY="q")
    assert len(done.results["reports"]["long"]) == 1000
    assert done.results["run"]["warnings"] == ["Of report long only 1,000 rows are kept"]
    project.queries(SYNC + long.replace("1001", "1000"))
    assert project.run(QUERY="q").results["run"]["warnings"] == []

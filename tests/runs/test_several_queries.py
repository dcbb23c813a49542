"""Several queries in one run."""

from __future__ import annotations

import signal

import pytest

from tests.fake_iterable import FakeIterable
from tests.project import Project, outputs, wait_until

EVENT = """
-- name: {name}
-- email: email
-- event: e
-- event id: email
SELECT '{name}@example.com' AS email{more}
"""
REPORT = "-- name: sums\nSELECT 1 AS one\n"


def queries(*names: str, broken: dict[str, str] | None = None) -> str:
    """A queries file of queries with an event each; what is broken has other SQL behind it."""
    more = broken or {}
    return REPORT + "".join(EVENT.format(name=name, more=more.get(name, "")) for name in names)


def users_reached(server: FakeIterable) -> list[str]:
    """Whose events arrived, in this order."""
    return [seen.body["email"].partition("@")[0] for seen in server.requests]


def finished(project: Project) -> list[str]:
    """The files that have appeared under their final names."""
    return [name for name in outputs(project.output) if not name.startswith(".")]


def test_each_query_is_sent_in_the_order_named_and_has_files_of_its_own(
    project: Project, server: FakeIterable
) -> None:
    project.queries(queries("a", "b", "c"))
    done = project.run("--query", "c, a")
    assert (done.code, users_reached(server)) == (0, ["c", "a"])
    names = outputs(project.output)
    assert [name.rpartition("_")[2] for name in names] == ["a.json", "c.json", "a.csv", "c.csv"]
    for name in ("a", "c"):
        run = done.results_of(name)["run"]
        assert run["query"] == name
        assert run["csv_file"].endswith(f"_{name}.csv")
    assert done.results_of("c")["run"]["until"] == done.results_of("a")["run"]["until"]
    assert done.results_of("c")["reports"] == {"sums": [{"one": 1}]}
    assert done.results_of("a")["reports"] == {}, "reports run once"
    assert done.out.count("Status    completed") == 2


def test_all_is_every_query_that_is_no_report(project: Project, server: FakeIterable) -> None:
    project.queries(queries("a", "b"))
    done = project.run(QUERY="all")
    assert (done.code, users_reached(server)) == (0, ["a", "b"])


def test_a_query_that_fails_ends_alone_and_the_exit_code_is_the_worst(
    project: Project, server: FakeIterable
) -> None:
    broken = {"a": " FROM nowhere", "c": ", email AS x FROM (SELECT 1 AS email)"}
    text = queries("a", "b", "c", "d", broken=broken)
    project.queries(
        text.replace(
            "-- event: e\n-- event id: email\nSELECT 'c", "-- event: e\n-- event id: y\nSELECT 'c"
        )
    )
    server.forgotten = {"d@example.com"}
    done = project.run("--query", "a,b,c,d")
    assert done.code == 3
    assert users_reached(server) == ["b", "d"]
    assert "nowhere" in done.err
    assert "query 'c'" in done.err
    assert done.results_of("b")["reports"] == {"sums": [{"one": 1}]}, "in the first results file"
    assert done.results_of("d")["total_failures"] == 1
    assert len(outputs(project.output)) == 4, "none of a query that sent nothing"


def test_a_report_that_fails_ends_the_first_query_alone(
    project: Project, server: FakeIterable
) -> None:
    project.queries(queries("a", "b").replace("SELECT 1 AS one", "SELECT 1 FROM nowhere"))
    done = project.run("--query", "a,b")
    assert (done.code, users_reached(server)) == (3, ["b"])
    assert done.err.count("nowhere") == 1
    assert "a was not sent, since its results would lack this report" in done.err


def test_a_report_that_is_wrong_ends_the_first_query_alone(
    project: Project, server: FakeIterable
) -> None:
    project.queries(queries("a", "b").replace("SELECT 1 AS one", "SELECT 1 AS one, 2 AS one"))
    done = project.run("--query", "a,b")
    assert (done.code, users_reached(server)) == (2, ["b"])
    assert done.err.count("2 result columns are named 'one'") == 1
    assert "with AS. a was not sent, since" in done.err


def test_names_that_are_too_long_are_told_with_the_queries_that_had_no_turn(
    project: Project,
) -> None:
    project.queries(queries("a", "b"))
    done = project.run("--query", "a,b", OUTPUT_DIR="x" * 300)
    assert done.code == 2
    assert "name another with --output-dir" in done.err
    long = "q" * 241  # with it, the names of the files are too long
    project.queries(queries("a", long))
    done = project.run("--query", f"a,{long}")
    assert done.code == 4
    assert f"Not sent, or not all of it, because of this: {long}" in done.err
    assert "File name too long" in done.err
    assert "Make room" not in done.err


def test_after_an_aborted_query_none_is_tried(project: Project, server: FakeIterable) -> None:
    project.queries(queries("a", "b", "c"))
    server.add_fault("status", status=401, user="b@example.com")
    done = project.run("--query", "a,b,c")
    assert (done.code, users_reached(server)) == (4, ["a", "b"])
    assert "Not sent, or not all of it, because of this: c" in done.err
    assert done.results_of("b")["run"]["status"] == "aborted"


def test_after_a_signal_none_is_tried(project: Project, server: FakeIterable) -> None:
    project.queries(queries("a", "b", "c"))
    server.add_fault("hang", user="b@example.com")
    process = project.start("--query", "a,b,c")
    wait_until(lambda: len(server.requests) == 2, process)
    process.send_signal(signal.SIGTERM)
    done = project.finish(process)
    assert (done.code, users_reached(server)) == (143, ["a", "b"])
    assert done.results_of("b")["run"]["status"] == "interrupted"
    assert len(outputs(project.output)) == 4


def test_a_signal_while_the_second_query_runs_leaves_the_files_of_the_first(
    project: Project, server: FakeIterable
) -> None:
    endless = (
        ", (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
        "SELECT MAX(i) FROM n) AS x"
    )
    project.queries(queries("a", "b", broken={"b": endless}))
    process = project.start("--query", "a,b")
    wait_until(lambda: any(name.endswith("a.json") for name in finished(project)), process)
    process.send_signal(signal.SIGTERM)
    done = project.finish(process)
    assert (done.code, users_reached(server)) == (143, ["a"])
    assert "interrupted" in done.err
    assert "Not sent, or not all of it, because of this: b" in done.err
    assert len(finished(project)) == 2


SIX_BAD = """
-- name: {name}
-- email: email
-- event: e
-- event id: n
WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 7)
SELECT n, CASE n WHEN {good} THEN 'good@example.com' ELSE 'bad@example.com' END AS email FROM r
"""


def test_the_rule_of_ten_and_the_counts_begin_anew_with_each_query(
    project: Project, server: FakeIterable
) -> None:
    project.queries(SIX_BAD.format(name="a", good=1) + SIX_BAD.format(name="b", good=7))
    server.add_fault("status", status=500, user="bad@example.com")
    done = project.run("--query", "a,b", MAX_RETRIES="1", WORKERS="1")
    assert done.code == 1, "twelve in a row, but of two queries"
    for name in ("a", "b"):
        assert done.results_of(name)["requests"]["sent"] == 7
        assert done.results_of(name)["failure_reasons"] == {"GenericError": 6}


@pytest.mark.parametrize(
    ("chosen", "complaint"),
    [
        ("a,b,a", "each once"),
        ("a,all", "each once"),
        ("a,,b", "each once"),
        ("a,x", "no query 'x'; it has"),
        ("a,sums", "this is a report"),
    ],
)
def test_a_wrong_choice_is_told_before_anything_is_sent(
    project: Project, server: FakeIterable, chosen: str, complaint: str
) -> None:
    project.queries(queries("a", "b"))
    done = project.run("--query", chosen)
    assert (done.code, server.requests) == (2, [])
    assert complaint in done.err


def test_what_the_queries_file_alone_shows_is_told_before_the_first_is_sent(
    project: Project, server: FakeIterable
) -> None:
    project.queries(queries("a", "b").replace("-- event id: email\nSELECT 'b", "SELECT 'b"))
    assert project.run("--query", "a,b").code == 2
    project.queries(queries("a", "all"))
    done = project.run("--query", "a")
    assert done.code == 2
    assert "'all' stands for every query" in done.err
    project.queries(REPORT)
    done = project.run("--query", "all")
    assert done.code == 2
    assert "no query but reports" in done.err
    assert server.requests == []


def test_quiet_tells_of_the_queries_that_failed_alone(
    project: Project, server: FakeIterable
) -> None:
    project.queries(queries("a", "b", "c"))
    server.forgotten = {"b@example.com"}
    done = project.run("--quiet", "--query", "all")
    assert (done.code, done.out) == (1, "")
    assert done.err.count("Status") == 1
    assert "Query     b" in done.err


SHARED = """
-- name: first
-- email: email
-- user fields: plan, city
SELECT 'a@example.com' AS email, 'pro' AS plan, 'Rome' AS city
UNION ALL SELECT 'b@example.com', 'pro', 'Rome'
UNION ALL SELECT 'c@example.com', 'free', 'Rome'

-- name: second
-- email: email
-- user fields: plan text, color
SELECT 'a@example.com' AS email, 'free' AS plan, 'red' AS color
UNION ALL SELECT 'B@example.com', 'team', 'red'
UNION ALL SELECT 'c@example.com', 'free', 'red'
"""


def test_fields_that_two_queries_set_differently_are_one_warning(project: Project) -> None:
    project.queries(SHARED)
    done = project.run("--query", "all")
    assert done.code == 0
    assert done.results_of("first")["run"]["warnings"] == []
    [warning] = done.results_of("second")["run"]["warnings"]
    assert "set plan differently: 2." in warning


def test_users_with_several_rows_are_one_warning_with_their_number(project: Project) -> None:
    project.queries(
        SHARED.replace("'B@", "'A@").replace("'c@example.com', 'free', 'Rome'", "NULL, NULL, NULL")
    )
    done = project.run("--query", "all")
    assert done.code == 1
    assert done.results_of("first")["run"]["warnings"] == []
    warnings = done.results_of("second")["run"]["warnings"]
    [warning] = [warning for warning in warnings if "Users with several rows: 1." in warning]
    assert "in every run" not in warning
    done = project.run("--query", "second", "--only-changes")
    assert "their fields are sent in every run" in done.screen


def test_a_warning_of_shared_fields_is_of_the_queries_that_share_them(project: Project) -> None:
    third = SHARED.partition("-- name: second")[0].replace("first", "third")
    project.queries(SHARED + third.replace("plan, city", "city"))
    done = project.run("--query", "all")
    assert "set plan differently" in str(done.results_of("second")["run"]["warnings"])
    assert done.results_of("third")["run"]["warnings"] == []


def test_rows_without_a_user_are_no_users_with_several_rows(project: Project) -> None:
    project.queries(
        SHARED.replace(
            "'c@example.com', 'free', 'Rome'", "7, 'x', 'y'\nUNION ALL SELECT 7, 'x', 'y'"
        )
    )
    done = project.run("--query", "first")
    assert done.results["failure_reasons"] == {"InvalidValue": 2}
    assert done.results["run"]["warnings"] == []


@pytest.mark.parametrize(
    ("first", "second", "advice"),
    [
        ("color", "color", "write '-- user fields: color decimal' in each query"),
        ("color integer", "color", "write '-- user fields: color decimal' in each query"),
        ("color", "color decimal", "give it the same type in each query"),
        ("color decimal", "color decimal", ""),
        ("color decimal", "color", ""),
    ],
)
def test_a_field_that_two_queries_send_as_two_kinds_is_one_warning(
    project: Project, first: str, second: str, advice: str
) -> None:
    text = SHARED.replace("city", "color").replace("'Rome'", "1").replace("'red'", "1.5")
    text = text.replace("fields: plan, color", f"fields: plan, {first}")
    project.queries(text.replace("fields: plan text, color", f"fields: plan text, {second}"))
    done = project.run("--query", "all")
    assert done.results_of("first")["run"]["warnings"] == []
    warnings = done.results_of("second")["run"]["warnings"]
    found = [warning for warning in warnings if "goes out as" in warning]
    expected = f"Field color goes out as fraction and integer: {advice}"
    assert found == ([expected] if advice else [])


def test_a_query_given_twice_is_an_error_and_not_the_last(
    project: Project, server: FakeIterable
) -> None:
    project.queries(queries("a", "b"))
    done = project.run("--query", "a", "--query", "b")
    assert (done.code, server.requests) == (2, [])
    assert "--query is given twice: give it once, with NAME[,NAME...]" in done.err

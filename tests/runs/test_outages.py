"""An Iterable that nobody reaches, and the rule of ten."""

from __future__ import annotations

import pytest

from tests.fake_iterable import FakeIterable
from tests.project import Project, check_counts, wait_until
from tests.runs.delivery import delivered, event_ids, recorded


@pytest.mark.parametrize(
    ("mode", "unit", "rows", "requests"), [("single", 1, 400, 60), ("bulk", 1000, 16_000, 5)]
)
def test_an_outage_ends_the_run_by_the_rule_of_ten_and_the_next_run_finishes_the_job(
    fast_project: Project, unlimited: FakeIterable, mode: str, unit: int, rows: int, requests: int
) -> None:
    unlimited.latency = 0.1 if mode == "single" else 0.5
    fast_project.add_customers(rows - 5)
    process = fast_project.start(SEND_MODE=mode, WORKERS="4")
    wait_until(lambda: len(unlimited.requests) >= requests, process)
    unlimited.down()
    done = fast_project.finish(process)
    results = done.results
    assert (done.code, results["run"]["status"]) == (4, "aborted")
    assert len(done.rows) == rows + 1
    assert unlimited.url in done.out + done.err
    assert any(unlimited.url in warning for warning in results["run"]["warnings"])
    check_counts(results, rows)
    # ten calls of one operation, as many or fewer of the other, and what was on the wire
    assert 10 * unit <= results["failure_reasons"].get("ConnectionError", 0) <= 24 * unit
    assert results["not_sent"] > 0
    assert "Interrupted" not in results["failure_reasons"], "nobody interrupted"
    # what was answered as the server went down may have failed
    answered = delivered(unlimited.requests)
    assert recorded(results)
    assert recorded(results) <= answered
    assert len(answered - recorded(results)) <= 4 * unit

    unlimited.latency = 0
    unlimited.up()
    again = fast_project.run(SEND_MODE=mode)
    assert (again.code, again.results["successful"]) == (0, rows)
    assert len(unlimited.users) == rows
    assert unlimited.events.keys() == event_ids(again.results)


def test_three_rows_that_only_a_gateway_answers_are_an_aborted_run(
    project: Project, server: FakeIterable
) -> None:
    server.add_fault("html", status=503)
    done = project.run("--limit", "3")
    assert (done.code, done.results["run"]["status"]) == (4, "aborted")
    assert len(server.requests) == 18
    assert done.results["total_failures"] == 3
    check_counts(done.results, 3)


def test_a_run_that_nobody_answers_is_aborted(project: Project, server: FakeIterable) -> None:
    server.down()
    done = project.run()
    assert (done.code, done.results["run"]["status"]) == (4, "aborted")
    assert server.url in done.out + done.err
    assert set(done.results["failure_reasons"]) <= {"ConnectionError", "Aborted"}
    check_counts(done.results, 5)

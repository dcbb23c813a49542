"""What the screen says of a run that has ended."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from main import ADVICE
from tests.fake_iterable import FakeIterable
from tests.project import ROOT, Project
from tests.runs.sample import EMAILS


def test_a_success_is_short_and_fits_a_mail(project: Project) -> None:
    done = project.run()
    lines = done.out.splitlines()
    labels = [line.split()[0] for line in lines if line[:1].isalpha()]
    assert labels == ["Status", "Query", "Window", "Rows", "Requests", "File", "File", "Report"]
    assert "Window    2026-01-06 12:00:00 to 2026-01-13 12:00:00 UTC" in lines
    assert "Rows      5, all delivered" in lines
    assert "Requests  10 sent" in lines
    assert "          page      views  users" in lines, "numbers on the right"
    assert "          pricing       5      3" in lines
    assert "\x1b" not in done.out
    assert all(len(line) < 80 for line in lines if not line.startswith("File"))


MIXED = """
-- name: mixed
-- email: email
-- user fields: score
SELECT 'A@example.com' AS email, 7 AS score UNION ALL SELECT 'b@example.com', 'seven'
UNION ALL SELECT 'c@example.com', x'00' UNION ALL SELECT NULL, 7
UNION ALL SELECT 'd@example.com', 8 UNION ALL SELECT 'e@example.com', 'eight'
"""


@pytest.mark.parametrize("mode", ["single", "bulk"])
def test_each_failure_has_its_number_status_an_example_and_advice(
    project: Project, server: FakeIterable, mode: str
) -> None:
    project.queries(MIXED)
    done = project.run("--query", "mixed", SEND_MODE=mode, WORKERS="1")
    assert done.code == 1
    results, text = done.results, done.screen
    assert results["failure_reasons"] == {
        "RequestFieldsTypesMismatched": 2,
        "InvalidValue": 1,
        "NoIdentifier": 1,
    }
    example = results["failure_examples"]["RequestFieldsTypesMismatched"]
    assert (example["row"], example["call"], example["status"]) == (2, "users_update", 400)
    assert "score" in example["msg"], "Iterable names the field"
    assert results["failure_examples"]["InvalidValue"] == {
        "row": 3,
        "call": "users_update",
        "status": None,
        "msg": "column score: Iterable has no type for bytes",
    }
    assert "2 calls: RequestFieldsTypesMismatched, HTTP 400 Row 2, user update:" in text
    assert "1 call: InvalidValue Row 3, user update: column score:" in text
    for code in results["failure_reasons"]:
        assert ADVICE[code] in text
    assert "2 delivered" in text
    assert "4 failed" in text
    assert f"grep '\"overall_success\": false' {newest_results(project)}" in text


def newest_results(project: Project) -> str:
    """The path of the one results file."""
    [path] = project.output.glob("integration_results_*.json")
    return str(path)


def test_iterables_words_are_shown_without_addresses(
    project: Project, server: FakeIterable
) -> None:
    words = f"user {EMAILS[0]} (<{EMAILS[0].upper()}>) is odd"
    server.add_fault("status", status=400, code="Odd", msg=words, user=EMAILS[0])
    done = project.run()
    assert done.results["failure_examples"]["Odd"]["row"] == 1
    assert "is odd" in done.out
    assert not re.search(r"example\.com", done.out + done.err + done.log, re.IGNORECASE)


def test_a_server_error_without_advice_of_its_own_has_that_of_all(
    project: Project, server: FakeIterable
) -> None:
    server.add_fault("status", status=500, code="Oops", user=EMAILS[0])
    done = project.run(MAX_RETRIES="1")
    assert done.code == 1
    assert ADVICE["5xx"] in done.screen


def test_no_rows_say_how_to_find_some(project: Project) -> None:
    done = project.run("--as-of", "2020-01-01")
    assert done.code == 0
    assert "Window 2019-12-25 00:00:00 to 2020-01-01 00:00:00 UTC" in done.screen
    assert "none in this window: --days makes it longer, --as-of moves its end" in done.screen


def test_a_dry_run_shows_its_first_requests_and_what_it_would_take(project: Project) -> None:
    project.add_customers(1000)
    done = project.run("--dry-run")
    text = done.screen
    assert "Rows 1,005 " in text
    assert "2,010 calls in 4 bulk requests, which Iterable's limits let through in 0.4 s" in text
    assert "POST /api/users/bulkUpdate, the first of users" in text
    assert "POST /api/events/trackBulk, the first of events" in text
    update, event = re.findall(r"^ {10}(\{.*?^ {10}\})", done.out, re.MULTILINE | re.DOTALL)
    assert json.loads(update) == {
        "email": "***",
        "dataFields": {
            "first_name": "Amara",
            "last_name": "Okafor",
            "plan_type": "pro",
            "candidate": "candidate-7",
        },
    }
    assert json.loads(event)["dataFields"]["location"] == "Lagos, NG"
    arguments = f"--env-file {project.env_file} --as-of '2026-01-13 12:00:00' --limit 1"
    assert "has every request. This sends the first row; then look at that user" in text
    last = done.out.splitlines()[-1].strip()
    assert last == f"{sys.executable} {ROOT / 'main.py'} {arguments}", "on a line of its own"


def test_others_traffic_is_told(project: Project, server: FakeIterable) -> None:
    server.add_fault("status", status=429, times=2)
    done = project.run()
    assert "12 sent, 2 of them retries, 2 answered 429 (others use this project's limits" in (
        done.screen
    )


def test_what_aborts_a_run_stands_at_its_top_and_once(
    project: Project, server: FakeIterable
) -> None:
    server.add_fault("status", status=401, code="BadApiKey")
    done = project.run("--quiet")
    assert done.code == 4
    assert done.err.splitlines()[1].startswith("Reason    Iterable refused the credentials")
    assert done.screen.count("Iterable refused the credentials") == 1
    again = "Next Run again when the reason is gone:"
    assert f"{again} everything is sent once more, no event is added twice" in done.screen
    done = project.run("--only-changes")
    assert f"{again} what is missing is sent, no event is added twice" in done.screen
    [warning] = done.results["run"]["warnings"]
    assert warning.startswith("Iterable refused")


def test_what_is_wrong_with_the_env_file_is_told(project: Project) -> None:
    project.env_file.touch()
    command, env = project.command(DATABSE_URL="x", LOOKBACK_DAY="3", ELSEWHERE="1")
    project.env_file.chmod(0o644)
    process = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    text = " ".join(process.stdout.split())
    assert "sets DATABSE_URL, which is no setting: is DATABASE_URL meant?" in text
    assert "sets LOOKBACK_DAY, which is no setting: is LOOKBACK_DAYS meant?" in text
    assert f"can be read by others: chmod 600 {project.env_file}" in text
    assert "ELSEWHERE" not in text


def test_every_advice_is_one_line_that_ends() -> None:
    for advice in ADVICE.values():
        assert advice[0].isupper()
        assert advice.endswith(".")
        assert "\n" not in advice


def test_a_window_that_ends_in_the_future_is_told(project: Project) -> None:
    done = project.run("--as-of", "2999-01-01")
    assert "The window ends in the future, on 2999-01-01: is --as-of right?" in done.screen
    assert "in the future" not in project.run().screen

"""JWT-enabled keys, and credentials that Iterable refuses."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tests.fake_iterable import FakeIterable
from tests.project import JWT, KEY, SECRET, Finished, Json, MakeProject, Project, check_counts
from tests.runs.delivery import delivered, recorded

WRONG_SECRET = "another-jwt-secret-entirely-0123456789"


def check_tells_no_secret(done: Finished) -> None:
    """No key, secret or token in what the run printed and wrote."""
    text = done.out + done.err + done.log + done.results_text
    for secret in (KEY, "wrong-key", SECRET, WRONG_SECRET, "eyJ"):
        assert secret not in text


def test_a_jwt_enabled_key_delivers_all_rows_and_the_log_keeps_every_secret(
    make_project: MakeProject, jwt_server: FakeIterable
) -> None:
    done = make_project(jwt_server).run("--verbose", **JWT)
    assert (done.code, done.results["successful"]) == (0, 5)
    assert done.results["run"]["authentication"] == "jwt"
    assert len(jwt_server.users) == len(jwt_server.events) == 5
    tokens = {seen.headers["authorization"] for seen in jwt_server.requests}
    assert len(tokens) >= 5, "one for each user, at the least"
    assert done.err.count("HTTP 200") == done.log.count("HTTP 200") == 10, "every attempt"
    check_tells_no_secret(done)
    assert "@example.com" not in done.out + done.err + done.log


WRONG_KEY = {"ITERABLE_API_KEY": "wrong-key"}
WRONG_JWT = {**JWT, "ITERABLE_JWT_SECRET": WRONG_SECRET}


@pytest.mark.parametrize(
    ("jwt_secret", "fault", "settings", "code", "advice"),
    [
        (None, {}, WRONG_KEY, "BadApiKey", "ITERABLE_API_KEY.*ITERABLE_API_BASE_URL"),
        (SECRET, {}, WRONG_JWT, "InvalidJwtPayload", "ITERABLE_JWT_SECRET.*clock"),
        (SECRET, {}, {}, "BadAuthorizationHeader", "ITERABLE_API_KEY.*JWT-enabled.*USE_JWT_AUTH"),
        (SECRET, {}, {"SEND_MODE": "bulk"}, "Unauthorized", "ITERABLE_API_KEY.*server-side"),
        (None, {"status": 403}, {}, "Forbidden", "ITERABLE_API_KEY.*server-side"),
        (SECRET, {"kind": "echo_headers"}, JWT, "BadApiKey", "ITERABLE_API_KEY"),
    ],
)
def test_refused_credentials_end_the_run_at_once_with_advice(
    make_project: MakeProject,
    jwt_secret: str | None,
    fault: Json,
    settings: dict[str, str],
    code: str,
    advice: str,
) -> None:
    with FakeIterable(api_key=KEY, jwt_secret=jwt_secret) as server:
        if fault:
            server.add_fault(**{"kind": "status", **fault})
        project = make_project(server)
        project.add_customers(295)
        done = project.run(LOG_LEVEL="DEBUG", WORKERS="2", **settings)
        assert len(server.requests) <= 2
        assert not server.users
    results = done.results
    assert (done.code, results["run"]["status"]) == (4, "aborted")
    assert len(done.rows) == 301
    assert re.search(advice, done.screen)
    assert any(re.search(advice, warning) for warning in results["run"]["warnings"])
    tried = 300 if "SEND_MODE" in settings else len(server.requests)
    assert results["failure_reasons"][code] == tried
    assert results["total_failures"] == tried
    check_counts(results, 300)
    check_tells_no_secret(done)


def test_no_call_starts_after_credentials_are_refused_in_mid_run(
    project: Project, server: FakeIterable
) -> None:
    server.add_fault("status", status=401, after=50)
    project.add_customers(295)
    done = project.run(WORKERS="4")
    statuses = Counter(seen.status for seen in server.requests)
    assert statuses[200] == 50
    assert statuses[401] <= 4, "one for each worker, at the most"
    assert (done.code, done.results["run"]["status"]) == (4, "aborted")
    assert done.results["failure_reasons"]["BadApiKey"] == statuses[401]
    assert recorded(done.results) == delivered(server.requests)
    check_counts(done.results, 300)

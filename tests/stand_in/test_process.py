"""The stand-in for Iterable as a process."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.stand_in.asking import (
    ADA,
    BULK_UPDATE,
    OK,
    SECRET,
    UPDATE,
    token,
    told,
)


@contextlib.contextmanager
def running(
    *arguments: str, **environment: str
) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """The stand-in as a process, with its URL and its second line; ended at the end."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("ITERABLE")}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fake_iterable", *arguments],
        cwd=Path(__file__).parents[2],
        text=True,
        env={**ours, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        first, second = process.stdout.readline(), process.stdout.readline()
        assert first.startswith("Stand-in for Iterable listening on http://127.0.0.1:")
        try:
            yield process, first.split()[-1], second
        finally:
            process.kill()


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_as_a_process_it_says_where_it_listens_and_ends_quietly(
    session: requests.Session, ending: signal.Signals
) -> None:
    fault = '{"kind": "status", "status": 503, "times": 1}'
    with running("--fault", fault) as (process, url, hint):
        assert f"ITERABLE_API_BASE_URL={url} ITERABLE_API_KEY=test-api-key" in hint
        session.headers["Api-Key"] = "test-api-key"
        answers = [session.post(url + UPDATE, json=ADA, timeout=10) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [503, 200]
        assert session.get(url + "/_stand_in/counts", timeout=10).json()["users"] == 1
        process.send_signal(ending)
        assert (process.wait(10), process.stdout and process.stdout.read()) == (0, "")


def test_a_process_takes_credentials_from_the_environment_and_prints_none(
    session: requests.Session,
) -> None:
    credentials = {"ITERABLE_API_KEY": "my-own-key", "ITERABLE_JWT_SECRET": SECRET}
    with running("--no-limits", **credentials) as (_, url, hint):
        assert "my-own-key" not in hint
        assert SECRET not in hint
        assert "USE_JWT_AUTH=true" in hint
        headers = {"Api-Key": "my-own-key", "Authorization": f"Bearer {token()}"}
        accepted = session.post(url + UPDATE, json=ADA, headers=headers, timeout=10)
        assert told(accepted) == OK
        headers["Authorization"] = ""
        refused = session.post(url + UPDATE, json=ADA, headers=headers, timeout=10)
        assert told(refused) == (401, "BadAuthorizationHeader")


def test_a_process_can_end_with_its_parent() -> None:
    with running("--exit-with-parent") as (process, _, _):
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 0


@pytest.mark.parametrize(
    ("waves", "status"), [((), 429), (("--wave", "1000000"), 200)], ids=["steady", "waves"]
)
def test_a_process_can_have_other_senders(
    session: requests.Session, waves: tuple[str, ...], status: int
) -> None:
    # others take the whole bucket within a millisecond, or not before half a wave is over
    with running("--others", "2000", *waves) as (_, url, _):
        session.headers["Api-Key"] = "test-api-key"
        answer = session.post(url + BULK_UPDATE, json={"users": []}, timeout=10)
        assert answer.status_code == status

"""Settings typed or pasted by hand: control characters, huge numbers, URLs with passwords."""

from __future__ import annotations

import re

import pytest

from tests.fake_iterable import FakeIterable
from tests.project import Project
from tests.runs.endings import check_ended_early, named_settings

HOSTS = [
    "api.iterable.com:99999",
    "api.iterable.com:port",
    "api iterable.com",
    ".",
    "*.com",
    "a\x7f.com",
    "%31.com",
    "api.iterable.com\\@evil.example",
    f"{'a' * 64}.com",
    "me:hush@api.iterable.com",
    "api.iterable.com/../api",
    "api.iterable.com#a",
    "api.iterable.com?",
    "api.iterable.com\n",
    "[::1",
]


KEYS = [
    "hush\n",
    "hu\x1bsh",
    "hu\x7fsh",
    "hüsh",
    "hu\u200bsh",
    "hu sh",
    "“hush”",
    "hu\tsh",
    "hush\r\n",
    "\udcffhush",
]


NUMBERS = ["-1", "1e400", "nan", "9" * 5000, "0x10", "7 days", "1,5", "--", "0", "\x1b[2J"]


HOSTILE = {  # the nth test sets each of these to its nth text
    "DATABASE_URL": [
        "://hush",
        "a\nb://me:hush@h/x",
        "postgresql://me:hu@sh@127.0.0.1/x",
        "postgres//me:hush@h/x",
        "mysql://me:hu/sh@127.0.0.1/x",
        "mysql://me:hu#sh@127.0.0.1/x",
        "\x1b[31m://me:hush@h/x",
    ],
    "DATABASE_TIMEZONE": [
        "Mars/Phobos",
        "UTC+1",
        "../UTC",
        "/etc/localtime",
        "x" * 300,
        "Europe/Berlin\n",
        "\udcff",
    ],
    "LOOKBACK_DAYS": NUMBERS,
    "ITERABLE_API_KEY": KEYS,
    "USE_JWT_AUTH": ["tru", "-1", "9" * 5000],
    "ITERABLE_JWT_SECRET": KEYS,
    "ITERABLE_API_BASE_URL": ["http://10.0.0.1", *(f"https://{host}" for host in HOSTS)],
    "SEND_MODE": ["bulk\n", "\udcff"],
    "WORKERS": NUMBERS,
    "RATE_LIMIT_FACTOR": NUMBERS,
    "MAX_RETRIES": NUMBERS,
    "BACKOFF_FACTOR": NUMBERS,
    "INITIAL_BACKOFF": [*NUMBERS[:8], "61"],
    "REQUEST_TIMEOUT": NUMBERS,
}
TURNS = max(len(texts) for texts in HOSTILE.values())


@pytest.mark.parametrize("turn", range(TURNS))
def test_what_is_wrong_with_settings_is_said_in_a_sentence_each(
    project: Project, server: FakeIterable, monkeypatch: pytest.MonkeyPatch, turn: int
) -> None:
    wrong = {name: texts[turn] for name, texts in HOSTILE.items() if turn < len(texts)}
    for name, text in wrong.items():
        monkeypatch.setenv(name, text)
    done = project.run(LOG_LEVEL="LOUD")  # so that no run begins where a value is accepted
    lines = check_ended_early(project, server, done, 2)
    assert named_settings(lines) == [*wrong, "LOG_LEVEL"]
    assert not re.search("hu.?sh", done.err), "neither keys nor passwords"

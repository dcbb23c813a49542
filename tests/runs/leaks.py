"""Secrets, and that nothing of them is left behind."""

from __future__ import annotations

import base64
import json
import re
from urllib.parse import quote

from tests.project import KEY, SECRET, Finished, Project

PASSWORD = "PASS-p/w#1-WORD"
SINGLE = {"SEND_MODE": "single"}
BULK = {"SEND_MODE": "bulk"}


def forms(secret: str) -> set[str]:
    """What a secret may look like: as it is, in a URL, in JSON, in HTTP's basic authentication."""
    return {
        secret,
        quote(secret, safe=""),
        json.dumps(secret)[1:-1],
        base64.b64encode(secret.encode()).decode(),
    }


def pattern_of(texts: set[str]) -> re.Pattern[bytes]:
    """What finds any of these in a file."""
    return re.compile("|".join(map(re.escape, texts)).encode(), re.IGNORECASE)


# The last is how every token begins
TRACES = pattern_of({*forms(KEY), *forms(SECRET), *forms(PASSWORD), "eyJ"})


def check_nothing_leaked(project: Project, done: Finished) -> None:
    """No secret in what was printed or written, and addresses in the CSV and the results alone."""
    found = {"output": (done.out + done.err).encode()}
    for path in project.directory.rglob("*"):
        if path.is_file() and path not in (project.env_file, project.database):
            found[path.name] = path.read_bytes()
    for name, data in found.items():
        assert TRACES.findall(data) == [], name
        has_addresses = b"@example.com" in data.lower()
        assert has_addresses == name.endswith((".csv", ".json")), name

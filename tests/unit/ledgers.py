"""What the tests of the ledger do with one."""

from __future__ import annotations

from typing import Any

from db import Ledger


def deliver(ledger: Ledger, calls: dict[str, Any], accepted: bool = True) -> list[bool]:
    """Begins and ends the calls, by name; tells which of them were delivered before."""
    marks = [ledger.mark(name, payload) for name, payload in calls.items()]
    to_send = ledger.begin(marks)
    ledger.end([((key, parts), accepted) for key, parts in to_send if parts])
    return [not parts for _, parts in to_send]

"""The default query on the sample data: its rows, and the calls that they mean."""

from __future__ import annotations

from datetime import datetime, timezone

from tests.project import Json
from tests.wire import event_id

LINES = [
    "id|email|first_name|last_name|plan_type|candidate|"
    "page|device|browser|location|event_time",
    "1|amara.okafor@example.com|Amara|Okafor|pro|candidate-7|"
    "pricing|desktop|Chrome|Lagos, NG|2026-01-13 08:45:12",
    "2|sofia.nunez@example.com|Sofía|Núñez|pro|candidate-3|"
    "pricing|mobile|Safari|Madrid, ES|2026-01-11 17:30:00",
    "3|wei.zhang@example.com|Wei|Zhang|pro||"
    "settings|desktop|Edge|Singapore, SG|2026-01-06 12:00:00",
    "4|liam.obrien@example.com|Liam|O'Brien|pro|candidate-12|"
    "settings|desktop|Firefox|Dublin, IE|2026-01-13 12:00:00",
    "5|lukasz.wisniewski@example.com|Łukasz|Wiśniewski|pro|candidate-5|"
    "settings|desktop|Firefox||2026-01-12 07:03:44",
]  # fmt: skip
COLUMNS, *CELLS = [line.split("|") for line in LINES]
EMAILS = [cells[1] for cells in CELLS]
REPORTS = {
    "engagement_by_page": [
        {"page": "pricing", "views": 5, "users": 3},
        {"page": "settings", "views": 5, "users": 5},
    ]
}


def calls_meant(cells: list[str]) -> tuple[Json, Json]:
    """The user update and the event that a row means."""
    row: Json = {name: cell or None for name, cell in zip(COLUMNS, cells, strict=True)}
    moment = datetime.fromisoformat(row["event_time"]).replace(tzinfo=timezone.utc)
    user_fields = ("first_name", "last_name", "plan_type", "candidate")
    update = {
        "email": row["email"],
        "dataFields": {name: row[name] for name in user_fields},
    }
    event_fields = ("page", "device", "browser", "location", "candidate")
    time_text = f"{row['event_time']} +00:00"
    event = {
        "email": row["email"],
        "eventName": "page_view",
        "dataFields": {name: row[name] for name in event_fields},
        "createdAt": int(moment.timestamp()),
        "id": event_id(row["email"], "page_view", int(row["id"]), time_text, row["page"]),
    }
    return update, event

"""Dirty data and settings typed by hand: nothing of it breaks a run, or changes another row."""

from __future__ import annotations

import json
import math
import pickle
import random
import re
import sqlite3
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.fake_iterable import FakeIterable
from tests.project import AS_OF, ROOT, Finished, Project, new_project, outputs

Json = dict[str, Any]
BOTH = pytest.mark.parametrize("mode", ["single", "bulk"])
RISKY, IS_NUMBER = (
    tuple("=+-@\t\r"),
    re.compile(r"-(\d+(\.\d+)?(e[+-]?\d+)?|inf|Infinity)", re.IGNORECASE),
)


@pytest.fixture
def server() -> Iterator[FakeIterable]:
    """The stand-in, without limits."""
    with FakeIterable(enforce_limits=False) as server:
        yield server


@pytest.fixture
def project(tmp_path: Path, server: FakeIterable) -> Project:
    """A project that sends at full speed."""
    project = new_project(tmp_path, server)
    project.settings["RATE_LIMIT_FACTOR"] = "1000"
    return project


def items(server: FakeIterable, kind: str) -> list[Json]:
    """The users or events of all requests, in the order of arrival."""
    bodies = [seen.body for seen in server.requests if f"/api/{kind}/" in seen.path]
    return [item for body in bodies for item in body.get(kind, [body])]


def codes(done: Finished, call: str) -> list[str]:
    """Of each record the code of the answer to a call, in the order of the rows."""
    records = done.results["records"]
    assert [record["row"] for record in records] == list(range(1, len(records) + 1))
    assert all(
        record[call]["success"] == (record[call]["response"]["code"] == "Success")
        for record in records
    )
    return [record[call]["response"]["code"] for record in records]


def canonical(payloads: Sequence[Json]) -> list[str]:
    """What tells payloads apart, in any order; unlike ==, it knows 1 from 1.0 and true."""
    return sorted(json.dumps(payload, sort_keys=True) for payload in payloads)


def cells_of(done: Finished) -> list[list[str]]:
    """The lines of the CSV, without the apostrophes that defuse a cell."""
    assert not [
        cell
        for line in done.rows
        for cell in line
        if cell.startswith(RISKY) and not IS_NUMBER.fullmatch(cell)
    ]
    return [
        [cell[1:] if cell[:1] == "'" and cell[1:].startswith(RISKY) else cell for cell in line]
        for line in done.rows
    ]


def event_id(*parts: Any) -> str:
    """The id of an event, apart from the code."""
    namespace = uuid.UUID("6f1d3c52-8a0e-5b7c-9d44-2f6a1e0b9c73")
    return str(uuid.uuid5(namespace, json.dumps(parts, separators=(",", ":"), sort_keys=True)))


# --- Generated rows: each cell is made together with what it means

BERLIN = ZoneInfo("Europe/Berlin")
REFUSED = object()  # what is sent of a cell that cannot be


@dataclass(frozen=True)
class Cell:
    """A cell as the database has it, what Iterable gets, and what the CSV says once undefused."""

    stored: Any
    sent: Any
    plain: str


def plain(value: Any) -> str:
    """What the CSV says; NUL, which Python 3.10 cannot read there, and broken bytes as escapes."""
    text = "" if value is None else "\\x" + value.hex() if isinstance(value, bytes) else str(value)
    return re.sub("[\0\udc80-\udcff]", lambda char: ascii(char[0])[1:-1], text)


def same(value: Any, sent: Any = None) -> Cell:
    """A cell that is sent as it is, unless told."""
    return Cell(value, value if sent is None else sent, plain(value))


TEXTS = [
    "=cmd|' /C calc'!A0",
    "+1",
    "-",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "=",
    "a=b",
    "'quoted'",
    'say "so", now',
    "a,b;c",
    "\\",
    "a\nb",
    "a\r\nb\r",
    "\n",
    " a ",
    "",
    "NUL \0 NUL",
    "\x1b[2J\x07",
    "\x85\u2028\u2029",
    "\ufeffbom",
    "x" * 40_000,
    "🏳️‍🌈 é e\u0301",
    "שלום \u202eאבג\u202c",
    "é" * 40_000,
    "NaN",
    "null",
    "2026-01-13",
    "{{name}} %s {0}",
    "'; DROP--",
    "</script>",
    "\U0010ffff\ue000\ufffe",
]
BROKEN = [
    data.decode("utf-8", "surrogateescape")
    for data in (
        b"caf\xe9",
        b"=\xff",
        b"half an emoji \xf0\x9f",
        b"a lone surrogate \xed\xa0\x80",
        b"\x80",
    )
]
INTEGERS = [0, 1, -1, 2**63 - 1, -(2**63), 2**53 + 1]
FLOATS = [0.5, -1e-7, 1e22, 5e-324, 1.7976931348623157e308, 0.1 + 0.2, 3.0]


def pick(
    draw: random.Random,
    good: Sequence[Any],
    bad: Sequence[Any] = (),
    sent: Callable[[Any], Any] | None = None,
) -> Cell:
    """A cell of one of the good values, sent as `sent` tells, or at times of a bad one, unsent."""
    if bad and draw.random() < 0.07:
        return same(draw.choice(bad), REFUSED)
    value = draw.choice(good)
    return same(value, sent and sent(value))


def text(draw: random.Random) -> Cell:
    letters = [
        chr(
            draw.choice(
                [draw.randrange(128), draw.randrange(0xD800), draw.randrange(0xE000, 0x110000)]
            )
        )
        for _ in range(draw.randrange(12))
    ]
    value = "".join(letters).lstrip("'")  # of '=1 nobody could tell whether its apostrophe is ours
    return pick(draw, [*TEXTS, value, value], BROKEN)


def moment(draw: random.Random) -> Cell:
    first, last = (
        datetime(1, 1, 2, tzinfo=timezone.utc),
        datetime(9999, 12, 30, tzinfo=timezone.utc),
    )
    utc = draw.choice([first, last, first + (last - first) * draw.random()])
    values = [
        utc.astimezone(zone)
        for zone in (timezone.utc, BERLIN, timezone(timedelta(hours=-9, minutes=-30)))
    ]
    values.append(values[1].replace(tzinfo=None))  # the database's times are Berlin's
    early = [datetime(1, 1, 1), datetime(1, 1, 1, tzinfo=BERLIN)]
    return pick(
        draw,
        values,
        early,
        lambda _: f"{utc.replace(microsecond=0, tzinfo=None).isoformat(' ')} +00:00",
    )


def document(draw: random.Random) -> Cell:
    odd = draw.choice([7, 7, 7, 7, 7, math.nan, 2**63, "\ud800"])
    value = {"=k": draw.choice(TEXTS), "list": [draw.choice(FLOATS), None, {"é": []}], "odd": [odd]}
    shown = json.dumps(value, ensure_ascii=False).replace("\ud800", "\\ud800")
    return Cell(value, value if odd == 7 else REFUSED, shown)


Kinds = dict[str, Callable[[random.Random], Cell]]
SQLITE: Kinds = {
    "text": text,
    "nan": lambda draw: Cell(math.nan, None, ""),  # SQLite keeps it as NULL
    "whole": lambda draw: pick(
        draw, [*INTEGERS, draw.randrange(-(2**63), 2**63), draw.randrange(100)]
    ),
    "real": lambda draw: pick(draw, [*FLOATS, draw.uniform(-1e9, 1e9)], [math.inf, -math.inf]),
    "data": lambda draw: pick(draw, [None], [b"", b"\x00=\xff"]),
}
OTHERS: Kinds = {
    **SQLITE,
    "moment": moment,
    "document": document,
    "flag": lambda draw: pick(draw, [True, False]),
    "nan": lambda draw: pick(draw, FLOATS, [math.nan]),
    "whole": lambda draw: pick(
        draw, [*INTEGERS, draw.randrange(2**63)], [2**63, -(2**63) - 1, 10**400]
    ),
    "decimal": lambda draw: pick(
        draw,
        [Decimal(draw.randrange(-(10**9), 10**9)).scaleb(n) for n in (0, -2, 3)],
        [*map(Decimal, ("NaN", "sNaN", "-Infinity", "1E+400"))],
        lambda x: float(str(x)),
    ),
    "day": lambda draw: pick(
        draw,
        [date.min, date.max, date.fromordinal(draw.randrange(1, 3_652_059))],
        [],
        lambda day: f"{day.year:04}-{day.month:02}-{day.day:02}",
    ),
    "identity": lambda draw: pick(draw, [uuid.UUID(int=draw.getrandbits(128))], [], str),
}


def email(draw: random.Random, number: int) -> tuple[Any, str | None, str]:
    """An email as stored, as sent, and the answer's code: mostly good, sometimes another row's."""
    name = f"user{draw.randrange(9) if draw.random() < 0.2 else number + 100}"
    stored, sent, code = draw.choice(
        [
            *[(f"{name}@example.com", f"{name}@example.com", "Success")] * 12,
            (f" {name.upper()}@Example.COM\n", f"{name}@example.com", "Success"),
            (f"\u00a0É{name}@bücher.example", f"é{name}@bücher.example", "Success"),
            (f"={name}@example.com", f"={name}@example.com", "Success"),
            (f"{name} x@example.com", f"{name} x@example.com", "InvalidEmailAddressError"),
            ("No-Body", "no-body", "InvalidEmailAddressError"),
            (f"{'x' * 288}@a.io", f"{'x' * 288}@a.io", "InvalidEmailAddressError"),
            (None, None, "NoIdentifier"),
            (draw.choice(["", " ", "\t\n\u3000"]), None, "NoIdentifier"),
            (number, None, "InvalidValue"),
            (b"\x00\xff", None, "InvalidValue"),
            (BROKEN[1], None, "InvalidValue"),
        ]
    )
    return stored, sent, code


@dataclass
class Generated:
    """Rows, and what was meant by them."""

    columns: list[str]
    rows: list[list[Any]]
    plain: list[list[str]]
    users: list[str | None]
    updates: list[Json | None]
    events: list[Json | None]
    update_codes: list[str]
    event_codes: list[str]


def generate(seed: int, count: int, kinds: Kinds) -> Generated:
    """Rows of a number, an email, a time and a cell of each kind."""
    draw = random.Random(seed)
    made = Generated(["n", "email", "at", *kinds], [], [], [], [], [], [], [])
    for number in range(count):
        stored, user, code = email(draw, number)
        cells = {
            name: same(None) if draw.random() < 0.05 else kind(draw) for name, kind in kinds.items()
        }
        seconds = draw.randrange(-(10**9), 2 * 10**9)
        at = f"{datetime(1970, 1, 1) + timedelta(seconds=seconds)}Z"
        if is_no_time := draw.random() < 0.05:
            at = draw.choice(["yesterday", "2026-02-30 10:00", "", "2026-01-13", "1768293912"])
        made.rows.append([number, stored, at, *(cell.stored for cell in cells.values())])
        made.users.append(user if user or stored is None else plain(str(stored)))
        made.plain.append(
            [str(number), plain(stored), at, *(cell.plain for cell in cells.values())]
        )
        fields = {name: cell.sent for name, cell in cells.items()}
        is_meant = user is not None and REFUSED not in fields.values()
        made.updates.append({"email": user, "dataFields": fields} if is_meant else None)
        made.update_codes.append(code if is_meant or user is None else "InvalidValue")
        id_ = event_id(user, "seen", number)
        made.events.append(
            {
                "email": user,
                "eventName": "seen",
                "dataFields": {"n": number, "at": at},
                "id": id_,
                "createdAt": seconds,
            }
            if user is not None and not is_no_time
            else None
        )
        made.event_codes.append(code if made.events[-1] or user is None else "InvalidValue")
    return made


MAPPING = """-- name: q\n-- email: email\n-- user fields: {}\n-- event: seen\n-- event fields: n, at
-- event time: at\n-- event id: n\n{}"""
OTHER_DATABASE = """
import pickle, sys
sys.path.insert(0, {root!r})
import db, main

class Database:  # one whose driver returns what SQLite's cannot
    def __enter__(self): return self
    def __exit__(self, *error): pass
    def rows(self, query, since, until):
        with open("rows.pickle", "rb") as file:
            return tuple(make(part) for make, part in zip((tuple, iter), pickle.load(file)))

db.connect = lambda url, zone: Database()
sys.exit(main.main())
"""


def store(project: Project, made: Generated, source: str) -> None:
    """Puts the rows where the query of MAPPING finds them."""
    project.queries(MAPPING.format(", ".join(made.columns[3:]), "SELECT * FROM rows ORDER BY n"))
    if source == "sqlite":
        with sqlite3.connect(project.database) as connection:
            connection.execute(f"CREATE TABLE rows ({', '.join(made.columns)})")
            for row in made.rows:  # broken text can only come as bytes
                places = ", ".join(
                    "CAST(? AS TEXT)" if isinstance(cell, str) else "?" for cell in row
                )
                cells = [
                    cell.encode("utf-8", "surrogateescape") if isinstance(cell, str) else cell
                    for cell in row
                ]
                connection.execute(f"INSERT INTO rows VALUES ({places})", cells)  # noqa: S608
        connection.close()
    else:
        (project.directory / "rows.pickle").write_bytes(pickle.dumps((made.columns, made.rows)))
        project.program = project.directory / "main.py"
        project.program.write_text(OTHER_DATABASE.format(root=str(ROOT)))


@BOTH
@pytest.mark.parametrize(("source", "seed"), [("sqlite", 1), ("other", 2)])
def test_of_generated_rows_each_is_in_the_csv_and_the_results_once_and_arrives_as_meant(
    project: Project, server: FakeIterable, mode: str, source: str, seed: int
) -> None:
    made = generate(
        seed, 250 if mode == "single" else 1200, SQLITE if source == "sqlite" else OTHERS
    )
    store(project, made, source)
    done = project.run(QUERY="q", SEND_MODE=mode, DATABASE_TIMEZONE="Europe/Berlin", WORKERS="8")
    assert (codes(done, "users_update"), codes(done, "events_track")) == (
        made.update_codes,
        made.event_codes,
    )
    assert [record["email"] for record in done.results["records"]] == made.users
    updates, events = ([item for item in meant if item] for meant in (made.updates, made.events))
    assert canonical(items(server, "users")) == canonical(updates)
    assert canonical(items(server, "events")) == canonical(events)
    in_order: tuple[dict[str, list[Json]], ...] = (defaultdict(list), defaultdict(list))
    for order, sent in zip(in_order, (items(server, "users"), updates), strict=True):
        for item in sent:
            order[item["email"]].append(item)
    assert in_order[0] == in_order[1], "a user's updates keep the order of their rows"

    outcomes = Counter(
        (update == "Success") + (event == "Success")
        for update, event in zip(made.update_codes, made.event_codes, strict=True)
    )
    counts = [done.results[name] for name in ("total_failures", "partial_failures", "successful")]
    assert (counts, done.results["total_users"]) == (
        [outcomes[n] for n in range(3)],
        len(made.rows),
    )

    assert cells_of(done) == [made.columns, *made.plain]


@BOTH
def test_a_dry_run_shows_for_generated_rows_what_a_run_would_send(
    project: Project, server: FakeIterable, mode: str
) -> None:
    made = generate(3, 200, OTHERS)
    store(project, made, "other")
    done = project.run("--dry-run", QUERY="q", SEND_MODE=mode, DATABASE_TIMEZONE="Europe/Berlin")
    assert not server.requests
    for call, meant in (("users_update", made.updates), ("events_track", made.events)):
        shown = [record[call].get("request") for record in done.results["records"]]
        assert [payload and canonical([payload]) for payload in shown] == [
            item and canonical([item]) for item in meant
        ]
    assert len(cells_of(done)) == 1 + len(made.rows)


def test_a_value_that_cannot_be_kept_ends_the_run_before_anything_is_sent(
    project: Project, server: FakeIterable
) -> None:
    store(project, generate(4, 1, OTHERS), "other")
    rows = "(['n', 'email', 'at', 'odd'], [(1, 'a@example.com', None, lambda: 0)])"
    project.program.write_text(project.program.read_text().replace("pickle.load(file)", rows))
    project.queries(MAPPING.format("odd", "SELECT"))
    done = project.run(QUERY="q")
    assert (done.code, done.out, outputs(project.output), server.requests) == (3, "", [], [])
    assert "Query 'q' has a value that cannot be kept" in done.err
    assert len(done.err.splitlines()) == 1


# --- Single oddities


def rows_of(project: Project, mapping: str, rows: Sequence[Sequence[Any]], columns: str) -> None:
    """Makes a table of rows, and a query of all of them."""
    project.queries(f"-- name: q\n{mapping}SELECT * FROM odd ORDER BY rowid")  # noqa: S608
    places = ", ".join("?" * len(rows[0]))
    with sqlite3.connect(project.database) as connection:
        connection.execute(f"CREATE TABLE odd ({columns})")
        connection.executemany(f"INSERT INTO odd VALUES ({places})", rows)  # noqa: S608
    connection.close()


@BOTH
def test_a_user_id_is_text_and_what_is_none_is_that_rows_failure(
    project: Project, server: FakeIterable, mode: str
) -> None:
    sent = [
        (7, "7"),
        (-(2**63), str(-(2**63))),
        ("007", "007"),
        ("A b", "A b"),
        ("a b", "a b"),
        ("=1", "=1"),
    ]
    refused = [
        ("x" * 53, "InvalidUserIdError"),
        ("é", "InvalidUserIdError"),
        (None, "NoIdentifier"),
        ("", "NoIdentifier"),
        (" \t", "NoIdentifier"),
        (7.0, "InvalidValue"),
        (b"7", "InvalidValue"),
    ]
    rows = [(id_,) for id_, _ in [*sent, *refused]]
    rows_of(
        project,
        "-- userId: id\n-- user fields: n\n-- event: seen\n-- event id: n\n",
        [(*row, n) for n, row in enumerate(rows)],
        "id, n",
    )
    done = project.run(QUERY="q", SEND_MODE=mode)
    assert (
        codes(done, "users_update")
        == codes(done, "events_track")
        == [*["Success"] * len(sent), *(code for _, code in refused)]
    )
    expected = [
        {"userId": text, "dataFields": {"n": n}, "preferUserId": True}
        for n, (_, text) in enumerate(sent)
    ]
    assert canonical(
        [item for item in items(server, "users") if item["userId"] in server.users]
    ) == canonical(expected)


@BOTH
def test_a_time_from_year_1_to_9999_is_sent_and_what_is_none_is_that_rows_failure(
    project: Project, server: FakeIterable, mode: str
) -> None:
    times: list[tuple[Any, int | str]] = [
        ("0001-01-01 00:00", -62135596800),
        ("0001-01-01 00:00+14:00", "InvalidValue"),
        (-62135596800, -62135596800),
        ("1969-12-31T23:59:59.9Z", -1),
        (1768293912.75, 1768293912),
        ("2026-06-30 23:59:60", "InvalidValue"),
        ("9999-12-31 23:59:59", "BadParams"),
        ("10000-01-01 00:00:00", "InvalidValue"),
        (1e308, "InvalidValue"),
        (math.inf, "InvalidValue"),
        (2**63 - 1, "InvalidValue"),
        ("٢٠٢٦-01-13 08:45", "InvalidValue"),
        (None, "InvalidValue"),
        ("", "InvalidValue"),
        (b"2026-01-13 08:45", "InvalidValue"),
        ("=NOW()", "InvalidValue"),
    ]
    rows_of(
        project,
        "-- email: email\n-- event: seen\n-- event time: at\n-- event id: email\n",
        [(f"user{n}@example.com", at) for n, (at, _) in enumerate(times)],
        "email, at",
    )
    done = project.run(QUERY="q", SEND_MODE=mode)
    assert codes(done, "events_track") == [
        "Success" if isinstance(sent, int) else sent for _, sent in times
    ]
    assert {item["email"]: item["createdAt"] for item in server.events.values()} == {
        f"user{n}@example.com": sent for n, (_, sent) in enumerate(times) if isinstance(sent, int)
    }


@BOTH
def test_300_columns_and_names_like_those_of_the_api_or_a_formula_arrive_under_their_names(
    project: Project, server: FakeIterable, mode: str
) -> None:
    names = [
        "dataFields",
        "eventName",
        "id",
        "createdAt",
        "preferUserId",
        "users",
        "=1+1",
        "@a",
        "a b",
        "Ünï🎉",
        "it's",
        "__proto__",
        "key: value",
        *(f"column_{n}" for n in range(287)),
    ]
    rows_of(
        project,
        f"-- email: email\n-- user fields: {', '.join(names)}\n-- event: seen\n-- event id: id\n"
        f"-- event fields: email, {', '.join(names)}\n",
        [("a@example.com", *range(300))],
        ", ".join(f'"{name}"' for name in ("email", *names)),
    )
    done = project.run(QUERY="q", SEND_MODE=mode)
    fields = {name: n for n, name in enumerate(names)}
    assert items(server, "users") == [{"email": "a@example.com", "dataFields": fields}]
    [event] = items(server, "events")
    assert event == {
        "email": "a@example.com",
        "eventName": "seen",
        "id": event_id("a@example.com", "seen", 2),
        "dataFields": {"email": "a@example.com", **fields},
    }
    assert (cells_of(done)[0], "'=1+1" in done.rows[0]) == (["email", *names], True)


@pytest.mark.parametrize(("mode", "count"), [("single", 400), ("bulk", 3000)])
def test_thousands_of_rows_of_one_user_arrive_in_their_order(
    project: Project, server: FakeIterable, mode: str, count: int
) -> None:
    rows = [(n, f"{'sS'[n % 2]}ame@example.com", None if n % 3 else n) for n in range(count)]
    rows_of(
        project,
        "-- email: email\n-- user fields: n, sometimes\n-- event: seen\n-- event id: n\n",
        rows,
        "n, email, sometimes",
    )
    done = project.run(QUERY="q", SEND_MODE=mode)
    assert (done.code, done.results["successful"], len(server.events)) == (0, count, count)
    assert items(server, "users") == [
        {"email": "same@example.com", "dataFields": {"n": n, "sometimes": sometimes}}
        for n, _, sometimes in rows
    ]


@BOTH
def test_a_row_too_large_for_iterable_fails_alone(
    project: Project, server: FakeIterable, mode: str
) -> None:
    rows_of(
        project,
        "-- email: email\n-- user fields: text\n-- event: seen\n-- event id: email\n",
        [(f"{n}@example.com", "x" * (5_000_000 if n == 1 else 40_000)) for n in range(3)],
        "email, text",
    )
    done = project.run(QUERY="q", SEND_MODE=mode)
    reason = (
        "InvalidValue" if mode == "bulk" else "BatchTooLarge"
    )  # the single operation's limit is Iterable's affair
    assert codes(done, "users_update") == ["Success", reason, "Success"]
    assert (codes(done, "events_track"), sorted(server.users)) == (
        ["Success"] * 3,
        ["0@example.com", "2@example.com"],
    )


def test_a_report_cannot_control_the_terminal(project: Project) -> None:
    project.queries(
        MAPPING.format("n", "SELECT 1 AS n, 'a@example.com' AS email, 0 AS at;\n")
        + "-- name: odd\nSELECT char(27) || '[2J', "
        "'two' || char(13, 10, 155) || 'lines' AS \"\x1b[31m\""
    )
    done = project.run(QUERY="q")
    assert (done.code, done.results["reports"]["odd"][0]["\x1b[31m"]) == (0, "two\r\n\x9blines")
    assert "".join(done.out.split("\n")).isprintable(), "no escape sequences"


# --- Settings


def check_refused(project: Project, server: FakeIterable, done: Finished, *texts: str) -> list[str]:
    """The run ended as a mistake of settings, before anything happened, in printable sentences."""
    assert (done.code, done.out, server.requests, outputs(project.output)) == (2, "", [], []), (
        done.err
    )
    lines = [line for line in done.err.splitlines() if not line.startswith(("usage: ", "       "))]
    assert all(line.isprintable() and len(line) < 400 for line in lines), done.err
    assert lines[0].startswith("main.py: ")
    assert [text for text in texts if text not in lines[0]] == [], done.err
    return lines


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
WRONG = {
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


@pytest.mark.parametrize("turn", range(max(map(len, WRONG.values()))))
def test_what_is_wrong_with_settings_is_said_in_a_sentence_each(
    project: Project, server: FakeIterable, monkeypatch: pytest.MonkeyPatch, turn: int
) -> None:
    wrong = {name: texts[turn] for name, texts in WRONG.items() if turn < len(texts)}
    for name, text in wrong.items():
        monkeypatch.setenv(name, text)
    done = project.run(LOG_LEVEL="LOUD")  # so that no run begins where a value is accepted
    lines = check_refused(project, server, done)
    assert [line.split()[0] for line in lines if line.startswith(" ")] == [*wrong, "LOG_LEVEL"]
    assert not re.search("hu.?sh", done.err), "neither keys nor passwords"


@pytest.mark.parametrize(
    ("flags", "texts"),
    [
        (["--as-of", "9999-12-31T23:59:59Z"], ["--as-of"]),
        (["--as-of", "0001-01-01"], ["--as-of"]),
        (["--as-of", "2026-02-30"], ["--as-of", "'2026-02-30"]),
        (["--as-of", "13.01.2026"], ["--as-of", "'13.01.2026"]),
        (["--as-of", "2026-01-13T24:30"], ["--as-of"]),
        (["--as-of", "\udcff\x1b[2J"], ["--as-of"]),
        (["--limit", "9" * 20], ["--limit"]),
        (["--limit", "-1"], ["--limit"]),
        (["--query", "\x1b[2J\n"], ["2J"]),
        (["--env-file", "app.db/x"], ["app.db/x"]),
        (["--env-file", "app.db"], ["app.db"]),
        (["--env-file", "odd.env"], ["odd.env", "2"]),
    ],
)
def test_a_wrong_flag_is_told_in_a_sentence(
    project: Project, server: FakeIterable, flags: list[str], texts: list[str]
) -> None:
    (project.directory / "odd.env").write_text(
        'QUERY=x\nLOOKBACK_DAYS="30\n'
    )  # line 2 has a quote too few
    as_of = [] if "--as-of" in flags else ["--as-of", AS_OF]
    done = project.finish(project.start(*as_of, *flags, DATABASE_TIMEZONE="Asia/Tokyo"))
    assert len(check_refused(project, server, done, *texts)) == 1


def test_a_path_with_nul_is_a_mistake_of_settings(project: Project, server: FakeIterable) -> None:
    names = ["DATABASE_URL", "QUERIES_FILE", "OUTPUT_DIR", "LOG_FILE"]
    lines = check_refused(project, server, project.run(**dict.fromkeys(names, "sqlite:///a\0b")))
    assert [line.split()[0] for line in lines if line.startswith(" ")] == names


def test_an_empty_flag_leaves_the_setting_as_it_is(project: Project) -> None:
    done = project.run(
        "--dry-run", "--output-dir", "", "--query", "", "--days", "", QUERY="pro_users_page_views"
    )
    assert (done.code, done.results["run"]["query"], len(outputs(project.output))) == (
        0,
        "pro_users_page_views",
        2,
    )


@pytest.mark.parametrize(
    "content", ["a directory", b"", b"\0" * 1000, bytes(range(256)), b"-- name: q\xff", "10 MB"]
)
def test_a_queries_file_that_is_none_is_told_in_a_sentence(
    project: Project, server: FakeIterable, content: bytes | str
) -> None:
    path = project.directory / "odd.sql"
    if (
        content == "10 MB"
    ):  # it is correct, but nobody wrote it, and with other comments it would be read for minutes
        path.write_bytes((ROOT / "queries.sql").read_bytes() + b"\n-- " + b"x" * 10_000_000)
    elif isinstance(content, str):
        path.mkdir()
    else:
        path.write_bytes(content)
    assert len(check_refused(project, server, project.run(QUERIES_FILE=str(path)), str(path))) == 1

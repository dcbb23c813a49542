"""Generated rows: each cell is made together with what it means."""

from __future__ import annotations

import json
import math
import random
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from tests.project import Json
from tests.wire import event_id

UTC = timezone.utc
BERLIN = ZoneInfo("Europe/Berlin")
ODD_ZONE = timezone(timedelta(hours=-9, minutes=-30))
REFUSED = object()  # what is sent of a cell that cannot be

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
BROKEN_BYTES = [
    b"caf\xe9",
    b"=\xff",
    b"half an emoji \xf0\x9f",
    b"a lone surrogate \xed\xa0\x80",
    b"\x80",
]
BROKEN = [data.decode("utf-8", "surrogateescape") for data in BROKEN_BYTES]
INTEGERS = [0, 1, -1, 2**63 - 1, -(2**63), 2**53 + 1]
FLOATS = [0.5, -1e-7, 1e22, 5e-324, 1.7976931348623157e308, 0.1 + 0.2, 3.0]
NO_DECIMALS = [Decimal("NaN"), Decimal("sNaN"), Decimal("-Infinity"), Decimal("1E+400")]
NO_TIMES = ["yesterday", "2026-02-30 10:00", "", "2026-01-13", "1768293912"]


@dataclass(frozen=True)
class Cell:
    """A cell as the database has it, what Iterable gets, and what the CSV says once undefused."""

    stored: Any
    sent: Any
    plain: str


def escaped(match: re.Match[str]) -> str:
    """A character as Python writes it in ASCII."""
    return ascii(match[0])[1:-1]


def plain(value: Any) -> str:
    """What the CSV says; NUL, which Python 3.10 cannot read there, and broken bytes as escapes."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    return re.sub("[\0\udc80-\udcff]", escaped, str(value))


def same(value: Any) -> Cell:
    """A cell that is sent as it is."""
    return Cell(value, value, plain(value))


def refused(value: Any) -> Cell:
    """A cell that cannot be sent."""
    return Cell(value, REFUSED, plain(value))


# --- Kinds of cells


def one_of(draw: random.Random, good: Sequence[Any], bad: Sequence[Any] = ()) -> Cell:
    """A cell of one of the good values, or now and then of a bad one."""
    if bad and draw.random() < 0.07:
        return refused(draw.choice(bad))
    return same(draw.choice(good))


def letter(draw: random.Random) -> str:
    """Any character but a surrogate, often one of ASCII."""
    ranges = [(0, 128), (0, 0xD800), (0xE000, 0x110000)]
    return chr(draw.randrange(*draw.choice(ranges)))


def text(draw: random.Random) -> Cell:
    letters = [letter(draw) for _ in range(draw.randrange(12))]
    value = "".join(letters).lstrip("'")  # of '=1 nobody could tell whether its apostrophe is ours
    return one_of(draw, [*TEXTS, value, value], BROKEN)


def moment(draw: random.Random) -> Cell:
    first = datetime(1, 1, 2, tzinfo=UTC)
    last = datetime(9999, 12, 30, tzinfo=UTC)
    utc = draw.choice([first, last, first + (last - first) * draw.random()])
    berlin = utc.astimezone(BERLIN)
    without_zone = berlin.replace(tzinfo=None)  # the database's times are Berlin's
    values = [utc, berlin, utc.astimezone(ODD_ZONE), without_zone]
    too_early = [datetime(1, 1, 1), datetime(1, 1, 1, tzinfo=BERLIN)]
    cell = one_of(draw, values, too_early)
    if cell.sent is REFUSED:
        return cell
    seconds = utc.replace(microsecond=0, tzinfo=None)
    return Cell(cell.stored, f"{seconds.isoformat(' ')} +00:00", cell.plain)


def document(draw: random.Random) -> Cell:
    odd = draw.choice([7, 7, 7, 7, 7, math.nan, 2**63, "\ud800"])
    numbers: list[Any] = [draw.choice(FLOATS), None, {"é": []}]
    value = {"=k": draw.choice(TEXTS), "list": numbers, "odd": [odd]}
    shown = json.dumps(value, ensure_ascii=False).replace("\ud800", "\\ud800")
    return Cell(value, value if odd == 7 else REFUSED, shown)


def sqlite_nan(draw: random.Random) -> Cell:
    return Cell(math.nan, None, "")  # SQLite keeps it as NULL


def sqlite_whole(draw: random.Random) -> Cell:
    return one_of(draw, [*INTEGERS, draw.randrange(-(2**63), 2**63), draw.randrange(100)])


def real(draw: random.Random) -> Cell:
    return one_of(draw, [*FLOATS, draw.uniform(-1e9, 1e9)], [math.inf, -math.inf])


def data(draw: random.Random) -> Cell:
    return one_of(draw, [None], [b"", b"\x00=\xff"])


def flag(draw: random.Random) -> Cell:
    return one_of(draw, [True, False])


def nan(draw: random.Random) -> Cell:
    return one_of(draw, FLOATS, [math.nan])


def whole(draw: random.Random) -> Cell:
    too_large = [2**63, -(2**63) - 1, 10**400]
    return one_of(draw, [*INTEGERS, draw.randrange(2**63)], too_large)


def decimal(draw: random.Random) -> Cell:
    digits = Decimal(draw.randrange(-(10**9), 10**9))
    cell = one_of(draw, [digits, digits.scaleb(-2), digits.scaleb(3)], NO_DECIMALS)
    if cell.sent is REFUSED:
        return cell
    return Cell(cell.stored, float(str(cell.stored)), cell.plain)


def day(draw: random.Random) -> Cell:
    days = [date.min, date.max, date.fromordinal(draw.randrange(1, 3_652_059))]
    value = draw.choice(days)
    return Cell(value, f"{value.year:04}-{value.month:02}-{value.day:02}", plain(value))


def identity(draw: random.Random) -> Cell:
    value = uuid.UUID(int=draw.getrandbits(128))
    return Cell(value, str(value), plain(value))


Kinds = dict[str, Callable[[random.Random], Cell]]
SQLITE: Kinds = {
    "text": text,
    "nan": sqlite_nan,
    "whole": sqlite_whole,
    "real": real,
    "data": data,
}
OTHERS: Kinds = {
    "text": text,
    "nan": nan,
    "whole": whole,
    "real": real,
    "data": data,
    "moment": moment,
    "document": document,
    "flag": flag,
    "decimal": decimal,
    "day": day,
    "identity": identity,
}


# --- Rows


@dataclass
class MeantRow:
    """A row as stored, what the files say of it, and what is sent of it and answered."""

    stored: list[Any]
    plain: list[str]
    user: str | None
    update: Json | None
    event: Json | None
    update_code: str
    event_code: str


@dataclass
class Generated:
    """Rows, and what was meant by them."""

    columns: list[str]
    rows: list[MeantRow]


def email(draw: random.Random, number: int) -> tuple[Any, str | None, str]:
    """An email as stored, as sent, and the answer's code: mostly good, sometimes another row's."""
    name = f"user{draw.randrange(9) if draw.random() < 0.2 else number + 100}"
    address = f"{name}@example.com"
    long_one = f"{'x' * 288}@a.io"
    return draw.choice(
        [
            *[(address, address, "Success")] * 12,
            (f" {name.upper()}@Example.COM\n", address, "Success"),
            (f"\u00a0É{name}@bücher.example", f"é{name}@bücher.example", "Success"),
            (f"={address}", f"={address}", "Success"),
            (f"{name} x@example.com", f"{name} x@example.com", "InvalidEmailAddressError"),
            ("No-Body", "no-body", "InvalidEmailAddressError"),
            (long_one, long_one, "InvalidEmailAddressError"),
            (None, None, "NoIdentifier"),
            (draw.choice(["", " ", "\t\n\u3000"]), None, "NoIdentifier"),
            (number, None, "InvalidValue"),
            (b"\x00\xff", None, "InvalidValue"),
            (BROKEN[1], None, "InvalidValue"),
        ]
    )


def generate_row(draw: random.Random, number: int, kinds: Kinds) -> MeantRow:
    """A row of a number, an email, a time and a cell of each kind."""
    stored, user, code = email(draw, number)
    cells = {}
    for name, kind in kinds.items():
        cells[name] = same(None) if draw.random() < 0.05 else kind(draw)
    seconds = draw.randrange(-(10**9), 2 * 10**9)
    at = f"{datetime(1970, 1, 1) + timedelta(seconds=seconds)}Z"
    is_time = draw.random() >= 0.05
    if not is_time:
        at = draw.choice(NO_TIMES)
    fields = {name: cell.sent for name, cell in cells.items()}
    row = MeantRow(
        stored=[number, stored, at, *(cell.stored for cell in cells.values())],
        plain=[str(number), plain(stored), at, *(cell.plain for cell in cells.values())],
        user=user if user or stored is None else plain(str(stored)),
        update=None,
        event=None,
        update_code=code if user is None else "InvalidValue",
        event_code=code if user is None else "InvalidValue",
    )
    if user is not None and REFUSED not in fields.values():
        row.update = {"email": user, "dataFields": fields}
        row.update_code = code
    if user is not None and is_time:
        row.event = {
            "email": user,
            "eventName": "seen",
            "dataFields": {"n": number, "at": at},
            "id": event_id(user, "seen", number),
            "createdAt": seconds,
        }
        row.event_code = code
    return row


def generate(seed: int, count: int, kinds: Kinds) -> Generated:
    """Rows of which a seed decides."""
    draw = random.Random(seed)
    rows = [generate_row(draw, number, kinds) for number in range(count)]
    return Generated(["n", "email", "at", *kinds], rows)

"""Sends the rows of a SQL query to Iterable, as user updates and events.

usage: python main.py [--demo | --dry-run] [--query NAME] [--days N] [--as-of TIME] [--limit N]
                      [--only-changes] [--output-dir DIR] [--env-file FILE] [--quiet | --verbose]

  --demo            run the whole job on sample data against a local stand-in for Iterable; needs no settings
  --dry-run         query and write both files, but send nothing; needs no Iterable credentials
  --query NAME      the query of the queries file to send (setting QUERY)
  --days N          the length of the window in days of 24 hours (setting LOOKBACK_DAYS)
  --as-of TIME      the end of the window, YYYY-MM-DD[ HH:MM[:SS][Z|+HH:MM]]; default now
  --limit N         take only the first N rows of the query
  --only-changes    skip what Iterable accepted before with the same content (setting SEND_ONLY_CHANGES)
  --output-dir DIR  where the CSV, the results and the log go (setting OUTPUT_DIR)
  --env-file FILE   read settings from FILE instead of .env
  --quiet           print nothing unless something failed, for cron
  --verbose         show the log on the terminal, with every attempt
  -h, --help        show this text

Settings come from the environment, then from .env; .env.example lists them all.
Exit codes: 0 all delivered, 1 some rows failed, 2 command line, settings, queries file or output directory,
3 database, 4 aborted, 75 another run holds the lock, 130 and 143 interrupted.
"""
from __future__ import annotations

import sys

if __name__ == "__main__" and not {"-h", "--help"}.isdisjoint(sys.argv[1:]):
    print(__doc__.strip())  # before the imports below, which take ten times as long
    raise SystemExit(0)

import signal

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until main() handles it: no traceback out of an import

import argparse
import fcntl
import gc
import io
import json
import logging
import os
import re
import shutil
import sqlite3
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta, timezone
from itertools import islice
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import IO, Any
from zoneinfo import ZoneInfo

from dotenv.parser import parse_stream

import db
import iterable_client as api

HERE = Path(__file__).resolve().parent
log = logging.getLogger("main")

Record = dict[str, Any]


class RunError(Exception):
    """What ends a run early: a text for the person at the terminal, and the exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


# --- Settings --------------------------------------------------------------------------------------------------------


Kind = tuple[str, Callable[[str], Any]]
"""What the text of a setting must be, and what reads it; of any other text this makes None, or an error."""


def matching(expected: str, pattern: str = r"[^\0]+", read: Callable[[str], Any] = str) -> Kind:
    """Text that matches a pattern; by default what a path or a name may hold."""
    return expected, lambda text: read(text) if re.fullmatch(pattern, text, re.ASCII) else None


def number(read: Callable[[str], float], least: float, most: float) -> Kind:
    """A number in a range."""
    expected = "a whole number" if read is int else "a number"
    return f"{expected} from {least:g} to {most:g}", lambda text: read(text) if least <= read(text) <= most else None


NAME, PATH = matching("one word"), matching("a path", read=Path)
FLAG = matching("true or false", "(?i)true|false", lambda text: text.lower() == "true")
MODE = matching("auto or single or bulk", "(?i)auto|single|bulk", str.lower)
LEVEL = matching("DEBUG or INFO or WARNING or ERROR", "(?i)debug|info|warning|error", str.upper)
ZONE = matching("a time zone, such as Europe/Berlin", read=ZoneInfo)
KEY = matching("printable ASCII without spaces, such as 0123456789abcdef", r"[!-~]+")  # it goes into a header
URL = matching(  # any path for SQLite; elsewhere no @ / # where a password could have left them
    "a URL, such as sqlite:///customers.db or postgresql://user:password@host/database",
    r"sqlite(\+\w+)?:[^\0-\x1f\x7f]*|(?!sqlite\b)[A-Za-z][\w+.-]*://([^\s@/#?\x1b]*@)?[^\s@#\x1b]*",
)
HOST = r"(?!-)[A-Za-z\d-]{1,63}(\.(?!-)[A-Za-z\d-]{1,63})*"
PORT = r"(:([1-5]?\d{1,4}|6[0-4]\d{3}|65[0-4]\d\d|655[0-2]\d|6553[0-5]))?"
LOOPBACK = r"(localhost|127(\.(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)){3}|\[::1\])"
BASE_URL = matching(  # no key over plain http
    "https:// and a host and nothing else, such as https://api.iterable.com",
    rf"(https://{HOST}|http://{LOOPBACK}){PORT}/?", lambda text: text.rstrip("/"),
)  # fmt: skip


def _setting(kind: Kind, default: str, text: str) -> Any:
    """A field of Settings: what its text is read as, its default as text ("" for none), what it is for."""
    expected, read = kind
    metadata = {"expected": expected, "read": read, "default": default, "help": text}
    return field(default=read(default) if default else None, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """Every setting. This table drives parsing and its errors; tests hold .env.example and README to it."""

    # fmt: off
    database_url: str = _setting(URL, "", "The database; @ : / # in its password are percent-encoded")
    database_timezone: ZoneInfo = _setting(ZONE, "UTC", "Zone of the database's times that have none")
    queries_file: Path = _setting(PATH, str(HERE / "queries.sql"), "The queries, and how their columns map to Iterable")
    query: str = _setting(NAME, "pro_users_recent_engagement", "The query whose rows are sent")
    lookback_days: float = _setting(number(float, 0.001, 36500), "7", "Length of the window, in days of 24 hours")
    iterable_api_key: str = _setting(KEY, "", "Server-side API key, or with USE_JWT_AUTH a JWT-enabled one")
    use_jwt_auth: bool = _setting(FLAG, "false", "Sign every call, as JWT-enabled keys demand")
    iterable_jwt_secret: str = _setting(KEY, "", "The JWT-enabled key's secret, which Iterable showed once")
    iterable_api_base_url: str = _setting(BASE_URL, "https://api.iterable.com", "In the EU https://api.eu.iterable.com")
    send_mode: str = _setting(MODE, "auto", "auto: single calls up to 500 rows, and with JWT; bulk calls above")
    workers: int | None = _setting(number(int, 1, 512), "", "Calls at a time; default 64 single or 6 bulk ones")
    rate_limit_factor: float = _setting(number(float, 0.001, 10000), "0.95", "Share of Iterable's limits that is used")
    max_retries: int = _setting(number(int, 1, 20), "3", "Attempts of a call in all")
    backoff_factor: float = _setting(number(float, 1, 10), "2", "Each wait between attempts is so many times the last")
    initial_backoff: float = _setting(number(float, 0, 60), "1", "Seconds of the first wait between attempts")
    request_timeout: float = _setting(number(float, 0.1, 600), "30", "Seconds of silence that end an attempt")
    send_only_changes: bool = _setting(FLAG, "false", "Skip what Iterable accepted before, unchanged")
    output_dir: Path = _setting(PATH, ".", "Where CSV, results, lock and log go; a directory for each sync")
    log_file: Path | None = _setting(PATH, "", "The log; default iterable_integration.log in OUTPUT_DIR")
    log_level: str = _setting(LEVEL, "INFO", "What is logged, at the least")
    # fmt: on


REQUIRED = ("database_url", "iterable_api_key", "iterable_jwt_secret")
FLAGS = {  # that stand for a setting
    "query": "--query", "lookback_days": "--days", "output_dir": "--output-dir", "send_only_changes": "--only-changes",
}  # fmt: skip


def load_settings(args: argparse.Namespace, texts: Mapping[str, str | None]) -> Settings:
    """Settings from flags, texts by setting, and defaults, in this order. Raises RunError with all that is wrong."""
    faults: list[str] = []
    parsed: dict[str, Any] = {}
    for setting in fields(Settings):
        name, text = setting.name.upper(), texts.get(setting.name.upper())
        if flag := getattr(args, setting.name, None):
            name, text = FLAGS[setting.name], flag
        required = setting.name in REQUIRED and not (args.dry_run and setting.name.startswith("iterable"))
        if setting.name == "iterable_jwt_secret":
            required = required and parsed.get("use_jwt_auth", False)
        if text and text.strip():
            with suppress(ValueError, KeyError, OSError):  # the last two from ZoneInfo
                parsed[setting.name] = setting.metadata["read"](text)
            if parsed.get(setting.name) is None:
                faults.append(f"{name} must be {setting.metadata['expected']}")
        elif required:
            faults.append(f"{name} is not set: it must be {setting.metadata['expected']}")
    if parsed.get("use_jwt_auth") and parsed.get("send_mode") == "bulk":
        faults.append("SEND_MODE must be auto or single with USE_JWT_AUTH: such keys cannot call bulk operations")
    if faults:
        advice = "Copy .env.example to .env and fill it in. The whole job without settings: python main.py --demo"
        raise RunError("\n  ".join(["Settings need attention:", *faults]) + f"\n{advice}", 2)
    return replace(Settings(), **parsed)


def read_env(args: argparse.Namespace) -> dict[str, str | None]:
    """The environment and, for what is unset or empty there, the env file. Raises RunError."""
    # not Path.exists(), which raises in a directory that may not be searched
    path = args.env_file or next((path for path in (".env", HERE / ".env") if os.access(path, os.F_OK)), None)
    texts: dict[str, str | None] = {}
    if path:
        try:
            with open(path, encoding="utf-8") as file:
                bindings = list(parse_stream(file))
                if wrong := [binding.original.line for binding in bindings if binding.error]:
                    raise RunError(f"{path}, line {wrong[0]}: not NAME=value; is a quote missing?", 2)
                texts = {binding.key: binding.value for binding in bindings if binding.key}
                if os.fstat(file.fileno()).st_mode & 0o077:
                    args.warnings.append(f"{path} holds secrets and can be read by others: chmod 600 {path}")
        except (OSError, ValueError) as error:
            raise RunError(f"The env file {path} cannot be read: {error}", 2) from None
    return {**texts, **{name: text for name, text in os.environ.items() if text}}


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line; what is wrong with it ends the program with code 2. The help is this module's docstring."""
    usage = (__doc__ or "").partition("usage: ")[2].partition("\n\n")[0]
    parser = argparse.ArgumentParser("main.py", usage, add_help=False, allow_abbrev=False)
    kind, volume = parser.add_mutually_exclusive_group(), parser.add_mutually_exclusive_group()
    for group, flag in ((kind, "--demo"), (kind, "--dry-run"), (volume, "--quiet"), (volume, "--verbose")):
        group.add_argument(flag, action="store_true")
    parser.add_argument("--only-changes", dest="send_only_changes", action="store_const", const="true")
    parser.add_argument("--days", dest="lookback_days")
    parser.add_argument("--limit", type=int)
    for option in ("--query", "--as-of", "--output-dir", "--env-file"):
        parser.add_argument(option)
    args = parser.parse_args(argv)
    args.warnings = []  # for the log, which does not exist yet
    if args.limit is not None and not 1 <= args.limit <= sys.maxsize:
        parser.error("--limit must be at least 1, and a number of rows that can be")
    return args


# --- From a row to calls ---------------------------------------------------------------------------------------------

KEYS = ("email", "userId", "user fields", "event", "event fields", "event time", "event id")


def columns_of(query: db.Query, key: str) -> list[str]:
    """The columns that a key of the query's comment names."""
    return [name.strip() for name in query.keys.get(key, "").split(",") if name.strip()]


def check_mapping(query: db.Query) -> None:
    """Raises QueryFileError where the keys of a query's comment do not make sense together."""
    keys = query.keys
    if ("email" in keys) == ("userId" in keys):
        raise query.error("exactly one of the keys 'email' and 'userId' must name the column of the user")
    for name in {"email", "userId"}.intersection(columns_of(query, "user fields")):
        raise query.error(f"'{name}' cannot be a user field: Iterable would change the user's identity", "user fields")
    if "event" in keys and not keys.keys() & {"event time", "event id"}:
        raise query.error("'event' needs 'event time' or 'event id': a second run would add it again", "event")
    for key in keys.keys() & {"event fields", "event time", "event id"}:
        if "event" not in keys:
            raise query.error(f"'{key}' needs '-- event: name' beside it", key)
    if not keys.keys() & {"event", "user fields"}:
        raise query.error("nothing would be sent: add '-- user fields: ...' or '-- event: name'")


class Planner:
    """Turns the rows of one query into calls, as the keys above it say."""

    def __init__(self, query: db.Query, columns: Sequence[str], zone: ZoneInfo) -> None:
        """Raises QueryFileError where a key names a column that the query does not return."""
        self.query, self._zone = query, zone
        self.kind = "email" if "email" in query.keys else "userId"
        self._event = query.keys.get("event", "")
        self._plans = [self._update if "user fields" in query.keys else None, self._track if self._event else None]
        self.calls_per_row = 2 - self._plans.count(None)
        places: dict[str, list[tuple[str, int]]] = {key: [] for key in KEYS if key != "event"}
        for key, named in places.items():
            for name in columns_of(query, key):
                if name not in columns:
                    raise query.error(f"'{key}' names '{name}', but the columns are {', '.join(columns)}", key)
                named.append((name, columns.index(name)))
        self._identifier = places[self.kind][0][1]
        self._user_fields, self._event_fields = places["user fields"], places["event fields"]
        self._event_id = places["event id"]
        self._time_column, self._time = places["event time"][0] if places["event time"] else ("", -1)

    def plan(self, number: int, cells: Sequence[Any]) -> api.Row:
        """The calls of a row; one that cannot be made has its failure as a result already."""
        value = cells[self._identifier]
        try:
            user = api.normalize_identifier(self.kind, value)
        except api.InvalidValueError as error:
            shown = None if value is None else str(value).encode(errors="backslashreplace").decode()
            return api.Row(number, shown, None, [plan and error.result for plan in self._plans])
        calls: list[api.Call] = []
        for plan in self._plans:
            try:
                calls.append(plan and plan(user, cells))
            except api.InvalidValueError as error:  # noqa: PERF203 - each fails by itself
                calls.append(error.result)
        event = calls[1]
        return api.Row(number, user, event["id"] if isinstance(event, dict) else None, calls)

    def _fields(self, places: list[tuple[str, int]], cells: Sequence[Any]) -> Record:
        data = {}
        for name, place in places:
            value = cells[place]
            is_plain = value is None or (value.__class__ is str and value.isascii())  # most cells, without a call
            data[name] = value if is_plain else api.clean_field(name, value, self._zone)
        return data

    def _update(self, user: str, cells: Sequence[Any]) -> Record:
        return api.user_update(self.kind, user, self._fields(self._user_fields, cells))

    def _track(self, user: str, cells: Sequence[Any]) -> Record:
        event_fields, time_text, created = self._fields(self._event_fields, cells), "", None
        if self._time >= 0:
            try:
                utc = api.to_utc(db.parse_time(cells[self._time], self._zone), self._zone)
            except ValueError as error:
                raise api.InvalidValueError(f"column {self._time_column}: {error}") from None
            time_text, created = api.format_time(utc), api.unix_seconds(utc)
        own: list[Any] = []  # what tells the event from others
        for column, place in self._event_id:
            value = time_text if place == self._time else cells[place]
            if isinstance(value, datetime):
                value = api.format_time(api.to_utc(value, self._zone))
            is_plain = value.__class__ is int or (value.__class__ is str and value.isascii())
            own.append(value if is_plain else api.clean_field(column, value, self._zone))
        if self._event_id and own.count(None) == len(own):
            raise api.InvalidValueError(f"column {self._event_id[0][0]}: nothing tells this event from others")
        id_ = api.make_event_id([user, self._event, *(own or [created, event_fields])])
        return api.event(self.kind, user, self._event, event_fields, created, id_)


SKIPPED: api.Result = (True, {"code": "Unchanged"})
JSON_OF = {True: "true", False: "false", None: "null"}
_json = json.JSONEncoder(ensure_ascii=False).encode
_BULK_SUCCESS = _json({"success": True, "response": api.BULK_SUCCESS[1]})


def keep_back(ledger: db.Ledger, query: str, rows: Sequence[api.Row]) -> None:
    """Replaces the calls that Iterable accepted before, with the same payload, by SKIPPED; marks the others."""
    for row in rows:
        update, event = row.calls
        row.marks = [
            ledger.mark(f"{query} {row.user}", update) if update.__class__ is dict else None,
            ledger.mark(f"{row.event_id}", event) if event.__class__ is dict else None,
        ]
    delivered = iter(ledger.begin([mark for row in rows for mark in row.marks if mark]))
    for row in rows:
        for place, mark in enumerate(row.marks):
            if mark and next(delivered):
                row.calls[place], row.marks[place] = SKIPPED, None


# --- Results ---------------------------------------------------------------------------------------------------------


class Results:
    """What became of every row: counts, and a line of JSON a row in an anonymous file until the summary is known."""

    def __init__(self, directory: Path, kind: str, ledger: db.Ledger | None) -> None:
        """`kind` is what identifies users; the ledger learns which calls were accepted."""
        self.counts = Counter(successful=0, partial_failures=0, total_failures=0, unchanged=0)
        self.failure_reasons: Counter[str] = Counter()
        self.skipped = 0  # calls
        self._kind, self._ledger = kind, ledger
        self._lines: IO[str] = tempfile.TemporaryFile(  # noqa: SIM115
            "w+", encoding="utf-8", errors="backslashreplace", dir=directory  # \\udc.. is what JSON writes, too
        )
        self._separator = "\n"

    def add(self, rows: Sequence[api.Row]) -> None:
        """Records rows' calls: results, or in a dry run payloads, or None where the query defines no such call."""
        if self._ledger:
            self._ledger.end([
                (mark, isinstance(call, tuple) and call[0])
                for row in rows for mark, call in zip(row.marks, row.calls, strict=True) if mark
            ])  # fmt: skip
        now, lines = datetime.now(timezone.utc).isoformat(timespec="seconds"), []
        for row in rows:
            update, event = row.calls
            success: bool | None = True
            if update is api.BULK_SUCCESS and event is api.BULK_SUCCESS:  # a million times in a large run
                self.counts["successful"] += 1
            elif update is SKIPPED and event is SKIPPED:  # and every night
                self.counts["unchanged"] += 1
                self.skipped += 2
            else:
                results = [call for call in (update, event) if isinstance(call, tuple)]
                failures = [answer for ok, answer in results if not ok]
                if failures and failures.count(api.NOT_SENT) == len(results):
                    continue  # not_sent, like the rows that were never tried
                self.failure_reasons.update([answer["code"] for answer in failures])
                is_dry = update.__class__ is dict or event.__class__ is dict
                success = None if is_dry else self._count(results, len(failures))
            lines.append(
                f'{{"row": {row.number}, "{self._kind}": {_json(row.user)}, "event_id": {_json(row.event_id)}, '
                f'"timestamp": "{now}", "users_update": {_call_json(update)}, "events_track": {_call_json(event)}, '
                f'"overall_success": {JSON_OF[success]}}}'
            )
        if lines:
            self._lines.write(self._separator + ",\n".join(lines))
            self._separator = ",\n"

    def _count(self, results: Sequence[api.Result], failed: int) -> bool:
        """Counts a row; returns whether all of its calls succeeded."""
        skipped = results.count(SKIPPED)
        self.skipped += skipped
        if skipped == len(results):
            self.counts["unchanged"] += 1
        elif 0 < failed < len(results):
            self.counts["partial_failures"] += 1
        else:
            self.counts["total_failures" if failed else "successful"] += 1
        return not failed

    @property
    def recorded(self) -> int:
        """The number of rows that have an outcome."""
        return sum(self.counts.values())

    def write_to(self, file: IO[str], summary: Record) -> None:
        """Writes the results file: the summary, which is known last, first; then a record a line."""
        head = [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in summary.items()]
        file.write("{" + ",\n".join([*head, '"records": [']))
        self._lines.seek(0)
        shutil.copyfileobj(self._lines, file, 1 << 20)
        file.write("\n]}\n")


def _call_json(call: api.Call) -> str:
    if call is api.BULK_SUCCESS:
        return _BULK_SUCCESS
    if call is SKIPPED:
        return '{"success": true, "skipped": true}'
    if isinstance(call, tuple):
        return _json({"success": call[0], "response": call[1]})
    return _json(call and {"success": None, "request": call})


# --- Query: rows into the CSV and the spool; send: from there to Iterable --------------------------------------------

MERGED_ROWS = 5000
SINGLE_ROWS = 500  # the most that SEND_MODE=auto sends through the single operations


def planned_batches(spool: IO[bytes], planner: Planner, ledger: db.Ledger | None) -> Iterator[list[api.Row]]:
    """The batches of the spool, with each row's calls; with few calls left to make, several batches in one."""
    number, load = 1, 0.0  # load: what is left to send, in full batches, be they full by rows or by characters
    rows: list[api.Row] = []
    for batch in db.spooled(spool):
        planned = [planner.plan(number + place, cells) for place, cells in enumerate(batch)]
        number += len(batch)
        if ledger:
            keep_back(ledger, planner.query.name, planned)
        share = sum(any(row.marks) for row in planned) / len(planned) if ledger else 1.0
        if rows and (load + share > 1 or len(rows) >= MERGED_ROWS):
            yield rows
            rows, load = [], 0.0
        rows, load = rows + planned, load + share
    yield rows


def with_progress(batches: Iterator[list[api.Row]], total: int, results: Results) -> Iterator[list[api.Row]]:
    """The batches; at most twice a second a line on the terminal has rows of total, rate, time left and failures."""
    began = shown = time.monotonic()
    for rows in batches:
        yield rows
        if (now := time.monotonic()) - shown >= 0.5:
            shown = now
            done, failed = results.recorded, sum(results.failure_reasons.values())
            rate = done / (now - began)
            left = f"{timedelta(seconds=round((total - done) / rate))} left" if rate else "waiting for Iterable"
            line = f"{done:,} of {total:,} rows, {rate:,.0f}/s, {left}, {failed:,} calls failed"
            with suppress(OSError):  # the terminal may be gone
                print(f"\r\033[K{line}", end="\r", file=sys.stderr, flush=True)
    with suppress(OSError):
        print("\r\033[K", end="", file=sys.stderr)


# --- The run ---------------------------------------------------------------------------------------------------------

REPORT_ROWS = 1000
ADVICE = {  # what to check where Iterable refuses the credentials
    "BadApiKey": "ITERABLE_API_KEY, and that ITERABLE_API_BASE_URL is that of the key's data centre, US or EU",
    "Unauthorized": "that ITERABLE_API_KEY is a server-side key; a JWT-enabled one needs USE_JWT_AUTH=true",
    "BadAuthorizationHeader": "that ITERABLE_API_KEY is a JWT-enabled key, as USE_JWT_AUTH=true needs",
    "Forbidden": "that ITERABLE_API_KEY is a server-side key that may update users and track events",
    "InvalidJwtPayload": "ITERABLE_JWT_SECRET, and this machine's clock",
}


class Signals:
    """SIGINT and SIGTERM end a query at once, sending in good order, and anything when they come again."""

    def __init__(self) -> None:
        self.received = 0
        self.client: api.IterableClient | None = None
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, self._handle)

    def _handle(self, signum: int, _frame: object) -> None:
        if self.received:
            os._exit(128 + signum)
        self.received = signum
        if self.client is None:
            raise KeyboardInterrupt
        self.client.stop()


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Holds the output directory against other runs. The lock is the kernel's: it ends with its process."""
    try:
        file = open(directory / ".iterable_integration.lock", "a+")  # noqa: SIM115
    except OSError as error:
        advice = "create it, or name another with --output-dir"
        raise RunError(f"The output directory {directory} cannot be written ({error.strerror}): {advice}", 2) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise RunError(f"Another run is writing to {directory}: {file.read().strip()}", 75) from None
        file.truncate(0)
        started = datetime.now().astimezone().isoformat(timespec="seconds")
        print(f"process {os.getpid()}, started {started}", file=file, flush=True)
        for leftover in (*directory.glob(".query_results_*.part"), *directory.glob(".integration_results_*.part")):
            leftover.unlink()  # of a run that was killed
        yield


def start_log(settings: Settings, verbose: bool) -> None:
    """Logs to a rotating file, and with --verbose everything to the terminal, too. Raises RunError."""
    path = settings.log_file or settings.output_dir / "iterable_integration.log"
    try:
        file = RotatingFileHandler(path, maxBytes=5_000_000, backupCount=5, encoding="utf-8")
    except OSError as error:
        raise RunError(f"The log {path} cannot be written ({error.strerror}): name another with LOG_FILE", 2) from None
    logging.raiseExceptions = False  # a full disk ends the run, or only the log: not a traceback a line
    handlers: list[logging.Handler] = [file, logging.StreamHandler()] if verbose else [file]
    logging.basicConfig(level="DEBUG" if verbose else settings.log_level, handlers=handlers, force=True,
                        format="%(asctime)s %(levelname)s %(name)s: %(message)s")  # fmt: skip
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # the client logs what matters of it


class Run:
    """One run, from the query to the results."""

    def __init__(self, settings: Settings, args: argparse.Namespace, signals: Signals) -> None:
        """Raises RunError or QueryFileError where it cannot begin."""
        self.settings, self.args, self.signals = settings, args, signals
        self.started = datetime.now(timezone.utc)
        try:
            as_of = args.as_of or self.started.isoformat(" ", "seconds")
            self.since, self.until = db.window(as_of, settings.lookback_days, settings.database_timezone)
        except (ValueError, OverflowError):
            hint = "YYYY-MM-DD or YYYY-MM-DD HH:MM:SS, perhaps with Z or +HH:MM, and not too far in the past"
            raise RunError(f"--as-of {args.as_of!r} must be {hint}", 2) from None
        queries = db.load_queries(settings.queries_file, KEYS)
        for query in queries.values():
            if query.keys:  # else it is a report
                check_mapping(query)
        if settings.query not in queries:
            names = ", ".join(queries)
            raise RunError(f"{settings.queries_file} has no query {settings.query!r:.99}; it has {names}", 2)
        self.query = queries[settings.query]
        if not self.query.keys:
            raise self.query.error("this is a report, without keys that say what to send: choose another with --query")
        self.report_queries = [query for query in queries.values() if not query.keys]
        self.reports: dict[str, list[Record]] = {}
        self.total = 0
        self.warnings: list[str] = []

    def execute(self) -> int:
        """Does the job and returns the exit code."""
        directory = self.settings.output_dir
        with ExitStack() as stack:
            stack.enter_context(locked(directory))
            start_log(self.settings, self.args.verbose)
            for warning in self.args.warnings:
                log.warning("%s", warning)
            stamp = f"{self.started.astimezone():%Y%m%d_%H%M%S}"
            csv_file = stack.enter_context(closing(api.CsvFile(directory, f"query_results_{stamp}.csv")))
            results_file = stack.enter_context(closing(api.OutputFile(directory, f"integration_results_{stamp}.json")))
            spool = stack.enter_context(tempfile.TemporaryFile(dir=directory))
            ledger = self._open_ledger(stack) if self.settings.send_only_changes else None
            planner = self._query(csv_file, spool)
            results = Results(directory, planner.kind, ledger)
            batches = planned_batches(spool, planner, ledger)
            if self.args.dry_run:
                for rows in batches:
                    results.add(rows)
            else:
                self._send(batches, planner.calls_per_row, results)
            return self._finish(csv_file, results_file, results)

    def _open_ledger(self, stack: ExitStack) -> db.Ledger | None:
        settings = self.settings
        if not settings.iterable_api_key:  # a dry run
            self.warnings.append("Without ITERABLE_API_KEY nobody can tell what was sent before: every call is shown")
            return None
        project = f"{settings.iterable_api_base_url} {settings.iterable_api_key}"
        ledger = db.Ledger(settings.output_dir / "delivery_ledger.sqlite3", project, writable=not self.args.dry_run)
        stack.callback(ledger.close)
        if ledger.is_new_project:
            self.warnings.append("The ledger does not know this API key and base URL: everything is sent once more")
        return ledger

    def _query(self, csv_file: api.CsvFile, spool: IO[bytes]) -> Planner:
        settings = self.settings
        url = db.describe_url(settings.database_url)
        log.info("%s from %s, %s to %s", self.query.name, url, self.since, self.until)
        with db.connect(settings.database_url, settings.database_timezone) as database:
            for query in self.report_queries:
                columns, rows = database.rows(query, self.since, self.until)
                self.reports[query.name] = [self._report_row(columns, row) for row in islice(rows, REPORT_ROWS)]
            columns, rows = database.rows(self.query, self.since, self.until)
            planner = Planner(self.query, columns, settings.database_timezone)
            csv_file.write(columns)
            self.total = db.spool(self.query, islice(rows, self.args.limit), spool, csv_file.write)
        log.info("%d rows", self.total)
        return planner

    def _report_row(self, columns: Sequence[str], row: Sequence[Any]) -> Record:
        try:
            return api.clean_fields(zip(columns, row, strict=True), self.settings.database_timezone)
        except api.InvalidValueError:  # a report is read by people: anything goes as text
            return {name: str(cell) for name, cell in zip(columns, row, strict=True)}

    @property
    def is_bulk(self) -> bool:
        """Whether the bulk operations are used."""
        mode = self.settings.send_mode
        return not self.settings.use_jwt_auth and (mode == "bulk" or (mode == "auto" and self.total > SINGLE_ROWS))

    def _send(self, batches: Iterator[list[api.Row]], calls_per_row: int, results: Results) -> None:
        settings = self.settings
        if self.signals.received:  # and its exception was swallowed, as in a __del__
            raise KeyboardInterrupt
        try:
            client = self.signals.client = api.IterableClient(
                settings.iterable_api_key, settings.iterable_jwt_secret, settings.use_jwt_auth,
                settings.iterable_api_base_url, max_retries=settings.max_retries,
                backoff_factor=settings.backoff_factor, initial_backoff=settings.initial_backoff,
                timeout=settings.request_timeout, workers=settings.workers or 64,
                rate_limit_factor=settings.rate_limit_factor, zone=settings.database_timezone,
                give_up_after=10 * calls_per_row,  # that is, at least 10 rows
            )  # fmt: skip
        except ValueError as error:
            raise RunError(str(error), 2) from None
        workers = settings.workers or (6 if self.is_bulk else 64)  # the client's are for what is sent singly, too
        try:
            settled = api.send_rows(client, batches, self.is_bulk, workers)
            if sys.stderr.isatty() and not (self.args.quiet or self.args.verbose):
                settled = with_progress(settled, self.total, results)
            for rows in settled:
                results.add(rows)
        except BaseException:
            client.stop()  # what ends the sending early ends its threads, too
            raise

    def _outcome(self, results: Results) -> tuple[str, int]:
        """The run's status and exit code; adds what a person should know."""
        client, failed = self.signals.client, bool(results.failure_reasons)
        if client is None:
            return "dry_run", int(failed)
        if client.filtered_fields:
            names = ", ".join(sorted(client.filtered_fields))
            self.warnings.append(f"Iterable dropped fields that the project does not know, and said success: {names}")
        if client.refusal:
            code = client.refusal["code"]
            self.warnings.append(f"Iterable refused the credentials ({code}): check {ADVICE[code]}")
            return "aborted", 4
        is_cut_short = "Interrupted" in results.failure_reasons or results.recorded < self.total
        if self.signals.received and is_cut_short and not client.gave_up:
            return "interrupted", 128 + self.signals.received
        if client.gave_up or (client.counts["sent"] and not client.ever_answered):
            self.warnings.append(f"{client.base_url} gives no useful answer: see failure reasons; run again later")
            return "aborted", 4
        return ("completed_with_failures", 1) if failed else ("completed", 0)

    def _finish(self, csv_file: api.CsvFile, results_file: api.OutputFile, results: Results) -> int:
        """Completes the results file, lets both files appear, prints the summary; returns the exit code."""
        settings, client, finished = self.settings, self.signals.client, datetime.now(timezone.utc)
        status, code = self._outcome(results)
        paths = [csv_file.commit()]
        run = {
            "id": str(uuid.uuid4()), "status": status, "started_at": self.started.isoformat(timespec="seconds"),
            "finished_at": finished.isoformat(timespec="seconds"),
            "seconds": round((finished - self.started).total_seconds(), 3), "query": self.query.name,
            "since": self.since.isoformat(), "until": self.until.isoformat(),
            "send_mode": "bulk" if self.is_bulk else "single",
            "authentication": "jwt" if settings.use_jwt_auth else "api_key",
            "base_url": settings.iterable_api_base_url, "csv_file": paths[0].name, "warnings": self.warnings,
        }  # fmt: skip
        summary = {
            "run": run, "total_users": self.total, **results.counts, "not_sent": self.total - results.recorded,
            "failure_reasons": dict(results.failure_reasons),
            "requests": dict(client.counts) if client else {"sent": 0, "retried": 0, "rate_limited": 0},
            "reports": self.reports,
        }  # fmt: skip
        results.write_to(results_file.text, summary)
        paths.append(results_file.commit())
        log.info("%s, exit code %d: %s", status, code, {key: summary[key] for key in (*COUNTS, "failure_reasons")})
        for warning in self.warnings:
            log.warning("%s", warning)
        if code or not self.args.quiet:
            with suppress(OSError):  # | head, or a full disk: what was done is done
                print_summary(summary, results.skipped, paths, sys.stderr if self.args.quiet else sys.stdout)
        return code


COUNTS = {"successful": "delivered", "partial_failures": "partly failed", "total_failures": "failed",
          "unchanged": "unchanged", "not_sent": "not sent"}  # fmt: skip


def shown(text: str) -> str:
    """Text that may be printed: a terminal obeys control characters, and data may hold some."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def print_summary(summary: Record, skipped: int, paths: Sequence[Path], out: IO[str]) -> None:
    """Prints what a person wants to know of a run."""
    run, requests = summary["run"], summary["requests"]
    if skipped:
        requests = {**requests, "calls saved by the ledger": skipped}
    counts = ", ".join(f"{summary[key]:,} {text}" for key, text in COUNTS.items() if summary[key])
    lines = [
        ("Status", f"{run['status'].replace('_', ' ')} in {run['seconds']:.1f} s"),
        ("Query", f"{run['query']}, {run['since']} to {run['until']}"),
        ("Rows", f"{summary['total_users']:,}: {counts or 'none'}"),
        *(("Failures", f"{calls:,} x {code}") for code, calls in summary["failure_reasons"].items()),
        ("Requests", ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in requests.items())),
        *(("Warning", text) for text in run["warnings"]),
        *(("File", str(path.resolve())) for path in paths),
    ]
    for name, rows in summary["reports"].items():
        table = [list(rows[0]), *(map(str, row.values()) for row in rows[:20])] if rows else [["no rows"]]
        lines += [("Report", name), *(("", "  ".join(f"{cell:<12}" for cell in line).rstrip()) for line in table)]
    for label, text in lines:
        print(f"{label:<9} {shown(text)}", file=out)


INTERRUPTED = "interrupted before anything was sent"
ADVICE_NO_OUTPUT = "Make room there and run again: no event is added twice"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program; returns the exit code."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 - whoever started us may have closed it
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    os.umask(0o077)  # results hold addresses: for their owner alone
    gc.set_threshold(50_000)  # a batch is tens of thousands of objects, none in a cycle: an eighth of the CPU time
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # cron's locale may be ASCII
    logging.basicConfig(handlers=[logging.NullHandler()])  # until there is a log
    signals, settings = Signals(), None
    args = parse_args(argv)
    try:
        with ExitStack() as stack:
            if args.demo:
                from tests.demo import AS_OF, demo_settings  # nothing else needs them

                args.as_of = args.as_of or AS_OF
            texts = stack.enter_context(demo_settings()) if args.demo else read_env(args)
            settings = load_settings(args, texts)
            return Run(settings, args, signals).execute()
    except RunError as error:
        message, code = str(error), error.code
    except (db.QueryFileError, db.LedgerError) as error:
        message, code = str(error), 2
    except (KeyboardInterrupt, db.DatabaseError) as error:  # sqlite3 makes the latter of what a signal handler raises
        message, code = (INTERRUPTED, 128 + signals.received) if signals.received else (str(error), 3)
    except (OSError, sqlite3.Error) as error:
        why = (error.strerror or error) if isinstance(error, OSError) else f"the ledger: {error}"
        where = settings.output_dir if settings else "here"
        message, code = f"Output could not be written to {where}: {why}. {ADVICE_NO_OUTPUT}", 4
    message = "\n".join(map(shown, message.split("\n")))
    log.error("%s", message)
    with suppress(OSError):
        print(f"main.py: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    exit_code = main()
    logging.shutdown()
    with suppress(OSError):  # nobody may be reading any more
        sys.stdout.flush()
    os._exit(exit_code)  # not sys.exit(), which waits for threads that wait for an answer

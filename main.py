"""Sends the rows of a SQL query to Iterable, as user updates and events.

The file reads in the order in which it runs: main() and the run, the command line and the
settings, the query and its mapping to calls, the ledger, the results, the summary.
"""

from __future__ import annotations

import signal

if __name__ == "__main__":
    # Until main() handles it: Ctrl-C during the imports below is no traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import _thread
import argparse
import errno
import fcntl
import gc
import io
import json
import logging
import os
import re
import select
import shutil
import sqlite3
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import Field, dataclass, field, fields
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from functools import cache, cached_property, partial
from itertools import islice, takewhile
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from dotenv.parser import parse_stream

import db
import iterable_client
from iterable_client import Call, IterableClient, Kind, Outcome, Row, Settled, deliver

HERE = Path(__file__).resolve().parent
log = logging.getLogger("main")

Json = dict[str, Any]
Item = TypeVar("Item")


# --- The run ------------------------------------------------------------------


class RunError(Exception):
    """What ends a run early: a text for the person at the terminal, and the exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program.

    Arguments:
        argv: the command line without the program's name; default that of the process.

    Returns:
        The exit code.
    """
    prepare_process()
    signals = Signals()
    try:
        options = parse_args(argv)
        with setting_texts(options) as texts:
            settings = load_settings(options, texts)
            return run(prepare_job(options, settings), signals)
    except KeyboardInterrupt:
        message, code = INTERRUPTED, 128 + signals.received
    except RunError as error:
        message, code = str(error), error.code
    except (db.QueryFileError, db.LedgerError) as error:
        message, code = str(error), 2
    except db.DatabaseError as error:
        message, code = str(error), 3
    if signals.received and not signals.is_sending:
        # A driver may have made an error of its own of what the signal handler raised.
        message, code = INTERRUPTED, 128 + signals.received
    return report_error(message, code)


INTERRUPTED = "interrupted before anything was sent"


@dataclass(frozen=True)
class Job:
    """What a run is to do."""

    options: Options
    settings: Settings
    query: db.Query
    reports: list[db.Query]
    since: datetime
    until: datetime
    started: datetime
    began: float  # the same by time.monotonic(), which nobody sets

    @property
    def directory(self) -> Path:
        """Where all of its files go."""
        return self.settings.output_dir


def run(job: Job, signals: Signals) -> int:
    """Does the job, from the query to the results; returns the exit code."""
    with errors_told(job.directory), ExitStack() as stack:
        stack.enter_context(locked(job.directory))
        start_log(job.settings, job.options.verbose)
        warn_of_readable_env_file(job.options)
        files = stack.enter_context(open_files(job))
        ledger = stack.enter_context(open_ledger(job))

        fetched = fetch(job, files)
        signals.begin_sending()
        csv_path = files.csv.commit()

        client = None if job.options.dry_run else make_client(job, signals, fetched.plan)
        sending = choose_sending(job.settings, fetched.total)
        trouble = Trouble(signals.stop)
        field_kinds = FieldKinds(fetched)
        planned = plan_batches(fetched.plan, files.spool, field_kinds)
        if ledger:
            planned = merge_sparse(skip_known(ledger, job, planned))
        settled_rows = settle(client, trouble.watch(planned), sending, signals)

        results = Results(job.directory, fetched.plan.identifier_kind)
        progress = Progress(job.options, fetched.total)
        for settled in trouble.watch(settled_rows):
            with trouble.noted():
                if ledger and not trouble.is_ledgers:
                    tell_ledger(ledger, settled)
            with trouble.noted():
                results.record(settled)
                progress.show(results)
        progress.clear()

        warnings = ledger_warnings(job, ledger) + field_kinds.warnings()
        conclusion = conclude(client, signals, trouble, fetched.total, results, warnings)
        summary = summarize(job, fetched, sending, client, results, conclusion, csv_path)
        results_path = publish(job, files, results, summary)
        report_end(job, conclusion, summary, results.skipped_calls, [csv_path, results_path])
        return conclusion.exit_code


def publish(job: Job, files: Files, results: Results, summary: Json) -> Path:
    """Lets the results file appear; where it cannot, the error says what it would have said."""
    csv_name = summary["run"]["csv_file"]
    done = f"Rows: {describe_rows(summary)}. The CSV is there: {csv_name}. "
    with errors_told(job.directory, done):
        results.write_to(files.results.text, summary)
        return files.results.commit()


def settle(
    client: IterableClient | None,
    planned: Iterable[list[Row]],
    sending: Sending,
    signals: Signals,
) -> Iterator[Settled]:
    """The rows with what became of their calls; without a client, in a dry run, as planned."""
    if client is None:
        return map(Settled, takewhile(lambda _: not signals.stop.is_set(), planned))
    return deliver(client, planned, sending.is_bulk, sending.workers)


class Trouble:
    """What went wrong with the program itself while it sent.

    The sending stops then, as at a signal, and the files tell how far it came.
    """

    def __init__(self, stop: iterable_client.Stop) -> None:
        self.reason: str | None = None  # the first, as a sentence for a person
        self.is_ledgers = False  # whether the ledger can no longer be used
        self._stop = stop

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Takes down what is raised, and stops the sending. The traceback is for the log."""
        try:
            yield
        except Exception as error:
            self._stop.set()
            self.is_ledgers |= isinstance(error, (db.LedgerLockedError, sqlite3.Error))
            self.reason = self.reason or explain_trouble(error)
            log.error("sending stops", exc_info=True)

    def watch(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yields the items; where getting one raises, that was the last."""
        with self.noted():
            yield from items


def explain_trouble(error: Exception) -> str:
    """What ended the sending. Most errors' own texts may hold what a row holds."""
    if isinstance(error, db.LedgerLockedError):
        return str(error)
    if isinstance(error, sqlite3.Error):
        return f"The ledger cannot be written ({error}): make room, or mend that, and run again"
    return (
        f"The program failed ({type(error).__name__}): the log has the details. Rows of which "
        "nothing could be recorded count as not sent. Run again: no event is added twice"
    )


def prepare_process() -> None:
    """What holds for the whole process, and does no harm a second time."""
    if sys.stdout is None:  # whoever started us may have closed it
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # cron's locale may be ASCII
    os.umask(0o077)  # results hold addresses: for their owner alone
    # A batch is tens of thousands of objects, none in a cycle: an eighth of the CPU time.
    gc.set_threshold(50_000)
    logging.basicConfig(handlers=[logging.NullHandler()])  # until there is a log


SAME_SIGNAL = 1.0  # seconds in which timeout(1), or a double Ctrl-C, sends a second one
LAST_RESORT = 11.0  # seconds after which a query that does not heed a signal is abandoned


class Signals:
    """What SIGHUP, SIGINT and SIGTERM do.

    While the query runs they end the run at once; then they stop the sending in good order. A
    second one ends the process, whatever it does.
    """

    def __init__(self) -> None:
        self.received = 0
        self.is_sending = False
        self.stop = iterable_client.Stop()
        ours, theirs = os.pipe()
        os.set_blocking(theirs, False)
        signal.set_wakeup_fd(theirs, warn_on_full_buffer=False)
        _thread.start_new_thread(self._watch, (ours,))  # for which nobody waits, as start() would
        signal.signal(signal.SIGINT, self._handle)
        signal.signal(signal.SIGTERM, self._handle)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as under nohup
            signal.signal(signal.SIGHUP, self._handle)

    def begin_sending(self) -> None:
        """From now on a signal stops the sending, instead of raising KeyboardInterrupt."""
        if self.received:  # and what it raised was swallowed, as in a __del__
            raise KeyboardInterrupt
        self.is_sending = True

    def _handle(self, signum: int, _frame: object) -> None:
        """In the main thread, anywhere in its code: so it takes no lock, as stop.set() would."""
        if not self.received:
            self.received = signum
            if not self.is_sending:
                raise KeyboardInterrupt

    def _watch(self, pipe: int) -> None:
        """A thread, which gets each signal's number though the main one may wait in C."""
        signum = os.read(pipe, 1)[0]
        first = time.monotonic()
        self.stop.set()
        while True:
            has_another, _, _ = select.select([pipe], [], [], 0.5)
            elapsed = time.monotonic() - first
            if has_another:
                signum = os.read(pipe, 1)[0]
                if elapsed > SAME_SIGNAL:
                    os._exit(128 + signum)
            elif elapsed > LAST_RESORT and not self.is_sending:
                with suppress(OSError):
                    os.write(2, f"main.py: {INTERRUPTED}\n".encode())
                os._exit(128 + signum)


def report_error(message: str, code: int) -> int:
    """Says on the terminal and in the log what ended the run; returns the exit code."""
    text = "\n".join(map(db.printable, message.split("\n")))
    log.error("%s", text)
    with suppress(OSError):
        print(f"main.py: {text}", file=sys.stderr)
    return code


# --- The output directory -----------------------------------------------------


@contextmanager
def errors_told(directory: Path, done: str = "") -> Iterator[None]:
    """Makes of whatever is raised an expected error, which also says what was `done`."""
    try:
        yield
    except (RunError, db.QueryFileError, db.LedgerError, db.DatabaseError):
        raise
    except db.LedgerLockedError as error:
        raise RunError(str(error), 4) from error
    except (OSError, sqlite3.Error) as error:
        reason = f"the ledger: {error}"
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
        message = f"Output could not be written to {directory}: {reason}. {done}"
        advice = "Make room there and run again: no event is added twice"
        raise RunError(message + advice, 4) from error
    except Exception as error:
        log.error("unexpected", exc_info=True)
        name = type(error).__name__
        raise RunError(f"The program failed ({name}). {done}See the log", 4) from error


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Holds the output directory against other runs, and removes what killed ones left.

    The lock is the kernel's: it ends with its process.
    """
    path = directory / ".iterable_integration.lock"
    try:
        file = open(path, "a+", opener=open_own)  # noqa: SIM115
    except OSError as error:
        raise RunError(
            f"The output directory cannot be written ({path}: {error.strerror}): "
            "mend that, or name another with --output-dir",
            2,
        ) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip()
            raise RunError(f"Another run is writing to {directory}: {holder}", 75) from None
        file.truncate(0)
        started = datetime.now().astimezone().isoformat(timespec="seconds")
        print(f"process {os.getpid()}, started {started}", file=file, flush=True)
        remove_leftovers(directory)
        yield


def open_own(path: str, flags: int) -> int:
    """Opens a file of ours, for open(): a symbolic link in its place leads to somebody else's."""
    if Path(path).is_symlink():
        raise OSError(errno.ELOOP, "it is a symbolic link")
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)


def remove_leftovers(directory: Path) -> None:
    """Removes what killed runs left, as far as it can be removed."""
    for pattern in (".query_results_*.part", ".integration_results_*.part"):
        for path in directory.glob(pattern):
            owner = path.stem.rpartition(".")[2]
            if owner == str(os.getpid()) or not is_process(owner):
                with suppress(OSError):
                    path.unlink()


def is_process(pid: str) -> bool:
    """Whether a process with this id is running."""
    try:
        os.kill(int(pid), 0)
    except PermissionError:
        return True  # somebody else's
    except (OSError, ValueError, OverflowError):
        return False
    return True


def start_log(settings: Settings, verbose: bool) -> None:
    """Logs to a rotating file and, where it is `verbose`, everything to the terminal, too."""
    path = settings.log_file or settings.output_dir / "iterable_integration.log"
    kind = RotatingFileHandler if settings.log_file else OwnLog
    handlers: list[logging.Handler] = []
    try:
        handlers.append(kind(path, maxBytes=5_000_000, backupCount=5, encoding="utf-8"))
    except OSError as error:
        message = f"The log {path} cannot be written ({error.strerror}): name another with LOG_FILE"
        raise RunError(message, 2) from None
    if verbose:
        handlers.append(logging.StreamHandler())
    level = "DEBUG" if verbose else settings.log_level
    for handler in handlers:
        handler.setLevel(level)
        handler.setFormatter(LogFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.raiseExceptions = False  # a full disk ends the run, or the log: no traceback a line
    # What libraries say below WARNING may hold addresses, such as a driver's rows.
    logging.basicConfig(level="WARNING", handlers=handlers, force=True)
    for name in ("main", "iterable_client", "db"):
        logging.getLogger(name).setLevel(level)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # the client logs what matters of it
    logging.getLogger("thrift").setLevel(logging.CRITICAL)  # it raises what it says, too


class OwnLog(RotatingFileHandler):
    """The log that nobody named, which is never a symbolic link."""

    def _open(self) -> Any:
        return open(self.baseFilename, self.mode, encoding=self.encoding, opener=open_own)


class LogFormatter(logging.Formatter):
    """One line a record, whatever a server says in it; then a traceback, without addresses."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """The line."""
        return db.printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """The traceback, in lines."""
        text = re.sub(r"\S+@\S+", "[address]", super().formatException(ei))
        return "\n".join(map(db.printable, text.split("\n")))


@dataclass(frozen=True)
class Files:
    """What a run writes."""

    csv: iterable_client.CsvFile
    results: iterable_client.OutputFile
    spool: IO[bytes]  # nameless: rows from the query until they are sent


@contextmanager
def open_files(job: Job) -> Iterator[Files]:
    """Opens them; those that were not committed are gone afterwards."""
    directory = job.directory
    stamp = f"{job.started.astimezone():%Y%m%d_%H%M%S}"
    csv = iterable_client.CsvFile(directory, f"query_results_{stamp}.csv")
    with closing(csv):
        results = iterable_client.OutputFile(directory, f"integration_results_{stamp}.json")
        with closing(results), tempfile.TemporaryFile(dir=directory) as spool:
            yield Files(csv, results, spool)


# --- Command line -------------------------------------------------------------

EPILOG = """\
Settings come from the environment, then from .env; .env.example lists them all.
Exit codes: 0 all delivered, 1 some rows failed, 2 command line, settings, queries file or
output directory, 3 database, 4 aborted, 75 another run holds the lock, 129, 130 and 143
interrupted.
"""


@dataclass(frozen=True)
class Options:
    """The command line."""

    demo: bool
    dry_run: bool
    as_of: str | None
    limit: int | None
    env_file: Path | None
    quiet: bool
    verbose: bool
    settings: Mapping[str, str]  # by setting: texts that go before the environment's


def parse_args(argv: Sequence[str] | None) -> Options:
    """Reads the command line; what is wrong with it ends the program with code 2."""
    parser = make_parser()
    args = vars(parser.parse_args(argv))
    if args["limit"] is not None and not 1 <= args["limit"] <= sys.maxsize:
        parser.error("--limit must be at least 1, and a number of rows that can be")
    given = {}
    for entry in fields(Settings):
        text = args.pop(entry.name, None)
        if text:
            given[entry.name] = text
    return Options(**args, settings=given)


def make_parser() -> argparse.ArgumentParser:
    """The command line's grammar and help."""
    parser = argparse.ArgumentParser(
        "main.py",
        description="Sends the rows of a SQL query to Iterable, as user updates and events.",
        epilog=EPILOG,
        formatter_class=partial(  # the same on every terminal, as the README shows it
            argparse.RawDescriptionHelpFormatter, max_help_position=20, width=96
        ),
        allow_abbrev=False,
        add_help=False,
    )
    mode = parser.add_mutually_exclusive_group()
    volume = parser.add_mutually_exclusive_group()
    add_switch(mode, "--demo", "The whole job on sample data, against a local stand-in")
    add_switch(mode, "--dry-run", "Query and write both files, but send nothing; needs no API key")
    for entry in fields(Settings):
        add_setting_flag(parser, entry.name, entry.metadata)
    as_of = "End of the window, YYYY-MM-DD[ HH:MM[:SS][Z|+HH:MM]]; default now"
    parser.add_argument("--as-of", metavar="TIME", help=as_of)
    limit = "Take only the first N rows of the query"
    parser.add_argument("--limit", metavar="N", type=int, help=limit)
    env_file = "Read settings from FILE instead of .env"
    parser.add_argument("--env-file", metavar="FILE", type=Path, help=env_file)
    add_switch(volume, "--quiet", "Print nothing unless something failed, for cron")
    add_switch(volume, "--verbose", "Show the log on the terminal, with every attempt")
    parser.add_argument("-h", "--help", action="help", help="Show this text")
    return parser


def add_switch(group: argparse._ActionsContainer, flag: str, text: str) -> None:
    """An option without a value."""
    group.add_argument(flag, action="store_true", help=text)


def add_setting_flag(
    parser: argparse.ArgumentParser, name: str, metadata: Mapping[str, Any]
) -> None:
    """The option that stands for a setting, where it has one."""
    flag, _, metavar = metadata["flag"].partition(" ")
    text = f"{metadata['help']} (setting {name.upper()})".replace("%", "%%")
    if metavar:
        parser.add_argument(flag, dest=name, metavar=metavar, help=text)
    elif flag:
        parser.add_argument(flag, dest=name, action="store_const", const="true", help=text)


# --- Settings -----------------------------------------------------------------


@dataclass(frozen=True)
class Format:
    """What the text of a setting must be, and what reads it, raising ValueError for any other."""

    expected: str
    read: Callable[[str], Any]


def matching(expected: str, pattern: str, read: Callable[[str], Any] = str) -> Format:
    """Text that matches a pattern."""

    def read_matching(text: str) -> Any:
        if not re.fullmatch(pattern, text, re.ASCII):
            raise ValueError(expected)
        return read(text)

    return Format(expected, read_matching)


def in_range(read: Callable[[str], float], least: float, most: float) -> Format:
    """A number in a range, both ends included."""
    kind = "a whole number" if read is int else "a number"
    expected = f"{kind} from {least:g} to {most:g}"

    def read_number(text: str) -> float:
        value = read(text)
        if not least <= value <= most:
            raise ValueError(expected)
        return value

    return Format(expected, read_number)


def read_zone(text: str) -> ZoneInfo:
    """A time zone by its name in the IANA database."""
    try:
        return ZoneInfo(text)
    except (KeyError, OSError) as error:
        raise ValueError(text) from error


HOST = r"[A-Za-z\d-]{1,63}(\.[A-Za-z\d-]{1,63})*|[\da-f.]*:[\da-f:.]+"  # or an address of IPv6


def read_base_url(text: str) -> str:
    """The beginning of every URL of Iterable's API; over plain http no key goes but to loopback."""
    parts = urlsplit(text)
    host = parts.hostname or ""
    is_safe = parts.scheme == "https"
    if parts.scheme == "http":
        is_safe = iterable_client.is_loopback(host)
    base_url = f"{parts.scheme}://{parts.netloc}"
    has_more = text.rstrip("/") != base_url or "@" in parts.netloc
    if has_more or not is_safe or not re.fullmatch(HOST, host):
        raise ValueError(text)
    _ = parts.port  # raises ValueError where it is none
    return base_url


def is_true(text: str) -> bool:
    """What "true" or "false" means."""
    return text.lower() == "true"


NAME = matching("one word", r"[^\0]+")
PATH = matching("a path", r"[^\0]+", Path)
FLAG = matching("true or false", "(?i)true|false", is_true)
MODE = matching("auto or single or bulk", "(?i)auto|single|bulk", str.lower)
LEVEL = matching("DEBUG or INFO or WARNING or ERROR", "(?i)debug|info|warning|error", str.upper)
KEY = matching(  # it goes into a header, and what is redacted must not be a word
    "8 or more characters of ASCII without spaces, such as 0123456789abcdef", r"[!-~]{8,}"
)
ZONE = Format("a time zone, such as Europe/Berlin", read_zone)
DATABASE_URL = Format(
    "a URL, such as sqlite:///customers.db or postgresql://user:password@host/database",
    db.check_url,
)
BASE_URL = Format(
    "https:// and a host and nothing else, such as https://api.iterable.com", read_base_url
)


def setting(form: Format, default: str, text: str, flag: str = "") -> Any:
    """A field of Settings: its format, default as text ("" for none), help, and option."""
    return field(metadata={"format": form, "default": default, "help": text, "flag": flag})


@dataclass(frozen=True)
class Settings:
    """Every setting. This table drives parsing, its errors and the help of the command line.

    Tests hold .env.example and README to it.
    """

    # fmt: off
    database_url: str = setting(
        DATABASE_URL, "", "The database; @ : / # in its password are percent-encoded")
    database_timezone: ZoneInfo = setting(
        ZONE, "UTC", "Zone of the database's times that have none")
    queries_file: Path = setting(
        PATH, str(HERE / "queries.sql"), "The queries, and how their columns map to Iterable")
    query: str = setting(
        NAME, "pro_users_recent_engagement", "The query whose rows are sent", "--query NAME")
    lookback_days: float = setting(
        in_range(float, 0.001, 36500), "7", "Length of the window, in days of 24 hours", "--days N")
    iterable_api_key: str | None = setting(
        KEY, "", "Server-side API key, or with USE_JWT_AUTH a JWT-enabled one")
    use_jwt_auth: bool = setting(
        FLAG, "false", "Sign every call, as JWT-enabled keys demand")
    iterable_jwt_secret: str | None = setting(
        KEY, "", "The JWT-enabled key's secret, which Iterable showed once")
    iterable_api_base_url: str = setting(
        BASE_URL, "https://api.iterable.com", "In the EU https://api.eu.iterable.com")
    send_mode: str = setting(
        MODE, "auto", "auto: single calls up to 500 rows, and with JWT; bulk calls above")
    workers: int | None = setting(
        in_range(int, 1, 512), "", "Calls at a time; default 64 single or 6 bulk ones")
    rate_limit_factor: float = setting(
        in_range(float, 0.001, 10000), "0.95", "Share of Iterable's limits that is used")
    max_retries: int = setting(
        in_range(int, 1, 20), "3", "Attempts of a call in all")
    backoff_factor: float = setting(
        in_range(float, 1, 10), "2", "Each wait between attempts is so many times the last")
    initial_backoff: float = setting(
        in_range(float, 0, 60), "1", "Seconds of the first wait between attempts")
    request_timeout: float = setting(
        in_range(float, 0.1, 600), "30", "Seconds of silence that end an attempt")
    send_only_changes: bool = setting(
        FLAG, "false", "Skip what Iterable accepted before, unchanged", "--only-changes")
    output_dir: Path = setting(
        PATH, ".", "Where CSV, results, lock and log go; a directory for each sync",
        "--output-dir DIR")
    log_file: Path | None = setting(
        PATH, "", "The log; default iterable_integration.log in OUTPUT_DIR")
    log_level: str = setting(
        LEVEL, "INFO", "What is logged, at the least")
    # fmt: on


def load_settings(options: Options, texts: Mapping[str, str | None]) -> Settings:
    """Settings from options, texts by name, and defaults; the RunError says all that is wrong."""
    values: Json = {}
    faults = {}
    for entry in fields(Settings):
        name, text = find_text(entry, options, texts)
        form = entry.metadata["format"]
        try:
            values[entry.name] = form.read(text) if text else None
        except ValueError:
            faults[entry.name] = f"{name} must be {form.expected}"
    for entry in required_settings(options, values):
        if entry.name not in faults and values[entry.name] is None:
            expected = entry.metadata["format"].expected
            faults[entry.name] = f"{entry.name.upper()} is not set: it must be {expected}"
    if values.get("use_jwt_auth") and values.get("send_mode") == "bulk":
        faults["send_mode"] = (
            "SEND_MODE must be auto or single with USE_JWT_AUTH: such keys cannot call bulk "
            "operations"
        )
    if faults:
        raise settings_error(faults)
    return Settings(**values)


def find_text(
    entry: Field[Any], options: Options, texts: Mapping[str, str | None]
) -> tuple[str, str]:
    """The text of a setting, by default its default, and its name as the user wrote it."""
    if entry.name in options.settings:
        flag = str(entry.metadata["flag"]).split()[0]
        return flag, options.settings[entry.name]
    name = entry.name.upper()
    text = texts.get(name) or ""
    return name, text if text.strip() else entry.metadata["default"]


def required_settings(options: Options, values: Mapping[str, Any]) -> list[Field[Any]]:
    """The settings without which a run cannot begin, given the values of the others."""
    names = ["database_url"]
    if not options.dry_run:
        names.append("iterable_api_key")
        if values.get("use_jwt_auth"):
            names.append("iterable_jwt_secret")
    return [entry for entry in fields(Settings) if entry.name in names]


def settings_error(faults: Mapping[str, str]) -> RunError:
    """What is wrong with settings, in the order of the table."""
    lines = ["Settings need attention:"]
    for entry in fields(Settings):
        if entry.name in faults:
            lines.append(f"  {faults[entry.name]}")
    lines.append(
        "Copy .env.example to .env and fill it in. "
        "The whole job without settings: python main.py --demo"
    )
    return RunError("\n".join(lines), 2)


@contextmanager
def setting_texts(options: Options) -> Iterator[Mapping[str, str | None]]:
    """The texts of settings: the demo's, or those of the environment and the env file."""
    if not options.demo:
        yield read_env(options)
        return
    from tests.demo import demo_settings  # nothing else needs it

    with demo_settings() as texts:
        yield texts


def find_env_file(options: Options) -> Path | None:
    """The env file to read: the one that was named, else the first that exists."""
    if options.demo or options.env_file:
        return options.env_file
    for path in (Path(".env"), HERE / ".env"):
        # Not Path.exists(), which raises in a directory that may not be searched.
        if os.access(path, os.F_OK):
            return path
    return None


def read_env(options: Options) -> dict[str, str | None]:
    """The environment and, for what is unset or empty there, the env file."""
    texts: dict[str, str | None] = {}
    path = find_env_file(options)
    if path:
        texts = read_env_file(path)
    for name, text in os.environ.items():
        if text:
            texts[name] = text
    return texts


def read_env_file(path: Path) -> dict[str, str | None]:
    """The texts of an env file, by name."""
    try:
        text = db.read_regular(path, 1_000_000).decode()
    except OSError as error:
        raise RunError(f"The env file {path} cannot be read: {error.strerror}", 2) from None
    except UnicodeDecodeError:
        raise RunError(f"The env file {path} cannot be read: it is not UTF-8", 2) from None
    texts = {}
    for binding in parse_stream(io.StringIO(text)):
        if binding.error:
            line = binding.original.line
            raise RunError(f"{path}, line {line}: not NAME=value; is a quote missing?", 2)
        if binding.key:
            texts[binding.key] = binding.value
    return texts


def warn_of_readable_env_file(options: Options) -> None:
    """Logs that others can read the secrets in the env file, where they can."""
    path = find_env_file(options)
    if path is None:
        return
    with suppress(OSError):
        if path.stat().st_mode & 0o077:
            log.warning("%s holds secrets and can be read by others: chmod 600 %s", path, path)


# --- The query, and what its columns mean -------------------------------------

KEYS = (
    "email",
    "userId",
    "user fields",
    "event",
    "event fields",
    "event time",
    "event id",
    "merge nested",
    "new fields",
)


def prepare_job(options: Options, settings: Settings) -> Job:
    """What a run is to do; RunError or QueryFileError where it cannot begin."""
    started, began = datetime.now(timezone.utc), time.monotonic()
    since, until = find_window(options, settings, started)
    queries = db.load_queries(settings.queries_file, KEYS)
    reports = []
    for query in queries.values():
        if query.keys:
            check_mapping(query)
        else:
            reports.append(query)
    query_name = settings.query
    if query_name not in queries:
        names = ", ".join(queries)
        message = f"{settings.queries_file} has no query {query_name!r:.99}; it has {names}"
        raise RunError(message, 2)
    query = queries[query_name]
    if not query.keys:
        raise query.error(
            "this is a report, without keys that say what to send: choose another with --query"
        )
    return Job(options, settings, query, reports, since, until, started, began)


def find_window(
    options: Options, settings: Settings, started: datetime
) -> tuple[datetime, datetime]:
    """The window of the queries: `--days` before `--as-of`."""
    as_of = options.as_of or started.isoformat(" ", "seconds")
    if options.demo and not options.as_of:
        from tests.demo import AS_OF  # nothing else needs it

        as_of = AS_OF
    try:
        return db.window(as_of, settings.lookback_days, settings.database_timezone)
    except (ValueError, OverflowError):
        raise RunError(
            f"--as-of {as_of!r} must be YYYY-MM-DD or YYYY-MM-DD HH:MM:SS, perhaps with Z or "
            "+HH:MM, and not too far in the past",
            2,
        ) from None


def columns_of(query: db.Query, key: str) -> list[str]:
    """The columns that a key of the query's comment names."""
    names = [name.strip() for name in query.keys.get(key, "").split(",")]
    return [name for name in names if name]


def check_mapping(query: db.Query) -> None:
    """Raises QueryFileError where the keys of a query's comment do not make sense together."""
    keys = query.keys
    if ("email" in keys) == ("userId" in keys):
        raise query.error(
            "exactly one of the keys 'email' and 'userId' must name the column of the user"
        )
    for key in ("email", "userId", "event time"):
        if key in keys and len(columns_of(query, key)) != 1:
            raise query.error(f"'{key}' names one column, and no more", key)
    for name in ("email", "userId"):
        if name in keys and name in columns_of(query, "user fields"):
            raise query.error(
                f"'{name}' cannot be a user field here: it is what identifies the user",
                "user fields",
            )
    for key in ("merge nested", "new fields"):
        if keys.get(key, "yes") not in ("yes", "no"):
            raise query.error(f"'{key}' must be yes or no", key)
    if "merge nested" in keys and "user fields" not in keys:
        raise query.error("'merge nested' needs '-- user fields: ...' beside it", "merge nested")
    if "event" in keys:
        if "event time" not in keys and "event id" not in keys:
            raise query.error(
                "'event' needs 'event time' or 'event id': a second run would add it again",
                "event",
            )
        return
    for key in ("event fields", "event time", "event id"):
        if key in keys:
            raise query.error(f"'{key}' needs '-- event: name' beside it", key)
    if "user fields" not in keys:
        raise query.error("nothing would be sent: add '-- user fields: ...' or '-- event: name'")


class Column(NamedTuple):
    """A column of the query's result."""

    name: str
    place: int
    type_name: str = ""  # one of db.CELL_TYPES, where the query's comment names one


@dataclass(frozen=True)
class EventPlan:
    """How a row becomes an event."""

    name: str
    fields: list[Column]
    time: Column | None
    own: list[Column]  # those that tell one event from another

    @cached_property
    def untyped_fields(self) -> list[Column]:
        """The fields as an id without `own` is made of them: a type changes no id.

        [] where no field has a type: then they are what is sent, too.
        """
        if not any(column.type_name for column in self.fields):
            return []
        return [Column(column.name, column.place) for column in self.fields]


@dataclass(frozen=True)
class Plan:
    """How a row becomes calls: the keys of the query's comment, resolved to places once."""

    identifier_kind: str  # "email" or "userId"
    identifier: Column
    user_fields: list[Column] | None  # None: the query sends no user updates
    other_identifier: Column | None  # a userId-based project learns the address, and the reverse
    event: EventPlan | None  # None: it sends no events
    options: Mapping[str, bool]  # mergeNestedObjects, createNewFields: where the query says so
    zone: ZoneInfo  # of times that have none

    @property
    def calls_per_row(self) -> int:
        """One or two."""
        return int(self.user_fields is not None) + int(self.event is not None)


def make_plan(query: db.Query, columns: Sequence[str], zone: ZoneInfo) -> Plan:
    """Resolves the keys of a query's comment; QueryFileError where there is no such column."""

    def find(key: str) -> list[Column]:
        return [find_column(query, columns, key, text) for text in columns_of(query, key)]

    kind = "email" if "email" in query.keys else "userId"
    [identifier] = find(kind)
    other_identifier = None
    user_fields = None
    if "user fields" in query.keys:
        user_fields = []
        for column in find("user fields"):
            is_identifier = column.name in ("email", "userId")
            if is_identifier and (column.name == kind or column.type_name):
                raise query.error(f"'{column.name}' identifies, and takes no type", "user fields")
            if is_identifier:
                other_identifier = column
            else:
                user_fields.append(column)
    event = None
    if "event" in query.keys:
        time_columns = find("event time")
        event = EventPlan(
            name=query.keys["event"],
            fields=find("event fields"),
            time=time_columns[0] if time_columns else None,
            own=find("event id"),
        )
    return Plan(
        kind, identifier, user_fields, other_identifier, event, payload_options(query), zone
    )


def payload_options(query: db.Query) -> dict[str, bool]:
    """What the keys `merge nested` and `new fields` mean to Iterable."""
    options = {}
    for key, name in (("merge nested", "mergeNestedObjects"), ("new fields", "createNewFields")):
        if key in query.keys:
            options[name] = query.keys[key] == "yes"
    return options


TYPED_KEYS = ("user fields", "event fields")


def find_column(query: db.Query, columns: Sequence[str], key: str, text: str) -> Column:
    """The column that a key names, for a field perhaps with its type: `amount decimal`.

    Raises:
        QueryFileError: the query returns no such column, or there is no such type.
    """
    if text in columns:  # first, since a column's own name may end in such a word
        return Column(text, columns.index(text))
    name, _, type_name = text.rpartition(" ")
    name = name.strip()
    if name not in columns:
        there = ", ".join(columns)
        raise query.error(f"'{key}' names '{text}', but the columns are {there}", key)
    if key not in TYPED_KEYS:
        raise query.error(f"'{key}' takes no types: write '{name}' alone", key)
    if type_name not in db.CELL_TYPES:
        types = ", ".join(db.CELL_TYPES)
        raise query.error(f"'{type_name}' is none of the types ({types})", key)
    return Column(name, columns.index(name), type_name)


@dataclass(frozen=True)
class Fetched:
    """What the database gave; the rows are in the CSV and in the spool."""

    plan: Plan
    total: int  # rows
    longest_row: int  # in characters
    reports: dict[str, list[Json]]


REPORT_ROWS = 1000


def fetch(job: Job, files: Files) -> Fetched:
    """Runs the queries: reports into memory, the rows to send into the CSV and the spool."""
    settings, query = job.settings, job.query
    url = db.describe_url(settings.database_url)
    log.info("%s from %s, %s to %s", query.name, url, job.since, job.until)
    reports = {}
    with db.connect(settings.database_url, settings.database_timezone) as database:
        for report in job.reports:
            columns, rows = database.rows(report, job.since, job.until)
            reports[report.name] = [
                report_row(columns, row, settings.database_timezone)
                for row in islice(rows, REPORT_ROWS)
            ]
        columns, rows = database.rows(query, job.since, job.until)
        plan = make_plan(query, columns, settings.database_timezone)
        files.csv.write(columns)
        taken = islice(rows, job.options.limit)
        total = db.spool(query, taken, files.spool, files.csv.write)
    log.info("%d rows", total)
    return Fetched(plan, total, files.csv.longest_row, reports)


def report_row(columns: Sequence[str], row: Sequence[Any], zone: ZoneInfo) -> Json:
    """A row of a report, for the results file. It is read by people: anything goes as text."""
    cells = dict(zip(columns, row, strict=True))
    try:
        return iterable_client.clean_fields(cells, zone)
    except iterable_client.InvalidValueError:
        return {name: str(cell) for name, cell in cells.items()}


# --- From a row to calls ------------------------------------------------------


def plan_batches(plan: Plan, spool: IO[bytes], field_kinds: FieldKinds) -> Iterator[list[Row]]:
    """The rows of the spool, with their calls, in its batches."""
    number = 0
    for batch in db.spooled(spool):
        field_kinds.note(batch)
        rows = []
        for cells in batch:
            number += 1
            rows.append(plan_row(plan, number, cells))
        yield rows


def plan_row(plan: Plan, number: int, cells: Sequence[Any]) -> Row:
    """A row with its calls; one that cannot be made has its outcome already."""
    value = cells[plan.identifier.place]
    try:
        user = iterable_client.normalize_identifier(plan.identifier_kind, value)
    except iterable_client.InvalidValueError as error:
        return nobodys_row(plan, number, value, error)
    update = None
    if plan.user_fields is not None:
        update = plan_update(plan, plan.user_fields, user, cells)
    event = None
    event_id = None
    if plan.event is not None:
        event = plan_event(plan, plan.event, user, cells)
        if event.payload is not None:
            event_id = event.payload["id"]
    return Row(number, user, event_id, update, event)


def nobodys_row(
    plan: Plan, number: int, value: Any, error: iterable_client.InvalidValueError
) -> Row:
    """A row whose identifier is none: all of its calls fail."""
    update = None if plan.user_fields is None else Call(None, error.outcome)
    event = None if plan.event is None else Call(None, error.outcome)
    text = None
    if value is not None:
        text = str(value).encode(errors="backslashreplace").decode()
    return Row(number, text, None, update, event)


def plan_update(plan: Plan, columns: list[Column], user: str, cells: Sequence[Any]) -> Call:
    """A row's user update; where a cell cannot be sent, one that failed."""
    try:
        user_fields = data_fields(columns, cells, plan.zone)
        if plan.other_identifier:
            add_identifier(user_fields, plan.other_identifier, cells)
    except iterable_client.InvalidValueError as error:
        return Call(None, error.outcome)
    payload = iterable_client.user_update(plan.identifier_kind, user, user_fields)
    payload.update(plan.options)
    return Call(payload)


def add_identifier(user_fields: Json, column: Column, cells: Sequence[Any]) -> None:
    """Adds a user's address where the userId identifies them, or the reverse.

    Source: https://support.iterable.com/hc/articles/29156459027348 (identifying users by email or
    userId). A user who has none keeps the one that Iterable knows: null would take it away.
    """
    value = cells[column.place]
    if value is not None and str(value).strip():
        name = column.name
        user_fields[name] = iterable_client.normalize_identifier(name, value)


def plan_event(plan: Plan, event: EventPlan, user: str, cells: Sequence[Any]) -> Call:
    """A row's event; where a cell cannot be sent, one that failed."""
    try:
        event_fields = data_fields(event.fields, cells, plan.zone)
        time = None if event.time is None else event_time(event.time, cells, plan.zone)
        created = None if time is None else iterable_client.unix_seconds(time)
        parts = event_id_parts(event, cells, time, plan.zone) or [created, event_fields]
    except iterable_client.InvalidValueError as error:
        return Call(None, error.outcome)
    event_id = iterable_client.make_event_id([user, event.name, *parts])
    payload = iterable_client.event(
        plan.identifier_kind, user, event.name, event_fields, created, event_id
    )
    if "createNewFields" in plan.options:
        payload["createNewFields"] = plan.options["createNewFields"]
    return Call(payload)


def event_time(column: Column, cells: Sequence[Any], zone: ZoneInfo) -> datetime:
    """When an event happened, in UTC."""
    try:
        return iterable_client.to_utc(db.parse_time(cells[column.place], zone), zone)
    except ValueError as error:
        message = f"column {column.name}: {error}"
        raise iterable_client.InvalidValueError(message) from None


def event_id_parts(
    event: EventPlan, cells: Sequence[Any], time: datetime | None, zone: ZoneInfo
) -> list[Any]:
    """What goes into an event's id, beside user and name: what tells it from others.

    That is the values of the `event id` columns or, without such columns, the time and the
    fields as they are without types; [] where these are just what is sent. To change anything
    here would double every event that was ever sent.
    """
    if event.own:
        return own_values(event, cells, time, zone)
    if event.untyped_fields:
        created = None if time is None else iterable_client.unix_seconds(time)
        return [created, data_fields(event.untyped_fields, cells, zone)]
    return []


def own_values(
    event: EventPlan, cells: Sequence[Any], time: datetime | None, zone: ZoneInfo
) -> list[Any]:
    """The values of the `event id` columns.

    Times have Iterable's form, with the fraction of a second that a field would lose.
    """
    parts: list[Any] = []
    for name, place, _ in event.own:
        value = cells[place]
        if event.time and place == event.time.place:
            value = time
        elif isinstance(value, datetime):
            value = iterable_client.to_utc(value, zone)
        if isinstance(value, datetime):
            value = iterable_client.format_time(value)
        # Most cells, without a call.
        is_plain = value.__class__ is int or (value.__class__ is str and value.isascii())
        parts.append(value if is_plain else iterable_client.clean_field(name, value, zone))
    if parts.count(None) == len(parts):
        message = f"column {event.own[0].name}: nothing tells this event from others"
        raise iterable_client.InvalidValueError(message)
    return parts


def data_fields(columns: Sequence[Column], cells: Sequence[Any], zone: ZoneInfo) -> Json:
    """The dataFields of a row."""
    data = {}
    for name, place, type_name in columns:
        value = cells[place]
        if type_name:
            value = cast_cell(name, type_name, value, zone)
        # Most cells, without a call: this loop is where a large run spends its time.
        if value is None or (value.__class__ is str and value.isascii()):
            data[name] = value
        else:
            data[name] = iterable_client.clean_field(name, value, zone)
    return data


def cast_cell(name: str, type_name: str, value: Any, zone: ZoneInfo) -> Any:
    """db.cast_cell() of a column."""
    try:
        return db.cast_cell(type_name, value, zone)
    except ValueError as error:
        raise iterable_client.InvalidValueError(f"column {name}: {error}") from None


JSON_KINDS: dict[type, str] = {
    str: "text",
    datetime: "text",
    int: "integer",
    float: "fraction",
    Decimal: "fraction",
    bool: "boolean",
    dict: "object",
    list: "array",
}
TYPE_FOR_KINDS = {
    frozenset({"integer", "fraction"}): "decimal",
    frozenset({"integer", "boolean"}): "boolean",
    frozenset({"integer", "text"}): "text",
    frozenset({"object", "array"}): "json",
}
# What Iterable manages itself, or reads in a way of its own.
MANAGED_FIELDS = frozenset(
    {
        "devices",
        "emailListIds",
        "itblDS",
        "itblInternal",
        "itblUserId",
        "profileUpdatedAt",
        "signupDate",
        "signupSource",
        "subscribedMessageTypeIds",
        "unsubscribedChannelIds",
        "unsubscribedMessageTypeIds",
    }
)
LONGEST_TEXT = 32_000  # characters; of longer ones Iterable does not index all


class FieldKinds:
    """Which kinds of JSON each field goes out as: Iterable keeps the one that it sees first.

    A batch at a time and by columns, that costs 0.04 us a cell.
    """

    def __init__(self, fetched: Fetched) -> None:
        plan = fetched.plan
        self._may_be_long = fetched.longest_row > LONGEST_TEXT
        self._user_fields = plan.user_fields or []
        self._types: dict[tuple[str, Column], set[type]] = {}
        self._long: set[str] = set()
        for column in self._user_fields:
            self._types["user fields", column] = set()
        for column in plan.event.fields if plan.event else []:
            self._types["event fields", column] = set()

    def note(self, batch: Sequence[Sequence[Any]]) -> None:
        """Takes notice of rows."""
        for (_, column), types in self._types.items():
            cells = [row[column.place] for row in batch]
            types.update(map(type, cells))
            if self._may_be_long:
                texts = [cell for cell in cells if isinstance(cell, str)]
                if any(len(text) > LONGEST_TEXT for text in texts):
                    self._long.add(column.name)

    def warnings(self) -> list[str]:
        """What a person should know, with what to write."""
        found = []
        for (key, column), types in self._types.items():
            kinds = {JSON_KINDS[each] for each in types if each in JSON_KINDS}
            if len(kinds) > 1 and not column.type_name:
                advice = "cast it in the query"
                if frozenset(kinds) in TYPE_FOR_KINDS:
                    type_name = TYPE_FOR_KINDS[frozenset(kinds)]
                    advice = f"write '-- {key}: {column.name} {type_name}'"
                names = " and ".join(sorted(kinds))
                found.append(f"Field {column.name} goes out as {names}: {advice}")
        for name in sorted(self._long):
            found.append(f"Field {name} has text of over {LONGEST_TEXT:,} characters")
        for column in self._user_fields:
            if column.name in MANAGED_FIELDS:
                found.append(f"Field {column.name} is one that Iterable manages itself")
        return found


# --- The ledger: what Iterable accepted before --------------------------------


@contextmanager
def open_ledger(job: Job) -> Iterator[db.Ledger | None]:
    """The ledger, where the run has one; a dry run's is a copy.

    One that is there is kept true without the option, too: what is sent now would else be
    taken for unchanged later.
    """
    settings = job.settings
    path = settings.output_dir / "delivery_ledger.sqlite3"
    is_kept_true = not job.options.dry_run and os.path.lexists(path)
    is_used = settings.send_only_changes or is_kept_true
    if not is_used or not settings.iterable_api_key:
        yield None
        return
    project = f"{settings.iterable_api_base_url} {settings.iterable_api_key}"
    with closing(db.Ledger(path, project, writable=not job.options.dry_run)) as ledger:
        yield ledger


def ledger_warnings(job: Job, ledger: db.Ledger | None) -> list[str]:
    """What a person should know of the ledger."""
    if not job.settings.send_only_changes:
        return []
    if ledger is None:
        return [
            "Without ITERABLE_API_KEY nobody can tell what was sent before: every call is shown"
        ]
    if ledger.is_new_project:
        return ["The ledger does not know this API key and base URL: everything is sent once more"]
    return []


def skip_known(ledger: db.Ledger, job: Job, batches: Iterable[list[Row]]) -> Iterator[list[Row]]:
    """Takes out of the calls what Iterable accepted before; nothing without the option."""
    for rows in batches:
        if ledger.has_old_entries:
            ledger.take_over(list(old_and_new_marks(ledger, job.query.name, rows)))
        calls = mark_calls(ledger, rows)
        parts = [(call, name) for call in calls for name in call.mark]
        marks = [call.mark[name] for call, name in parts]
        if job.settings.send_only_changes:
            known = ledger.begin(marks)
            for (call, name), is_known in zip(parts, known, strict=True):
                if is_known:
                    del call.mark[name]
            for call in calls:
                keep_marked(call)
        else:
            ledger.begin_all(marks)
        yield rows


def mark_calls(ledger: db.Ledger, rows: Iterable[Row]) -> list[Call]:
    """Marks the calls of rows, an update by field, and returns those that can be made."""
    calls = []
    for row in rows:
        if row.update and row.update.payload is not None:
            row.update.mark = mark_update(ledger, row.user, row.update.payload)
            calls.append(row.update)
        if row.event and row.event.payload is not None:
            row.event.mark = {WHOLE: ledger.mark(f"{row.event_id}", row.event.payload)}
            calls.append(row.event)
    return calls


WHOLE = ""  # the name of the only mark of an event, and of an update without fields


def mark_update(ledger: db.Ledger, user: str | None, payload: Json) -> dict[str, db.Mark]:
    """A mark for each field of a user update, whichever query sends it."""
    kind = "email " if "email" in payload else "userId "
    if not payload["dataFields"]:  # it makes the user, and no more
        return {WHOLE: ledger.mark(f"{kind}{user}", payload)}
    return ledger.mark_fields(f"{kind}{user}", payload["dataFields"])


def keep_marked(call: Call) -> None:
    """Leaves in a call the fields that still have a mark; without any it is skipped."""
    if not call.mark:
        call.outcome = iterable_client.SKIPPED
        call.payload = None  # thousands of rows may wait beside the few that go out
        call.mark = None
    elif WHOLE not in call.mark and call.payload is not None:
        fields_ = call.payload["dataFields"]
        call.payload["dataFields"] = {name: fields_[name] for name in call.mark}


def old_and_new_marks(
    ledger: db.Ledger, query_name: str, rows: Iterable[Row]
) -> Iterator[tuple[db.Mark, list[db.Mark]]]:
    """Of each user update the mark that ledgers once had, and those of its fields."""
    for row in rows:
        if row.update and row.update.payload is not None:
            old = ledger.mark(f"{query_name} {row.user}", row.update.payload)
            of_fields = mark_update(ledger, row.user, row.update.payload)
            yield old, list(of_fields.values())


def tell_ledger(ledger: db.Ledger, settled: Settled) -> None:
    """Records what Iterable accepted; a field that it dropped, saying success, is none of it."""
    ended = []
    dropped = {name.partition(".")[0] for name in settled.dropped_user_fields}
    for row in settled.rows:
        for call in row.calls:
            if call.mark is not None:
                is_accepted = call.outcome is not None and call.outcome.kind == Kind.ACCEPTED
                for name, mark in call.mark.items():
                    ended.append((mark, is_accepted and name not in dropped))
    ledger.end(ended)


MERGED_ROWS = 5000  # in memory at a time, for each batch on its way


def merge_sparse(batches: Iterable[list[Row]]) -> Iterator[list[Row]]:
    """Joins neighbours that together leave no more to send than one full batch.

    Three batches of which 30% are left to send go out as one request. A batch is full by rows
    or by characters, so what is left of it counts as a fraction of a full one.
    """
    merged: list[Row] = []
    merged_fraction = 0.0
    for rows in batches:
        fraction = sum(is_left_to_send(row) for row in rows) / len(rows)
        is_too_much = merged_fraction + fraction > 1 or len(merged) >= MERGED_ROWS
        if merged and is_too_much:
            yield merged
            merged = []
            merged_fraction = 0.0
        merged = merged + rows
        merged_fraction += fraction
    if merged:
        yield merged


def is_left_to_send(row: Row) -> bool:
    """Whether any of its calls has no outcome yet."""
    return any(call.outcome is None for call in row.calls)


# --- Sending ------------------------------------------------------------------

SINGLE_ROWS = 500  # the most that SEND_MODE=auto sends through the single operations


@dataclass(frozen=True)
class Sending:
    """How rows are sent."""

    is_bulk: bool
    workers: int


def choose_sending(settings: Settings, total: int) -> Sending:
    """By the bulk operations or the single ones, depending on the number of rows."""
    is_bulk = settings.send_mode == "bulk"
    if settings.send_mode == "auto":
        is_bulk = total > SINGLE_ROWS and not settings.use_jwt_auth
    return Sending(is_bulk, settings.workers or (6 if is_bulk else 64))


def make_client(job: Job, signals: Signals, plan: Plan) -> IterableClient:
    """The client of a run."""
    settings = job.settings
    return IterableClient(
        settings.iterable_api_key,
        settings.iterable_jwt_secret,
        settings.use_jwt_auth,
        settings.iterable_api_base_url,
        max_retries=settings.max_retries,
        backoff_factor=settings.backoff_factor,
        initial_backoff=settings.initial_backoff,
        timeout=settings.request_timeout,
        workers=settings.workers or 64,  # also for what a bulk run sends again singly
        rate_limit_factor=settings.rate_limit_factor,
        zone=settings.database_timezone,
        give_up_after=10 * plan.calls_per_row,  # that is, at least 10 rows
        stop=signals.stop,
    )


# --- Results ------------------------------------------------------------------


class RowState(str, Enum):  # of str, whose hash is C
    """What became of a row, by the names that the results file has for the counts."""

    SUCCESSFUL = "successful"
    PARTIAL_FAILURE = "partial_failures"
    FAILED = "total_failures"
    UNCHANGED = "unchanged"
    NOT_SENT = "not_sent"
    PLANNED = "planned"  # in a dry run


Kinds = tuple[Kind | None, ...]  # of the outcomes of a row's calls; None: it would be sent


@cache
def judge_row(kinds: Kinds) -> RowState:
    """What became of a row."""
    if None in kinds:
        return RowState.PLANNED
    tried = [kind for kind in kinds if kind != Kind.SKIPPED]
    if not tried:
        return RowState.UNCHANGED
    if tried.count(Kind.NOT_SENT) == len(tried):
        return RowState.NOT_SENT
    if tried.count(Kind.ACCEPTED) == len(tried):
        return RowState.SUCCESSFUL
    if Kind.ACCEPTED in kinds or Kind.SKIPPED in kinds:
        return RowState.PARTIAL_FAILURE
    return RowState.FAILED


COUNTED = {  # the states of rows that have an outcome, and what the summary calls them
    RowState.SUCCESSFUL: "delivered",
    RowState.PARTIAL_FAILURE: "partly failed",
    RowState.FAILED: "failed",
    RowState.UNCHANGED: "unchanged",
}

OVERALL_SUCCESS = {
    RowState.SUCCESSFUL: "true",
    RowState.UNCHANGED: "true",
    RowState.PARTIAL_FAILURE: "false",
    RowState.FAILED: "false",
    RowState.PLANNED: "null",
}

to_json = json.JSONEncoder(ensure_ascii=False).encode


class Results:
    """What became of every row: counts, and a line of JSON a row until the summary is known."""

    def __init__(self, directory: Path, identifier_kind: str) -> None:
        """`directory` has room for the lines; `identifier_kind` is "email" or "userId"."""
        self.states: Counter[RowState] = Counter()
        self.failure_reasons: Counter[str] = Counter()
        self.skipped_calls = 0
        self.is_cut_short = False  # whether a stop kept a call of a recorded row from its answer
        self.filtered_fields: set[str] = set()
        self._failure: Exception | None = None  # why lines are missing, if so
        self._identifier_kind = identifier_kind
        self._lines: IO[str] = tempfile.TemporaryFile(  # noqa: SIM115
            "w+",
            encoding="utf-8",
            errors="backslashreplace",  # \udc.. is what JSON writes, too
            dir=directory,
        )
        self._separator = "\n"

    def record(self, settled: Settled) -> None:
        """Takes down what became of rows; those that were not sent have no line."""
        self.filtered_fields |= settled.dropped_user_fields | settled.dropped_event_fields
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        lines: list[str] = []
        failure = None
        for row in settled.rows:
            try:
                self._record_row(row, now, lines)
            except Exception as error:  # noqa: PERF203 - it takes no other row with it
                failure = failure or error
        self._write(lines)
        if failure:
            raise failure

    def _record_row(self, row: Row, now: str, lines: list[str]) -> None:
        outcomes = [call.outcome for call in row.calls]
        kinds = tuple([None if outcome is None else outcome.kind for outcome in outcomes])
        state = judge_row(kinds)
        if state != RowState.NOT_SENT:
            lines.append(record_line(row, self._identifier_kind, state, now))
        self._count(row, kinds, state)

    def _write(self, lines: list[str]) -> None:
        if self._failure or not lines:
            return
        try:
            self._lines.write(self._separator + ",\n".join(lines))
        except Exception as error:
            self._failure = error
            raise
        self._separator = ",\n"

    def _count(self, row: Row, kinds: Kinds, state: RowState) -> None:
        self.states[state] += 1
        is_plain = state == RowState.SUCCESSFUL and Kind.SKIPPED not in kinds
        if not is_plain and state != RowState.NOT_SENT:
            for call in row.calls:
                if call.outcome:
                    self._count_call(call.outcome)

    def _count_call(self, outcome: Outcome) -> None:
        if outcome.kind == Kind.SKIPPED:
            self.skipped_calls += 1
        elif outcome.kind != Kind.ACCEPTED:
            self.failure_reasons[outcome.answer["code"]] += 1
            if outcome.kind != Kind.FAILED:
                self.is_cut_short = True

    @property
    def recorded(self) -> int:
        """The number of rows that have an outcome."""
        return sum(self.states[state] for state in COUNTED)

    def write_to(self, file: IO[str], summary: Json) -> None:
        """Writes the results file: the summary, which is known last, first; then the lines."""
        if self._failure:
            raise self._failure
        entries = [
            f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}"
            for key, value in summary.items()
        ]
        file.write("{" + ",\n".join([*entries, '"records": [']))
        self._lines.seek(0)
        shutil.copyfileobj(self._lines, file, 1 << 16)
        file.write("\n]}\n")


def record_line(row: Row, identifier_kind: str, state: RowState, now: str) -> str:
    """A row's line of JSON. By hand: half of what json.dumps takes, a million times."""
    return (
        f'{{"row": {row.number}, "{identifier_kind}": {to_json(row.user)}, '
        f'"event_id": {to_json(row.event_id)}, "timestamp": "{now}", '
        f'"users_update": {call_json(row.update)}, "events_track": {call_json(row.event)}, '
        f'"overall_success": {OVERALL_SUCCESS[state]}}}'
    )


BULK_ANSWER = iterable_client.BULK_ACCEPTED.answer
BULK_ACCEPTED_JSON = to_json({"success": True, "response": BULK_ANSWER})
SKIPPED_JSON = to_json({"success": True, "skipped": True})


def call_json(call: Call | None) -> str:
    """What a record says of a call: its outcome or, in a dry run, its request."""
    if call is None:
        return "null"
    outcome = call.outcome
    if outcome is None:
        return to_json({"success": None, "request": call.payload})
    if outcome.kind == Kind.SKIPPED:
        return SKIPPED_JSON
    if outcome.kind == Kind.ACCEPTED and outcome.answer == BULK_ANSWER:
        return BULK_ACCEPTED_JSON
    return to_json({"success": outcome.is_success, "response": outcome.answer})


# --- The end of a run ---------------------------------------------------------


@dataclass(frozen=True)
class Conclusion:
    """How a run ended."""

    status: str
    exit_code: int
    warnings: list[str]


def conclude(
    client: IterableClient | None,
    signals: Signals,
    trouble: Trouble,
    total: int,
    results: Results,
    warnings: list[str],
) -> Conclusion:
    """How the run ended, and what a person should know of it beside `warnings`.

    What the client found to be hopeless goes before a signal, since a run that is repeated
    would end alike; a signal goes before the lack of answers, which it may have caused.
    """
    if results.filtered_fields:
        names = ", ".join(sorted(results.filtered_fields))
        text = f"Iterable dropped fields that the project does not know, and said success: {names}"
        warnings = [*warnings, text]
    ending = trouble.reason or (client and client.health.ending)
    if ending:
        return Conclusion("aborted", 4, [*warnings, ending])
    recorded = results.states.total() - results.states[RowState.NOT_SENT]
    if signals.received and (results.is_cut_short or recorded < total):
        return Conclusion("interrupted", 128 + signals.received, warnings)
    has_failures = bool(results.failure_reasons)
    if client is None:
        return Conclusion("dry_run", int(has_failures), warnings)
    if client.counts["sent"] and not client.health.was_answered:
        return Conclusion("aborted", 4, [*warnings, client.health.no_answer])
    if has_failures:
        return Conclusion("completed_with_failures", 1, warnings)
    return Conclusion("completed", 0, warnings)


def summarize(
    job: Job,
    fetched: Fetched,
    sending: Sending,
    client: IterableClient | None,
    results: Results,
    conclusion: Conclusion,
    csv_path: Path,
) -> Json:
    """What stands in the results file before the records."""
    settings = job.settings
    run_ = {
        "id": str(uuid.uuid4()),
        "status": conclusion.status,
        "started_at": job.started.isoformat(timespec="seconds"),
        "finished_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - job.began, 3),
        "query": job.query.name,
        "since": job.since.isoformat(),
        "until": job.until.isoformat(),
        "send_mode": "bulk" if sending.is_bulk else "single",
        "authentication": "jwt" if settings.use_jwt_auth else "api_key",
        "base_url": settings.iterable_api_base_url,
        "csv_file": csv_path.name,
        "warnings": conclusion.warnings,
    }
    counts = {state.value: results.states[state] for state in COUNTED}
    requests = dict(client.counts) if client else {"sent": 0, "retried": 0, "rate_limited": 0}
    return {
        "run": run_,
        "total_users": fetched.total,
        **counts,
        "not_sent": fetched.total - results.recorded,
        "failure_reasons": dict(results.failure_reasons),
        "requests": requests,
        "reports": fetched.reports,
    }


def report_end(
    job: Job, conclusion: Conclusion, summary: Json, skipped_calls: int, paths: Sequence[Path]
) -> None:
    """Says in the log and, unless nobody wants to know, on the screen how the run ended."""
    names = [state.value for state in COUNTED]
    counts = {name: summary[name] for name in (*names, "not_sent", "failure_reasons")}
    log.info("%s, exit code %d: %s", conclusion.status, conclusion.exit_code, counts)
    for warning in conclusion.warnings:
        log.warning("%s", warning)
    if conclusion.exit_code == 0 and job.options.quiet:
        return
    with suppress(OSError):  # | head, or a full disk: what was done is done
        out = sys.stderr if job.options.quiet else sys.stdout
        print_summary(summary, skipped_calls, paths, out)


# --- The screen ---------------------------------------------------------------


class Progress:
    """A line on the terminal, at most twice a second: rows of total, rate, time left, failures."""

    def __init__(self, options: Options, total: int) -> None:
        """`total` is the number of rows."""
        is_wanted = not (options.quiet or options.verbose or options.dry_run)
        self._is_shown = is_wanted and sys.stderr.isatty()
        self._total = total
        self._began = time.monotonic()
        self._last = self._began

    def show(self, results: Results) -> None:
        """Shows how far the run is, where it is time to."""
        now = time.monotonic()
        if not self._is_shown or now - self._last < 0.5:
            return
        self._last = now
        done = results.recorded
        rate = done / (now - self._began)
        left = "waiting for Iterable"
        if rate:
            left = f"{timedelta(seconds=round((self._total - done) / rate))} left"
        failed = results.failure_reasons.total()
        self._print(
            f"{done:,} of {self._total:,} rows, {rate:,.0f}/s, {left}, {failed:,} calls failed"
        )

    def clear(self) -> None:
        """Makes room for the summary."""
        if self._is_shown:
            self._print("")

    def _print(self, line: str) -> None:
        with suppress(OSError):  # the terminal may be gone
            print(f"\r\033[K{line}", end="\r" if line else "", file=sys.stderr, flush=True)


def print_summary(summary: Json, skipped_calls: int, paths: Sequence[Path], out: IO[str]) -> None:
    """Prints what a person wants to know of a run."""
    run_ = summary["run"]
    status = run_["status"].replace("_", " ")
    lines = [
        ("Status", f"{status} in {run_['seconds']:.1f} s"),
        ("Query", f"{run_['query']}, {run_['since']} to {run_['until']}"),
        ("Rows", describe_rows(summary)),
    ]
    for code, calls in summary["failure_reasons"].items():
        lines.append(("Failures", f"{calls:,} x {code}"))
    requests = [
        f"{count:,} {name.replace('_', ' ')}" for name, count in summary["requests"].items()
    ]
    if skipped_calls:
        requests.append(f"{skipped_calls:,} calls saved by the ledger")
    lines.append(("Requests", ", ".join(requests)))
    for warning in run_["warnings"]:
        lines.append(("Warning", warning))
    for path in paths:
        lines.append(("File", str(path.resolve())))
    for name, rows in summary["reports"].items():
        lines.append(("Report", name))
        lines += [("", line) for line in table_lines(rows[:20])]
    for label, text in lines:
        print(f"{label:<9} {db.printable(text)}", file=out)


def describe_rows(summary: Json) -> str:
    """The number of rows, and what became of them."""
    words = {state.value: text for state, text in COUNTED.items()}
    words["not_sent"] = "not sent"
    counts = [f"{summary[key]:,} {text}" for key, text in words.items() if summary[key]]
    return f"{summary['total_users']:,}: {', '.join(counts) or 'none'}"


def table_lines(rows: Sequence[Json]) -> list[str]:
    """A report as text."""
    if not rows:
        return ["no rows"]
    cells = [list(rows[0])]
    for row in rows:
        cells.append([str(cell) for cell in row.values()])
    lines = []
    for line in cells:
        padded = [f"{cell:<12}" for cell in line]
        lines.append("  ".join(padded).rstrip())
    return lines


if __name__ == "__main__":
    exit_code = main()
    logging.shutdown()
    with suppress(OSError):  # nobody may be reading any more
        sys.stdout.flush()
    os._exit(exit_code)  # not sys.exit(), which waits for threads that wait for an answer

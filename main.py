"""Sends the rows of a SQL query to Iterable, as user updates and events.

The file reads in the order in which it runs: main() and the run; the output directory, the
command line and the settings; the queries, their windows, and how a row becomes calls; the
ledger, the sending and the results; the end of a run, --check, and what the screen shows.
"""

from __future__ import annotations

import signal

if __name__ == "__main__":
    # Until main() handles it: Ctrl-C during the imports below is no traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import _thread
import argparse
import difflib
import errno
import fcntl
import gc
import io
import json
import logging
import math
import os
import re
import select
import shlex
import shutil
import sqlite3
import sys
import tempfile
import textwrap
import time
import traceback
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import Field, dataclass, field, fields, replace
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
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


class ExitCode(IntEnum):
    """What the process ends with; after a signal it is 128 and the signal's number."""

    DELIVERED = 0
    ROWS_FAILED = 1
    WRONG_INPUT = 2  # command line, settings, queries file or output directory
    DATABASE = 3
    ABORTED = 4
    LOCKED = 75  # EX_TEMPFAIL in sysexits.h: try again later


class RunError(Exception):
    """What ends a run early: a text for the person at the terminal, and the exit code."""

    def __init__(self, message: str, code: ExitCode) -> None:
        super().__init__(message)
        self.code = code


class Status(str, Enum):
    """How the run of a query ended."""

    COMPLETED = "completed"
    COMPLETED_WITH_FAILURES = "completed_with_failures"
    ABORTED = "aborted"
    INTERRUPTED = "interrupted"
    DRY_RUN = "dry_run"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program.

    Arguments:
        argv: the command line without the program's name; default that of the process.

    Returns:
        The exit code.
    """
    prepare_process()
    try:
        return begin(argv, Signals())
    except Exception as error:  # there is no log that could have the details
        return report_error(f"The program failed ({describe_place(error)})", ExitCode.ABORTED)


def begin(argv: Sequence[str] | None, signals: Signals) -> int:
    """Finds out what is to be done, and does it; returns the exit code."""
    code: int
    try:
        options = parse_args(argv)
        with setting_texts(options) as texts:
            settings = load_settings(options, texts)
            job = prepare_job(options, settings)
            return check(job, signals) if options.check else run(job, signals)
    except KeyboardInterrupt:
        message, code = INTERRUPTED, 128 + signals.received
    except RunError as error:
        message, code = str(error), error.code
    except db.LedgerError as error:
        message, code = str(error), ExitCode.WRONG_INPUT
    except (db.QueryFileError, db.DatabaseError) as error:
        message, code = str(error), code_of(error)
    if signals.received and not signals.is_sending:
        # A driver may have made an error of its own of what the signal handler raised.
        message, code = INTERRUPTED, 128 + signals.received
    return report_error(message, code)


INTERRUPTED = "interrupted before anything of this query was sent"


def code_of(error: db.QueryFileError | db.DatabaseError | ReportError) -> ExitCode:
    """The exit code that an error of a query makes."""
    if isinstance(error, ReportError):
        return error.code
    is_of_file = isinstance(error, db.QueryFileError)
    return ExitCode.WRONG_INPUT if is_of_file else ExitCode.DATABASE


def describe_place(error: Exception) -> str:
    """What happened and where. An error's own text may hold what a setting holds."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {Path(last.filename).name}, line {last.lineno}"


@dataclass(frozen=True)
class Job:
    """What a run is to do."""

    options: Options
    settings: Settings
    queries: list[db.Query]  # those to send, in this order
    reports: list[db.Query]
    since: datetime
    until: datetime
    warnings: list[str]  # of what can be seen before it begins
    started: datetime

    @property
    def directory(self) -> Path:
        """Where all of its files go."""
        return self.settings.output_dir

    @property
    def days(self) -> float | None:
        """What --days says, where it is given."""
        return self.settings.lookback_days if "lookback_days" in self.options.settings else None


@dataclass(frozen=True)
class Sync:
    """One of a job's queries on its way to Iterable."""

    job: Job
    query: db.Query
    window: Window
    reports: list[db.Query]  # that run beside it
    warnings: list[str]
    started: datetime
    began: float  # the same by time.monotonic(), which nobody sets


@dataclass(frozen=True)
class Tools:
    """What all queries of a run use."""

    signals: Signals
    trouble: Trouble
    client: IterableClient | None  # None in a dry run
    ledger: db.Ledger | None
    repeats: Repeats
    kinds: KindsOfRun


def run(job: Job, signals: Signals) -> int:
    """Does the job; returns the exit code."""
    with errors_told(job.directory), ExitStack() as stack:
        stack.enter_context(locked(job.directory))
        start_log(job.settings, job.options.verbose)
        trouble = Trouble(signals.stop)
        ledger = stack.enter_context(open_ledger(job, trouble))
        client = None if job.options.dry_run else make_client(job.settings, signals.stop)
        repeats = stack.enter_context(closing(Repeats(job)))
        return send_queries(job, Tools(signals, trouble, client, ledger, repeats, {}))


def send_queries(job: Job, tools: Tools) -> int:
    """Sends a query after the other; returns the worst of their exit codes."""
    codes: list[int] = []
    reports, warnings = job.reports, job.warnings
    for place, query in enumerate(job.queries):
        try:
            tools.signals.begin_query()
            code = send_query(make_sync(job, query, reports, warnings), tools)
            reports, warnings = [], []  # they stand in its results file
        except (db.QueryFileError, db.DatabaseError, ReportError) as error:
            if tools.signals.received:  # a driver's own error of what the handler raised
                tell_of_unsent(job.queries, place)
                raise KeyboardInterrupt from None
            text = str(error)
            if isinstance(error, ReportError):
                reports = []  # it must not keep the other queries from being sent
                because = f"{query.name} was not sent, since its results would lack this report"
                text = f"{text.rstrip('.')}. {because}"
            code = report_error(text, code_of(error))
        except (KeyboardInterrupt, RunError, OSError, sqlite3.Error):
            tell_of_unsent(job.queries, place)
            raise
        codes.append(code)
        if code >= ExitCode.ABORTED:
            tell_of_unsent(job.queries, place + 1)
            break
    return max(codes)


class ReportError(Exception):
    """A report cannot be run: why, and the exit code."""

    def __init__(self, error: db.QueryFileError | db.DatabaseError) -> None:
        super().__init__(str(error))
        self.code = code_of(error)


def tell_of_unsent(queries: Sequence[db.Query], first: int) -> None:
    """Says of several queries which had no turn, or none to the end: from the `first` on."""
    if len(queries) > 1 and first < len(queries):
        names = ", ".join(query.name for query in queries[first:])
        report_error(f"Not sent, or not all of it, because of this: {names}", ExitCode.ABORTED)


def make_sync(job: Job, query: db.Query, reports: list[db.Query], warnings: list[str]) -> Sync:
    """The next of a job's queries; what was not told yet, reports and warnings, goes with it."""
    window = find_window(job, query)
    if window.warning:
        warnings = [*warnings, window.warning]
    now = datetime.now(timezone.utc)
    return Sync(job, query, window, reports, warnings, now, time.monotonic())


def send_query(sync: Sync, tools: Tools) -> int:
    """Sends what a query finds, from the database to the results; returns the exit code."""
    with open_files(sync) as files, closing(Progress(sync)) as progress:
        fetched = fetch(sync, files, progress)
        tools.signals.begin_sending()
        csv_path = files.csv.commit()
        sent = send_rows(sync, tools, files, fetched, progress)
        progress.close()

        conclusion = conclude(sync, tools, fetched.total, sent)
        summary = summarize(sync, tools, fetched, sent, conclusion, csv_path)
        results_path = publish(sync.job, files, sent.results, summary)
        report_end(Ending(sync, sent, conclusion, summary, [csv_path, results_path]))
        return conclusion.exit_code


@dataclass(frozen=True)
class Sent:
    """What came of a query's rows."""

    sending: Sending
    results: Results
    preview: Preview | None  # of a dry run
    warnings: list[str]


def send_rows(sync: Sync, tools: Tools, files: Files, fetched: Fetched, progress: Progress) -> Sent:
    """Plans the calls of the rows, asks the ledger, delivers, tells the ledger, records."""
    settings, trouble = sync.job.settings, tools.trouble
    sending = choose_sending(settings, fetched.total)
    field_kinds = FieldKinds(fetched.plan, fetched.longest_row, tools.kinds)
    planned = trouble.watch(plan_calls(sync, tools, fetched, files, field_kinds))
    results = Results(files.lines, fetched.plan.identifier_kind)
    preview = None if tools.client else Preview(sending, settings.rate_limit_factor)
    for settled in trouble.watch(settle(tools, planned, sending)):
        with trouble.noted():
            if tools.ledger and not trouble.is_ledgers:
                tell_ledger(tools.ledger, settled)
        with trouble.noted():
            results.record(settled)
            progress.show(results)
        if preview:
            preview.note(settled.rows)
    warnings = sync.warnings + fetched.warnings + ledger_warnings(sync.job, tools.ledger)
    with trouble.noted():
        warnings += field_kinds.warnings() + tools.repeats.warnings()
        field_kinds.remember()
    return Sent(sending, results, preview, warnings)


def plan_calls(
    sync: Sync, tools: Tools, fetched: Fetched, files: Files, field_kinds: FieldKinds
) -> Iterator[list[Row]]:
    """The rows with their calls, in batches; what Iterable accepted before is skipped."""
    planned = plan_batches(fetched.plan, files.spool, field_kinds)
    planned = tools.repeats.watch(sync.query, planned)
    if tools.ledger:
        planned = merge_sparse(skip_known(tools.ledger, sync, planned))
    return planned


def publish(job: Job, files: Files, results: Results, summary: Json) -> Path:
    """Lets the results file appear; where it cannot, the error says what it would have said."""
    csv_name = summary["run"]["csv_file"]
    done = f"Rows: {describe_rows(summary)}. The CSV is there: {csv_name}. "
    with errors_told(job.directory, done):
        results.write_to(files.results.text, summary)
        return files.results.commit()


def settle(tools: Tools, planned: Iterable[list[Row]], sending: Sending) -> Iterator[Settled]:
    """The rows with what became of their calls; without a client, in a dry run, as planned."""
    client = tools.client
    if client is None:
        return map(Settled, takewhile(lambda _: not tools.signals.stop.is_set(), planned))
    client.begin_query()
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
        """Takes down what is raised."""
        try:
            yield
        except Exception as error:
            self.note(error)

    def note(self, error: Exception) -> None:
        """Takes down an error, and stops the sending. Of a surprise the log has a traceback."""
        self._stop.abort()
        self.is_ledgers |= isinstance(error, (db.LedgerLockedError, sqlite3.Error))
        foreseen = explain_foreseen(error)
        self.reason = self.reason or foreseen or explain_surprise(error)
        why = foreseen or "this was not foreseen"
        log.error("sending stops: %s", why, exc_info=None if foreseen else error)

    def watch(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yields the items; where getting one raises, that was the last."""
        with self.noted():
            yield from items


DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def explain_foreseen(error: Exception) -> str | None:
    """What to say of another process's lock or of a full disk; None of any other error."""
    if isinstance(error, db.LedgerLockedError):
        return str(error)
    if isinstance(error, sqlite3.Error):
        return f"The ledger cannot be written ({error}): make room, or mend that, and run again"
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        return f"Output could not be written ({error.strerror}): make room, and run again"
    return None


def explain_surprise(error: Exception) -> str:
    """What to say of any other. Their own texts may hold what a row holds."""
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
# Seconds after which a query that does not heed a signal is abandoned; with the half second
# of _watch() that is less than the 12 that the README promises.
LAST_RESORT = 11.0


class Signals:
    """What SIGHUP, SIGINT and SIGTERM do.

    While the query runs they end the run at once; then they stop the sending in good order. One
    that comes over a second later ends the process, whatever it does.
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

    def begin_query(self) -> None:
        """From now on a signal raises KeyboardInterrupt."""
        self.is_sending = False
        self.raise_missed()

    def begin_sending(self) -> None:
        """From now on a signal stops the sending, instead of raising KeyboardInterrupt."""
        self.raise_missed()
        self.is_sending = True

    def raise_missed(self) -> None:
        """Raises KeyboardInterrupt, where a signal came and what it raised was swallowed."""
        if self.received:  # as in a __del__, or by a driver
            raise KeyboardInterrupt

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
    except (OSError, sqlite3.Error) as error:
        reason = f"the ledger: {error}"
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
        message = f"Output could not be written to {directory}: {reason}. {done}"
        is_full = isinstance(error, OSError) and error.errno in DISK_ERRORS
        mend = "Make room there" if is_full else "Mend that"
        advice = f"{mend} and run again: no event is added twice"
        raise RunError(message + advice, ExitCode.ABORTED) from error
    except Exception as error:
        log.error("unexpected", exc_info=True)
        name = type(error).__name__
        message = f"The program failed ({name}). {done}See the log"
        raise RunError(message, ExitCode.ABORTED) from error


LOCK_NAME = ".iterable_integration.lock"
LOG_NAME = "iterable_integration.log"
LEDGER_NAME = "delivery_ledger.sqlite3"


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Holds the output directory against other runs, and removes what killed ones left.

    The lock is the kernel's: it ends with its process.
    """
    path = directory / LOCK_NAME
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+", opener=open_own)  # noqa: SIM115
    except OSError as error:
        reason = f"{path}: {error.strerror or error}"
        if os.path.isfile(directory):  # noqa: PTH113 - Path's raises where a name is too long
            reason = f"{directory} is a file"
        raise RunError(
            f"The output directory cannot be written ({reason}): "
            "mend that, or name another with --output-dir",
            ExitCode.WRONG_INPUT,
        ) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip()
            message = f"Another run is writing to {directory}: {holder}"
            raise RunError(message, ExitCode.LOCKED) from None
        file.truncate(0)
        started = datetime.now().astimezone().isoformat(timespec="seconds")
        print(f"process {os.getpid()}, started {started}", file=file, flush=True)
        remove_leftovers(directory)
        try:
            yield
        except BaseException:  # a signal's, perhaps just after a file was made
            remove_leftovers(directory)
            raise


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
    path = settings.log_file or settings.output_dir / LOG_NAME
    handlers: list[logging.Handler] = []
    try:
        handlers.append(LogFile(path, open_at_once if settings.log_file else open_own))
    except OSError as error:
        reason = error.strerror or str(error)
        message = f"The log {path} cannot be written ({reason}): name another with LOG_FILE"
        raise RunError(message, ExitCode.WRONG_INPUT) from None
    if verbose:
        handlers.append(logging.StreamHandler())
    level = "DEBUG" if verbose else settings.log_level
    set_handlers(handlers, level)


def set_handlers(handlers: Sequence[logging.Handler], level: str) -> None:
    """Logs to these from now on, what is of a level or above it."""
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


class LogFile(RotatingFileHandler):
    """The log, which rotates."""

    def __init__(self, path: Path, opener: Callable[[str, int], int]) -> None:
        """`opener`: for open()."""
        self._opener = opener
        super().__init__(path, maxBytes=5_000_000, backupCount=5, encoding="utf-8")

    def _open(self) -> Any:
        return open(self.baseFilename, self.mode, encoding=self.encoding, opener=self._opener)


def open_at_once(path: str, flags: int) -> int:
    """Opens a file, for open(); of a pipe that nobody reads it raises OSError."""
    descriptor = os.open(path, flags | os.O_NONBLOCK, 0o600)
    os.set_blocking(descriptor, True)  # a slow reader must not cost lines
    return descriptor


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
    lines: IO[str]  # nameless: their records until the summary is known


@contextmanager
def open_files(sync: Sync) -> Iterator[Files]:
    """Opens them; those that were not committed are gone afterwards."""
    job = sync.job
    directory = job.directory
    stamp = f"{job.started.astimezone():%Y%m%d_%H%M%S}"
    if len(job.queries) > 1:
        stamp = f"{stamp}_{sync.query.name}"
    with ExitStack() as stack:
        csv = iterable_client.CsvFile(directory, f"query_results_{stamp}.csv")
        stack.enter_context(closing(csv))
        results = iterable_client.OutputFile(directory, f"integration_results_{stamp}.json")
        stack.enter_context(closing(results))
        spool = stack.enter_context(tempfile.TemporaryFile(dir=directory))
        lines = stack.enter_context(open_lines(directory))
        yield Files(csv, results, spool, lines)


@contextmanager
def open_lines(directory: Path) -> Iterator[IO[str]]:
    """A file for the records, without a name."""
    lines = tempfile.TemporaryFile(  # noqa: SIM115
        "w+",
        encoding="utf-8",
        errors="backslashreplace",  # \udc.. is what JSON writes, too
        dir=directory,
    )
    try:
        yield lines
    finally:
        with suppress(OSError):  # closing flushes; a full disk was reported already
            lines.close()


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
    check: bool
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
        parser.error("--limit must be a whole number from 1")
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
        formatter_class=partial(
            argparse.RawDescriptionHelpFormatter, max_help_position=20, width=help_width()
        ),
        allow_abbrev=False,
        add_help=False,
    )
    mode = parser.add_mutually_exclusive_group()
    volume = parser.add_mutually_exclusive_group()
    check = "Send nothing and leave no files: say whether settings, queries and fields fit"
    add_switch(mode, "--demo", "The whole job on sample data, against a local stand-in")
    add_switch(mode, "--dry-run", "Query and write both files, but send nothing; needs no API key")
    add_switch(mode, "--check", check)
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


class Once(argparse.Action):
    """An option with a value, which is not given twice: the first would count for nothing."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: Any,
        values: Any,
        option: str | None = None,
    ) -> None:
        """Stores the value."""
        if getattr(namespace, self.dest) is not None:
            parser.error(f"{option} is given twice: give it once, with {self.metavar}")
        setattr(namespace, self.dest, values)


WIDEST_HELP = 96  # columns


def help_width() -> int:
    """Columns of the help: those of a narrow terminal, or as the README shows it."""
    if not sys.stdout.isatty():
        return WIDEST_HELP
    return max(NARROW, min(shutil.get_terminal_size().columns - 2, WIDEST_HELP))


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
        parser.add_argument(flag, dest=name, metavar=metavar, help=text, action=Once)
    elif flag:
        parser.add_argument(flag, dest=name, action="store_const", const="true", help=text)


# --- Settings -----------------------------------------------------------------


@dataclass(frozen=True)
class Format:
    """What the text of a setting must be, and what reads it, raising ValueError for any other."""

    expected: str
    read: Callable[[str], Any]
    empty: Any = None  # what it means where there is no text


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


def split_names(text: str) -> tuple[str, ...]:
    """What stands between commas."""
    return tuple(name.strip() for name in text.split(","))


def read_query_names(text: str) -> tuple[str, ...]:
    """Names of queries. Whether the file has such queries is seen when it is read."""
    names = split_names(text)
    is_all_alone = ALL not in names or len(names) == 1
    if "" in names or len(set(names)) < len(names) or not is_all_alone:
        raise ValueError(text)
    return names


ALL = "all"  # in place of a query's name: every query that is no report


def is_true(text: str) -> bool:
    """What "true" or "false" means."""
    return text.lower() == "true"


QUERY_NAMES = Format("names of queries, each once, with commas between, or all", read_query_names)
CODES = replace(
    matching(
        "codes of failures with commas between, such as ForgottenUserError",
        r"\s*[\w.-]{1,64}\s*(,\s*[\w.-]{1,64}\s*)*",
        split_names,
    ),
    empty=(),
)
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
        DATABASE_URL, "", "The database; @ : / ? # % in its password are percent-encoded")
    database_timezone: ZoneInfo = setting(
        ZONE, "UTC", "Zone of the database's times that have none")
    queries_file: Path = setting(
        PATH, str(HERE / "queries.sql"), "The queries, and how their columns map to Iterable")
    query: tuple[str, ...] = setting(
        QUERY_NAMES, "pro_users_recent_engagement",
        "The query whose rows are sent; several with commas between, or all",
        "--query NAME[,NAME...]")
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
    tolerated_failures: tuple[str, ...] = setting(
        CODES, "", "Codes of failures, commas between, that alone are no bad news: exit code 0")
    output_dir: Path = setting(
        PATH, ".", "Where CSV, results, lock, ledger and log go", "--output-dir DIR")
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
            values[entry.name] = form.read(text) if text else form.empty
        except ValueError as error:
            # Only of a URL the error says more: how its password is written.
            expected = str(error) if form is DATABASE_URL else form.expected
            place = " in the environment" if os.environ.get(name) else ""
            faults[entry.name] = f"{name}{place} must be {expected}"
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
        raise settings_error(faults, options)
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


def settings_error(faults: Mapping[str, str], options: Options) -> RunError:
    """What is wrong with settings, in the order of the table, and where to mend it."""
    lines = ["Settings need attention:"]
    for entry in fields(Settings):
        if entry.name in faults:
            lines.append(f"  {faults[entry.name]}")
    if faults.keys() <= options.settings.keys():  # all of them are on the command line
        return RunError("\n".join(lines), ExitCode.WRONG_INPUT)
    env_file = find_env_file(options)
    if env_file:
        lines += misspelt_settings(env_file)
        lines.append(f"They come from the environment and from {env_file}: mend them there")
    else:
        example = os.path.relpath(HERE / ".env.example")
        lines.append(f"Copy the example and fill it in: install -m 600 {example} .env")
    lines.append("The whole job without settings: python main.py --demo")
    return RunError("\n".join(lines), ExitCode.WRONG_INPUT)


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
        raise unreadable_env_file(path, error.strerror or str(error)) from None
    except UnicodeDecodeError:
        raise unreadable_env_file(path, "it is not UTF-8") from None
    texts = {}
    for binding in parse_stream(io.StringIO(text)):
        if binding.error:
            line = binding.original.line
            message = f"{path}, line {line}: not NAME=value; is a quote missing?"
            raise RunError(message, ExitCode.WRONG_INPUT)
        if binding.key:
            texts[binding.key] = binding.value
    return texts


def unreadable_env_file(path: Path, reason: str) -> RunError:
    """An env file cannot be read, and why."""
    message = f"The env file {path} cannot be read: {reason}"
    return RunError(message, ExitCode.WRONG_INPUT)


def env_file_warnings(options: Options) -> list[str]:
    """What a person should know of the env file."""
    path = find_env_file(options)
    if path is None:
        return []
    warnings = misspelt_settings(path)
    with suppress(OSError):
        if path.stat().st_mode & 0o077:
            warnings.append(f"{path} holds secrets and can be read by others: chmod 600 {path}")
    return warnings


def misspelt_settings(path: Path) -> list[str]:
    """A warning for each name in the env file that is nearly that of a setting."""
    names = [entry.name.upper() for entry in fields(Settings)]
    warnings = []
    for name in read_env_file(path):
        if name not in names:
            for meant in difflib.get_close_matches(name.upper(), names, 1, 0.85):
                warnings.append(f"{path} sets {name}, which is no setting: is {meant} meant?")
    return warnings


def misspelt_codes(settings: Settings) -> list[str]:
    """A warning for each tolerated code that is nearly one that is met often."""
    warnings = []
    for code in settings.tolerated_failures:
        if code not in ADVICE:
            for meant in difflib.get_close_matches(code, ADVICE, 1, 0.75):
                warnings.append(f"TOLERATED_FAILURES names {code}: is {meant} meant?")
    return warnings


# --- The queries --------------------------------------------------------------

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
    started = datetime.now(timezone.utc)
    since, until = read_window(options, settings, started)
    queries = db.load_queries(settings.queries_file, KEYS)
    reports = []
    for query in queries.values():
        if query.keys:
            check_mapping(query)
        else:
            reports.append(query)
    chosen = choose_queries(settings, queries)
    warnings = env_file_warnings(options) + misspelt_codes(settings)
    if until - started > timedelta(days=1):
        warnings.append(f"The window ends in the future, on {until:%Y-%m-%d}: is --as-of right?")
    return Job(options, settings, chosen, reports, since, until, warnings, started)


def choose_queries(settings: Settings, queries: Mapping[str, db.Query]) -> list[db.Query]:
    """The queries to send, in the order in which they are named."""
    if ALL in queries:
        raise queries[ALL].error(f"'{ALL}' stands for every query: give this one another name")
    if settings.query == (ALL,):
        chosen = [query for query in queries.values() if query.keys]
        if not chosen:
            message = f"{settings.queries_file} has no query but reports: none to send"
            raise RunError(message, ExitCode.WRONG_INPUT)
        return chosen
    for name in settings.query:
        if name not in queries:
            there = ", ".join(queries)
            message = (
                f"{settings.queries_file} has no query {name!r:.99}; it has {there}: choose one "
                "with QUERY or --query"
            )
            raise RunError(message, ExitCode.WRONG_INPUT)
        if not queries[name].keys:
            raise queries[name].error(
                "this is a report, without keys that say what to send: choose another with --query"
            )
    return [queries[name] for name in settings.query]


# --- The window ---------------------------------------------------------------

MOST_GROWTH = 4  # times LOOKBACK_DAYS, that a window grows to


@dataclass(frozen=True)
class Window:
    """What time a query looks at, and what is to be said of it."""

    since: datetime
    until: datetime
    note: str = ""  # how it was lengthened, if it was
    warning: str = ""  # of a gap that it leaves


def read_window(
    options: Options, settings: Settings, started: datetime
) -> tuple[datetime, datetime]:
    """The window that was asked for: LOOKBACK_DAYS or `--days` before `--as-of`."""
    as_of = as_of_text(options) or started.isoformat(" ", "seconds")
    try:
        return db.window(as_of, settings.lookback_days, settings.database_timezone)
    except (ValueError, OverflowError):
        raise RunError(
            f"--as-of {as_of!r} must be a day or a time that there is, not too far in the past: "
            "YYYY-MM-DD or YYYY-MM-DD HH:MM:SS, perhaps with Z or +HH:MM",
            ExitCode.WRONG_INPUT,
        ) from None


def as_of_text(options: Options) -> str | None:
    """The end of the window as it was given; None: it is now."""
    if options.demo and not options.as_of:
        from tests.demo import AS_OF  # nothing else needs it

        return AS_OF
    return options.as_of


def find_window(job: Job, query: db.Query) -> Window:
    """The window of a query: it begins where the last complete run of it ended, or earlier.

    So a time of outages leaves no gap, as long as nobody chose the window by hand.
    """
    asked = Window(job.since, job.until)
    is_chosen = as_of_text(job.options) or job.days
    if is_chosen or not query.has_since:
        return asked
    last = find_last_end(job.directory, query.name)
    if last is None or last >= asked.since:
        return asked
    # Through UTC, since a day in the database's zone may have 23 or 25 hours.
    utc_until = job.until.astimezone(timezone.utc)
    length = timedelta(days=job.settings.lookback_days)
    earliest = utc_until - MOST_GROWTH * length
    since = max(last, earliest).astimezone(job.settings.database_timezone)
    note = f"lengthened, since the last complete run ended {last:%Y-%m-%d %H:%M}Z"
    warning = ""
    if last < earliest:
        days = math.ceil((utc_until - last) / timedelta(days=1)) + 1  # to type it tomorrow
        warning = (
            f"Between {last:%Y-%m-%d %H:%M}Z and {earliest:%Y-%m-%d %H:%M}Z nothing was "
            f"queried: run {query.name} once with --days {days}"
        )
    return Window(since, job.until, note, warning)


def find_last_end(directory: Path, query_name: str) -> datetime | None:
    """The end of the window of a query's last complete run in a directory, in UTC.

    The names of results files tell their order, except around a change of the zone: then it may
    be an earlier run's, and the window longer than it need be.
    """
    for path in sorted(directory.glob("integration_results_*.json"), reverse=True):
        run_ = read_run(path)
        is_complete = run_.get("status") in COMPLETE_STATUSES
        is_plain = all(run_.get(key, "") is None for key in ("days", "as_of", "limit"))
        if is_complete and is_plain and run_.get("query") == query_name:
            with suppress(ValueError, TypeError, KeyError, OverflowError):  # not ours, then
                return datetime.fromisoformat(run_["until"]).astimezone(timezone.utc)
    return None


COMPLETE_STATUSES = (Status.COMPLETED, Status.COMPLETED_WITH_FAILURES)


def read_run(path: Path) -> Json:
    """What a results file says of its run, in its first line; {} where that cannot be read."""
    try:
        with open(path, encoding="utf-8", opener=open_own) as file:
            line = file.readline(1_000_000)
        run_ = json.loads(line.rstrip().rstrip(",") + "}")["run"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return run_ if isinstance(run_, dict) else {}


# --- What its columns mean ----------------------------------------------------


def columns_of(query: db.Query, key: str) -> list[str]:
    """The columns that a key of the query's comment names."""
    names = [name.strip() for name in query.keys.get(key, "").split(",")]
    return [name for name in names if name]


def check_mapping(query: db.Query) -> None:
    """Raises QueryFileError where the keys of a query's comment do not make sense together."""
    keys = query.keys
    if ("email" in keys) == ("userId" in keys):
        raise query.error(
            "exactly one of the keys 'email' and 'userId' must name the column of the user: write "
            "'-- email: column' above the SQL"
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


def make_plan(query: db.Query, columns: Sequence[str], zone: ZoneInfo) -> Plan:
    """Resolves the keys of a query's comment; QueryFileError where there is no such column."""

    def find(key: str) -> list[Column]:
        found = [find_column(query, columns, key, text) for text in columns_of(query, key)]
        if key in TYPED_KEYS:
            check_repeated(query, key, found)
        return found

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


def check_repeated(query: db.Query, key: str, columns: Iterable[Column]) -> None:
    """Raises QueryFileError where a field is named a second time, perhaps with another type."""
    for name, count in Counter(column.name for column in columns).items():
        if count > 1:
            raise query.error(f"'{key}' names '{name}' twice: keep one of the two", key)


@dataclass(frozen=True)
class Fetched:
    """What the database gave; the rows are in the CSV and in the spool."""

    plan: Plan
    total: int  # rows
    longest_row: int  # in characters
    reports: dict[str, list[Json]]
    warnings: list[str]  # of what it gave


REPORT_ROWS = 1000  # that are kept


def fetch(sync: Sync, files: Files, progress: Progress) -> Fetched:
    """Runs the queries: reports into memory, the rows to send into the CSV and the spool."""
    settings, query, window = sync.job.settings, sync.query, sync.window
    url, zone = settings.database_url, settings.database_timezone
    log.info("%s from %s, %s to %s", query.name, db.describe_url(url), window.since, window.until)
    reports = {}
    warnings = []
    progress.begin_query()
    with db.connect(url, zone) as database:
        for report in sync.reports:
            found = fetch_report(database, report, window, zone)
            reports[report.name] = found[:REPORT_ROWS]
            if len(found) > REPORT_ROWS:
                warnings.append(f"Of report {report.name} only {REPORT_ROWS:,} rows are kept")
        columns, rows = database.rows(query, window.since, window.until)
        plan = make_plan(query, columns, zone)
        files.csv.write(columns)
        taken = progress.count(islice(rows, sync.job.options.limit))
        total = db.spool(query, taken, files.spool, files.csv.write)
    log.info("%d rows", total)
    progress.begin_sending(total)
    return Fetched(plan, total, files.csv.longest_row, reports, warnings)


def fetch_report(
    database: db.Database, report: db.Query, window: Window, zone: ZoneInfo
) -> list[Json]:
    """The rows of a report, and one more than are kept, if there are; or ReportError."""
    try:
        columns, rows = database.rows(report, window.since, window.until)
        return [report_row(columns, row, zone) for row in islice(rows, REPORT_ROWS + 1)]
    except (db.QueryFileError, db.DatabaseError) as error:
        raise ReportError(error) from None


def report_row(columns: Sequence[str], row: Sequence[Any], zone: ZoneInfo) -> Json:
    """A row of a report, for the results file."""
    pairs = zip(columns, row, strict=True)
    return {name: report_cell(name, cell, zone) for name, cell in pairs}


def report_cell(name: str, cell: Any, zone: ZoneInfo) -> Any:
    """A cell of a report. It is read by people: anything goes as text."""
    try:
        return iterable_client.clean_field(name, cell, zone)
    except iterable_client.InvalidValueError:
        return str(cell)


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
    message = f"column {plan.identifier.name}: {error}"
    outcome = iterable_client.InvalidValueError(message, error.code).outcome
    update = None if plan.user_fields is None else Call(None, outcome)
    event = None if plan.event is None else Call(None, outcome)
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
        return [created, untyped_values(event.untyped_fields, cells, zone)]
    return []


def untyped_values(columns: Sequence[Column], cells: Sequence[Any], zone: ZoneInfo) -> Json:
    """The fields as they are without types."""
    return {name: untyped_value(name, cells[place], zone) for name, place, _ in columns}


def untyped_value(name: str, value: Any, zone: ZoneInfo) -> Any:
    """A field as it is without a type.

    What cannot be sent so, such as an integer beyond 64 bits, never was part of an id: it
    becomes text.
    """
    try:
        return iterable_client.clean_field(name, value, zone)
    except iterable_client.InvalidValueError:
        return str(value)


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
KINDS_OF_TYPES = {  # by the words of queries.sql; json may be an object or an array
    "decimal": "fraction",
    "integer": "integer",
    "boolean": "boolean",
    "date": "text",
    "timestamp": "text",
    "text": "text",
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


# What was sent in a run: whose fields they are, and the kinds of JSON of each name.
KindsOfRun = dict[tuple[str, str], set[str]]


@dataclass(frozen=True)
class SeenField:
    """What is seen of a field while rows come by."""

    key: str  # that names it in the query's comment
    owner: str  # users, or an event's name: each has a type of its own for the name
    column: Column
    types: set[type] = field(default_factory=set)

    @property
    def kinds(self) -> set[str]:
        """The kinds of JSON that it goes out as."""
        if not self.column.type_name:
            return {JSON_KINDS[each] for each in self.types if each in JSON_KINDS}
        is_sent = bool(self.types - {type(None)})
        is_known = self.column.type_name in KINDS_OF_TYPES
        return {KINDS_OF_TYPES[self.column.type_name]} if is_sent and is_known else set()


class FieldKinds:
    """Which kinds of JSON each field goes out as: Iterable keeps the one that it sees first.

    A batch at a time and by columns, that costs 0.04 us a cell.
    """

    def __init__(self, plan: Plan, longest_row: int, earlier: KindsOfRun) -> None:
        """`longest_row` of these, in characters; `earlier`: of other queries of the run."""
        self._may_be_long = longest_row > LONGEST_TEXT
        self._earlier = earlier
        self._long: set[str] = set()
        user_fields = plan.user_fields or []
        self._managed = [each.name for each in user_fields if each.name in MANAGED_FIELDS]
        self._seen = [SeenField("user fields", "users", column) for column in user_fields]
        if plan.event:
            for column in plan.event.fields:
                self._seen.append(SeenField("event fields", f"event {plan.event.name}", column))

    def note(self, batch: Sequence[Sequence[Any]]) -> None:
        """Takes notice of rows."""
        for seen in self._seen:
            cells = [row[seen.column.place] for row in batch]
            seen.types.update(map(type, cells))
            if self._may_be_long:
                texts = [cell for cell in cells if isinstance(cell, str)]
                if any(len(text) > LONGEST_TEXT for text in texts):
                    self._long.add(seen.column.name)

    def warnings(self) -> list[str]:
        """What a person should know, with what to write."""
        found = []
        for seen in self._seen:
            name = seen.column.name
            kinds = seen.kinds | self._earlier.get((seen.owner, name), set())
            if len(kinds) > 1 and seen.kinds:
                words = " and ".join(sorted(kinds))
                found.append(f"Field {name} goes out as {words}: {advise_type(seen, kinds)}")
        for name in sorted(self._long):
            found.append(f"Field {name} has text of over {LONGEST_TEXT:,} characters")
        for name in self._managed:
            found.append(f"Field {name} is one that Iterable manages itself")
        return found

    def remember(self) -> None:
        """Lets the queries behind this one in the run know."""
        for seen in self._seen:
            self._earlier.setdefault((seen.owner, seen.column.name), set()).update(seen.kinds)


def advise_type(seen: SeenField, kinds: set[str]) -> str:
    """What to write where a field goes out as several kinds of JSON."""
    if seen.column.type_name:
        return "give it the same type in each query"
    if frozenset(kinds) in TYPE_FOR_KINDS:
        type_name = TYPE_FOR_KINDS[frozenset(kinds)]
        text = f"write '-- {seen.key}: {seen.column.name} {type_name}'"
        return text if seen.kinds == kinds else f"{text} in each query"
    return "cast it in the query"


class Repeats:
    """What a run says more than once: users with several rows, fields of several queries."""

    def __init__(self, job: Job) -> None:
        self._directory = job.directory
        self._has_ledger = job.settings.send_only_changes
        self._users = db.Tally(job.directory)
        self._shared = sorted(shared_user_fields(job.queries))
        self._differences = db.Differences(job.directory)
        self._query_number = 0
        self._own: set[str] = set()  # the fields of the query that is watched

    def watch(self, query: db.Query, batches: Iterable[list[Row]]) -> Iterator[list[Row]]:
        """Takes notice of a query's planned rows as they come by."""
        self._users.close()
        self._users = db.Tally(self._directory)
        self._query_number += 1
        self._own = user_field_names(query)
        for rows in batches:
            sent = list(sent_user_fields(rows))
            self._users.note([hash(user) for user, _ in sent])
            if self._shared:
                self._differences.note(self._shared_values(sent))
            yield rows

    def _shared_values(
        self, sent: Iterable[tuple[str | None, Json]]
    ) -> Iterator[tuple[int, int, int, int]]:
        for user, user_fields in sent:
            for number, name in enumerate(self._shared):
                if name in user_fields:
                    value = hash(to_json(user_fields[name]))
                    yield hash((user, name)), value, self._query_number, number

    def warnings(self) -> list[str]:
        """What a person should know of the query that was watched last."""
        warnings = []
        users = self._users.count_repeated()
        if users:
            text = (
                f"Users with several rows: {users:,}. The last row of each stands; does a join "
                "multiply them?"
            )
            if self._has_ledger:
                text += " Where rows differ, their fields are sent in every run"
            warnings.append(text)
        for number, users in sorted(self._differences.count().items()):
            name = self._shared[number]
            if name in self._own:
                warnings.append(
                    f"Users for whom queries of this run set {name} differently: {users:,}. The "
                    "last one stands"
                )
        return warnings

    def close(self) -> None:
        """Removes what was taken down."""
        self._users.close()
        self._differences.close()


def shared_user_fields(queries: Sequence[db.Query]) -> set[str]:
    """The user fields that several queries set."""
    queries_by_name: Counter[str] = Counter()
    for query in queries:
        queries_by_name.update(user_field_names(query))
    return {name for name, count in queries_by_name.items() if count > 1}


def user_field_names(query: db.Query) -> set[str]:
    """What may be names of its user fields: a last word is mostly a type, or part of the name."""
    names = set()
    for text in columns_of(query, "user fields"):
        names |= {text, text.rpartition(" ")[0].strip()}
    return names - {""}


def sent_user_fields(rows: Iterable[Row]) -> Iterator[tuple[str | None, Json]]:
    """Of each user update that can be sent the user and the dataFields."""
    for row in rows:
        if row.update and row.update.payload is not None:
            yield row.user, row.update.payload["dataFields"]


# --- The ledger: what Iterable accepted before --------------------------------


@contextmanager
def open_ledger(job: Job, trouble: Trouble) -> Iterator[db.Ledger | None]:
    """The ledger, where the run has one; a dry run's is a copy.

    Where another process has locked it, that is trouble: all is queried, and nothing sent.

    One that is there is kept true without the option, too: what is sent now would else be
    taken for unchanged later.
    """
    settings = job.settings
    path = settings.output_dir / LEDGER_NAME
    is_kept_true = not job.options.dry_run and os.path.lexists(path)
    is_used = settings.send_only_changes or is_kept_true
    if not is_used or job.options.demo or not settings.iterable_api_key:
        yield None
        return
    project = f"{settings.iterable_api_base_url} {settings.iterable_api_key}"
    ledger = None
    try:
        ledger = db.Ledger(path, project, writable=not job.options.dry_run)
    except db.LedgerLockedError as error:
        trouble.note(error)
    try:
        yield ledger
    finally:
        if ledger:
            ledger.close()


def ledger_warnings(job: Job, ledger: db.Ledger | None) -> list[str]:
    """What a person should know of the ledger."""
    if not job.settings.send_only_changes:
        return []
    if not job.settings.iterable_api_key:
        return [
            "Without ITERABLE_API_KEY nobody can tell what was sent before: every call is shown"
        ]
    if ledger and ledger.is_new_project:
        return ["The ledger does not know this API key and base URL: everything is sent once more"]
    return []


def skip_known(ledger: db.Ledger, sync: Sync, batches: Iterable[list[Row]]) -> Iterator[list[Row]]:
    """Takes out of the calls what Iterable accepted before; nothing without the option."""
    for rows in batches:
        calls = mark_calls(ledger, rows)
        marks = [call.mark for call in calls]
        if ledger.has_old_entries:
            ledger.take_over(list(marks_and_old_names(sync.query.name, rows)))
        if sync.job.settings.send_only_changes:
            for call, due in zip(calls, ledger.begin(marks), strict=True):
                keep_due(call, due)
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
            row.event.mark = ledger.mark(f"{row.event_id}", row.event.payload)
            calls.append(row.event)
    return calls


def mark_update(ledger: db.Ledger, user: str | None, payload: Json) -> db.Mark:
    """The mark of a user update, whichever query sends it."""
    kind = "email " if "email" in payload else "userId "
    # One without fields makes the user, and no more.
    return ledger.mark_fields(f"{kind}{user}", payload["dataFields"] or {"": None})


def keep_due(call: Call, due: db.Mark) -> None:
    """Leaves in a call what is due of it; one of which nothing is, is skipped."""
    _, parts = call.mark
    _, due_parts = due
    call.mark = due if due_parts else None
    if not due_parts:
        call.outcome = iterable_client.SKIPPED
        call.payload = None  # thousands of rows may wait beside the few that go out
    elif len(due_parts) < len(parts) and call.payload is not None:
        kept = {}
        for (name, value), part in zip(call.payload["dataFields"].items(), parts, strict=True):
            if part in due_parts:
                kept[name] = value
        call.payload["dataFields"] = kept


def marks_and_old_names(
    query_name: str, rows: Iterable[Row]
) -> Iterator[tuple[db.Mark, str, Json]]:
    """Of each user update the mark, and the name and payload that ledgers once marked."""
    for row in rows:
        if row.update and row.update.payload is not None:
            yield row.update.mark, f"{query_name} {row.user}", row.update.payload


def tell_ledger(ledger: db.Ledger, settled: Settled) -> None:
    """Records what Iterable accepted; a field that it dropped, saying success, is none of it."""
    ended = []
    for row in settled.rows:
        for call in row.calls:
            if call.mark is not None:
                is_accepted = call.outcome is not None and call.outcome.kind == Kind.ACCEPTED
                ended.append((call.mark, is_accepted))
    dropped = set(settled.dropped_user_fields)
    dropped |= {name.partition(".")[0] for name in dropped}  # `a.b` is of the object `a`
    ledger.end(ended, dropped)


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

CALLS_TO_GIVE_UP = 10  # in a row, of different rows, without a useful answer: they end the run
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


def make_client(settings: Settings, stop: iterable_client.Stop) -> IterableClient:
    """The client of a run."""
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
        give_up_after=CALLS_TO_GIVE_UP,
        stop=stop,
    )


def number_of(count: int, noun: str) -> str:
    """So many of something."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


class Preview:
    """What a dry run tells of the sending: its first requests, and how long it would take."""

    def __init__(self, sending: Sending, rate_limit_factor: float) -> None:
        self.firsts: dict[iterable_client.Operation, Json] = {}  # of each, what it says of a row
        self._sending = sending
        self._rate_limit_factor = rate_limit_factor
        self._calls = 0
        self._requests: Counter[iterable_client.Operation] = Counter()

    def note(self, rows: Iterable[Row]) -> None:
        """Takes notice of planned rows that would be sent together."""
        updates, events = [], []
        for row in rows:
            if row.update and row.update.outcome is None:
                updates.append(row.update.payload)
            if row.event and row.event.outcome is None:
                events.append(row.event.payload)
        bulk_updates, bulk_events = (
            iterable_client.USERS_BULK_UPDATE,
            iterable_client.EVENTS_TRACK_BULK,
        )
        self._note(iterable_client.USERS_UPDATE, bulk_updates, updates)
        self._note(iterable_client.EVENTS_TRACK, bulk_events, events)

    def _note(
        self,
        single: iterable_client.Operation,
        bulk: iterable_client.Operation,
        payloads: Sequence[Json | None],
    ) -> None:
        if not payloads:
            return
        self._calls += len(payloads)
        operation, requests = single, len(payloads)
        if self._sending.is_bulk:
            operation, requests = bulk, math.ceil(len(payloads) / iterable_client.BULK_ITEMS)
        if payloads[0] is not None:
            self.firsts.setdefault(operation, payloads[0])
        self._requests[operation] += requests

    def describe(self) -> str:
        """Calls, requests and seconds."""
        if not self._calls:
            return "nothing"
        seconds = 0.0
        for operation, count in self._requests.items():
            seconds = max(seconds, count / (operation.per_second * self._rate_limit_factor))
        mode = "bulk" if self._sending.is_bulk else "single"
        requests = self._requests.total()
        time_text = f"{seconds:,.1f} s" if seconds >= 0.1 else "less than 0.1 s"
        return (
            f"{number_of(self._calls, 'call')} in {number_of(requests, f'{mode} request')}, which "
            f"Iterable's limits let through in {time_text}"
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


MOST_NAMES = 100  # of fields and of codes, that are kept: what comes from Iterable has bounds
LONGEST_NAME = 200  # characters


class Results:
    """What became of every row: counts, and a line of JSON a row until the summary is known."""

    def __init__(self, lines: IO[str], identifier_kind: str) -> None:
        """`lines`: an empty file for them; `identifier_kind` is "email" or "userId"."""
        self.states: Counter[RowState] = Counter()
        self.failure_reasons: Counter[str] = Counter()
        self.failure_examples: dict[str, Json] = {}  # by code, the first that says why
        self._wordless: set[str] = set()  # codes whose example does not
        self.skipped_calls = 0
        self.is_cut_short = False  # whether a stop kept a call of a recorded row from its answer
        self.filtered_fields: set[str] = set()
        self._failure: Exception | None = None  # why lines are missing, if so
        self._identifier_kind = identifier_kind
        self._lines = lines
        self._separator = "\n"

    def record(self, settled: Settled) -> None:
        """Takes down what became of rows; those that were not sent have no line."""
        self._note_filtered(settled.dropped_user_fields | settled.dropped_event_fields)
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

    def _note_filtered(self, names: Iterable[str]) -> None:
        for name in names:
            if len(self.filtered_fields) < MOST_NAMES:
                self.filtered_fields.add(name[:LONGEST_NAME])

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
                    self._count_call(row, call, call.outcome)

    def _count_call(self, row: Row, call: Call, outcome: Outcome) -> None:
        if outcome.kind == Kind.SKIPPED:
            self.skipped_calls += 1
        elif outcome.kind != Kind.ACCEPTED:
            code = outcome.answer["code"]
            if len(self.failure_reasons) >= MOST_NAMES and code not in self.failure_reasons:
                code = "Other"
            self.failure_reasons[code] += 1
            has_words = "bulk" not in outcome.answer
            if code not in self.failure_examples or (has_words and code in self._wordless):
                self.failure_examples[code] = failure_example(row, call, outcome)
                self._wordless.discard(code)
                if not has_words:
                    self._wordless.add(code)
            if outcome.kind != Kind.FAILED:
                self.is_cut_short = True

    @property
    def with_outcome(self) -> int:
        """The number of rows that have an outcome."""
        return sum(self.states[state] for state in COUNTED)

    @property
    def with_record(self) -> int:
        """The number of rows that have a record: those, and in a dry run the planned ones."""
        return self.states.total() - self.states[RowState.NOT_SENT]

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


LONGEST_EXAMPLE = 300  # characters of a message


def failure_example(row: Row, call: Call, outcome: Outcome) -> Json:
    """A failed call, for a person who asks which row and which field."""
    message = iterable_client.without_addresses(str(outcome.answer.get("msg")), row.user)
    return {
        "row": row.number,
        "call": "users_update" if call is row.update else "events_track",
        "status": outcome.status,
        "msg": message[:LONGEST_EXAMPLE],
    }


def record_line(row: Row, identifier_kind: str, state: RowState, now: str) -> str:
    """A row's line of JSON. By hand: half of what json.dumps takes, a million times."""
    return (
        f'{{"row": {row.number}, "{identifier_kind}": {to_json(row.user)}, '
        f'"event_id": {to_json(row.event_id)}, "timestamp": "{now}", '
        f'"users_update": {call_json(row.update)}, "events_track": {call_json(row.event)}, '
        f'"overall_success": {OVERALL_SUCCESS[state]}}}'
    )


BULK_ANSWER = iterable_client.BULK_ACCEPTED.answer
BULK_ACCEPTED_JSON = to_json(
    {
        "success": True,
        "status": iterable_client.BULK_ACCEPTED.status,
        "response": BULK_ANSWER,
    }
)
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
    told = {
        "success": outcome.is_success,
        "status": outcome.status,
        "response": outcome.answer,
    }
    return to_json(told)


# --- The end of a run ---------------------------------------------------------


@dataclass(frozen=True)
class Conclusion:
    """How a query ended."""

    status: Status
    exit_code: int
    warnings: list[str]
    reason: str = ""  # of a run that was aborted; it is the last of the warnings, too


def conclude(sync: Sync, tools: Tools, total: int, sent: Sent) -> Conclusion:
    """How a query of `total` rows ended, and what a person should know of it.

    What the client found to be hopeless goes before a signal, since a run that is repeated
    would end alike; a signal goes before the lack of answers, which it may have caused.
    """
    client, received = tools.client, tools.signals.received
    results, warnings = sent.results, sent.warnings
    if results.filtered_fields:
        names = ", ".join(sorted(results.filtered_fields))
        if len(results.filtered_fields) == MOST_NAMES:
            names += " and perhaps more"
        text = f"Iterable dropped fields that the project does not know, and said success: {names}"
        warnings = [*warnings, text]
    ending = tools.trouble.reason or (client and client.health.ending)
    if ending:
        return aborted(ending, warnings)
    if received and (results.is_cut_short or results.with_record < total):
        return Conclusion(Status.INTERRUPTED, 128 + received, warnings)
    exit_code = ExitCode.DELIVERED
    if results.failure_reasons and not is_tolerated(results, sync.job.settings.tolerated_failures):
        exit_code = ExitCode.ROWS_FAILED
    if client is None:
        return Conclusion(Status.DRY_RUN, exit_code, warnings)
    if client.counts["sent"] and not client.health.was_answered:
        return aborted(client.health.no_answer, warnings)
    if results.failure_reasons:
        return Conclusion(Status.COMPLETED_WITH_FAILURES, exit_code, warnings)
    return Conclusion(Status.COMPLETED, exit_code, warnings)


def aborted(reason: str, warnings: list[str]) -> Conclusion:
    """A query that was given up."""
    return Conclusion(Status.ABORTED, ExitCode.ABORTED, [*warnings, reason], reason)


def is_tolerated(results: Results, codes: Collection[str]) -> bool:
    """Whether the failures are only such as are no bad news, and not all that there was."""
    good = (RowState.SUCCESSFUL, RowState.UNCHANGED, RowState.PLANNED)
    has_good_rows = any(results.states[state] for state in good)
    return has_good_rows and results.failure_reasons.keys() <= set(codes)


def summarize(
    sync: Sync,
    tools: Tools,
    fetched: Fetched,
    sent: Sent,
    conclusion: Conclusion,
    csv_path: Path,
) -> Json:
    """What stands in the results file before the records."""
    results = sent.results
    requests = {"sent": 0, "retried": 0, "rate_limited": 0}
    if tools.client:
        requests = dict(tools.client.counts)
    counts = {state.value: results.states[state] for state in COUNTED}
    return {
        "run": describe_run(sync, sent.sending, conclusion, csv_path),
        "total_users": fetched.total,
        **counts,
        "not_sent": fetched.total - results.with_outcome,
        "failure_reasons": dict(results.failure_reasons),
        "failure_examples": results.failure_examples,
        "requests": requests,
        "reports": fetched.reports,
    }


def describe_run(sync: Sync, sending: Sending, conclusion: Conclusion, csv_path: Path) -> Json:
    """What a results file says of the run. find_last_end() reads it there."""
    job, window = sync.job, sync.window
    return {
        "id": str(uuid.uuid4()),
        "status": conclusion.status.value,
        "started_at": sync.started.isoformat(timespec="seconds"),
        "finished_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - sync.began, 3),
        "query": sync.query.name,
        "since": window.since.isoformat(),
        "until": window.until.isoformat(),
        "days": job.days,
        "as_of": as_of_text(job.options),
        "limit": job.options.limit,
        "send_mode": "bulk" if sending.is_bulk else "single",
        "authentication": "jwt" if job.settings.use_jwt_auth else "api_key",
        "base_url": job.settings.iterable_api_base_url,
        "csv_file": csv_path.name,
        "warnings": conclusion.warnings,
    }


@dataclass(frozen=True)
class Ending:
    """All that there is to say of a query that has ended."""

    sync: Sync
    sent: Sent
    conclusion: Conclusion
    summary: Json  # of the results file
    paths: list[Path]  # of the files that it left


def report_end(ending: Ending) -> None:
    """Says in the log and, unless nobody wants to know, on the screen how a query ended."""
    options, conclusion = ending.sync.job.options, ending.conclusion
    names = [*(state.value for state in COUNTED), "not_sent", "failure_reasons"]
    counts = {name: ending.summary[name] for name in names}
    log.info("%s, exit code %d: %s", conclusion.status.value, conclusion.exit_code, counts)
    for warning in conclusion.warnings:
        log.warning("%s", warning)
    has_gap = bool(ending.sync.window.warning)  # rows that nobody else will miss
    if conclusion.exit_code == ExitCode.DELIVERED and options.quiet and not has_gap:
        return
    show_page(summary_page(ending), is_quiet=options.quiet)


# --- What --check says --------------------------------------------------------

CHECKED_ROWS = 100  # of each query


class Finding(NamedTuple):
    """Something that --check found."""

    label: str
    text: str
    code: ExitCode = ExitCode.DELIVERED  # that a run would have because of it
    is_note: bool = False  # what a person should know, though nothing is wrong


def check(job: Job, signals: Signals) -> int:
    """Sends nothing and leaves no files, but says what is wrong; returns the exit code."""
    handler = logging.StreamHandler() if job.options.verbose else logging.NullHandler()
    set_handlers([handler], "DEBUG")
    env_file = find_env_file(job.options)
    source = f"from the environment and {env_file}" if env_file else "from the environment"
    findings = [Finding("Settings", source), check_directory(job.directory), *check_files(job)]
    for warning in job.warnings:
        findings.append(Finding("", warning, is_note=True))
    database = check_database(job.settings)
    signals.raise_missed()
    findings.append(database)
    samples = []
    kinds: KindsOfRun = {}
    if database.code == ExitCode.DELIVERED:
        for report in job.reports:
            findings.append(check_report(job, report))
            signals.raise_missed()
        for query in job.queries:
            sample = take_sample(job, query, kinds)
            signals.raise_missed()
            findings += sample.findings
            samples.append(sample)
    findings += check_fields(job, samples)
    code = max(finding.code for finding in findings)
    if code or not job.options.quiet:
        show_page(check_page(findings), is_quiet=job.options.quiet)
    return code


def check_page(findings: Iterable[Finding]) -> Iterator[Entry]:
    """The findings, each with its verdict."""
    for finding in findings:
        verdict, colour = "ok", GREEN
        if finding.is_note:
            verdict, colour = "note", YELLOW
        if finding.code:
            verdict, colour = "wrong", RED
        yield Entry(finding.label, f"{verdict:<7}{finding.text}", colour, hang=7)


def check_directory(directory: Path) -> Finding:
    """Whether files can be made in the output directory, which a run makes where it is missing."""
    there = next(
        path for path in [directory, *directory.absolute().parents] if os.access(path, os.F_OK)
    )
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return Finding("Output", f"into {directory.resolve()}")
    text = f"{directory.resolve()} cannot be written: name another with --output-dir"
    return Finding("Output", text, ExitCode.WRONG_INPUT)


def check_files(job: Job) -> Iterator[Finding]:
    """What is wrong with lock, log and ledger; nothing is made or written."""
    log_file = job.settings.log_file
    own_names = [LOCK_NAME] if log_file else [LOCK_NAME, LOG_NAME]
    for name in own_names:
        path = job.directory / name
        if os.path.islink(path):  # noqa: PTH114 - Path's may raise
            yield Finding("", f"{path} is a symbolic link: remove it", ExitCode.WRONG_INPUT)
    if log_file and not can_write(log_file):
        text = f"The log {log_file} cannot be written: name another with LOG_FILE"
        yield Finding("", text, ExitCode.WRONG_INPUT)
    ledger = job.directory / LEDGER_NAME
    if os.path.lexists(ledger):
        try:
            db.Ledger(ledger, "", writable=False).close()
        except db.LedgerError as error:
            yield Finding("", str(error), ExitCode.WRONG_INPUT)
        except (db.LedgerLockedError, sqlite3.Error) as error:
            yield Finding("", f"The ledger {ledger}: {error}", ExitCode.ABORTED)


def can_write(path: Path) -> bool:
    """Whether a file can be written, or made where there is none."""
    if not os.access(path, os.F_OK):
        return os.access(path.parent, os.W_OK)
    try:
        os.close(open_at_once(str(path), os.O_WRONLY | os.O_APPEND))
    except OSError:  # a directory, a pipe that nobody reads
        return False
    return True


def check_database(settings: Settings) -> Finding:
    """Whether it can be reached."""
    url = settings.database_url
    try:
        with db.connect(url, settings.database_timezone):
            return Finding("Database", db.describe_url(url))
    except db.DatabaseError as error:
        return Finding("Database", str(error), ExitCode.DATABASE)


def check_report(job: Job, report: db.Query) -> Finding:
    """Whether a report can be run."""
    settings = job.settings
    try:
        with db.connect(settings.database_url, settings.database_timezone) as database:
            _, rows = database.rows(report, job.since, job.until)
            number = sum(1 for _ in islice(rows, CHECKED_ROWS))
    except (db.QueryFileError, db.DatabaseError) as error:
        return Finding("Report", str(error), code_of(error))
    return Finding("Report", f"{report.name}: {count_rows(number, CHECKED_ROWS)}")


def count_rows(number: int, most: int) -> str:
    """The rows that were looked at, of which there were to be so many at the most."""
    if number == most:
        return "looked at the first row" if most == 1 else f"looked at the first {most} rows"
    return "looked at its only row" if number == 1 else f"looked at all {number} rows"


@dataclass(frozen=True)
class Sample:
    """The first rows of a query, and what they would send."""

    query: db.Query
    findings: list[Finding]
    user_fields: dict[str, list[Any]]  # the values of each that are not NULL


def take_sample(job: Job, query: db.Query, kinds: KindsOfRun) -> Sample:
    """Runs a query, and plans the calls of its first rows; `kinds`: of the queries before."""
    settings, window = job.settings, find_window(job, query)
    most = min(job.options.limit or CHECKED_ROWS, CHECKED_ROWS)
    url, zone = settings.database_url, settings.database_timezone
    try:
        with db.connect(url, zone) as database:
            columns, rows = database.rows(query, window.since, window.until)
            plan = make_plan(query, columns, zone)
            cells = list(islice(rows, most))
    except (db.QueryFileError, db.DatabaseError) as error:
        return Sample(query, [Finding("Query", str(error), code_of(error))], {})
    planned = [plan_row(plan, number, row) for number, row in enumerate(cells, 1)]
    findings = [Finding("Query", f"{query.name}: {count_rows(len(cells), most)}")]
    findings += failed_calls(planned, settings.tolerated_failures)
    rows_by_user = Counter(user for user, _ in sent_user_fields(planned))
    repeated = sum(number > 1 for number in rows_by_user.values())
    if repeated:
        text = f"Users with several rows: {repeated}. Does a join multiply them?"
        findings.append(Finding("", text, is_note=True))
    field_kinds = FieldKinds(plan, 0, kinds)
    field_kinds.note(cells)
    warnings = field_kinds.warnings()
    field_kinds.remember()
    for warning in [window.warning, *warnings]:
        if warning:
            findings.append(Finding("", warning, is_note=True))
    return Sample(query, findings, user_field_values(planned))


def failed_calls(rows: Iterable[Row], tolerated: Collection[str]) -> list[Finding]:
    """The first of the calls that cannot be made, of each code and column."""
    findings: dict[tuple[str, str], Finding] = {}
    for row in rows:
        for call in row.calls:
            if call.outcome:
                code = call.outcome.answer["code"]
                example = failure_example(row, call, call.outcome)
                text = f"{code} in row {row.number}: {example['msg']}. {find_advice(code, None)}"
                finding = Finding("", text, ExitCode.ROWS_FAILED)
                if code in tolerated:
                    finding = Finding("", f"{text} It is tolerated.", is_note=True)
                column = example["msg"].partition(":")[0]
                findings.setdefault((code, column), finding)
    return list(findings.values())


def user_field_values(rows: Iterable[Row]) -> dict[str, list[Any]]:
    """What each user field goes out as, NULL aside."""
    values: dict[str, list[Any]] = {}
    for _, user_fields in sent_user_fields(rows):
        for name, value in user_fields.items():
            known = values.setdefault(name, [])
            if value is not None:
                known.append(value)
    return values


# A day or a time in whole seconds, as Iterable reads it from text.
ITERABLE_TIME = re.compile(
    r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d)?( ?(Z|[+-]\d\d:?\d\d))?)?", re.ASCII
)


def kinds_of_value(value: Any) -> set[str]:
    """The kind of a JSON value; an array has the kinds of what is in it, as in Iterable."""
    if isinstance(value, list):
        return set().union(*map(kinds_of_value, value))
    if isinstance(value, str) and ITERABLE_TIME.fullmatch(value):
        return {"time"}
    return {JSON_KINDS[type(value)]} if type(value) in JSON_KINDS else set()


@dataclass(frozen=True)
class FieldType:
    """A type of user fields in Iterable."""

    takes: frozenset[str]  # kinds of JSON
    cell_type: str  # the word for it in queries.sql


ITERABLE_TYPES = {  # by Iterable's names for them
    "string": FieldType(frozenset({"text", "time"}), "text"),
    "long": FieldType(frozenset({"integer"}), "integer"),
    "double": FieldType(frozenset({"fraction", "integer"}), "decimal"),
    "boolean": FieldType(frozenset({"boolean"}), "boolean"),
    "date": FieldType(frozenset({"time"}), "timestamp"),
    "object": FieldType(frozenset({"object"}), "json"),
}


def check_fields(job: Job, samples: Sequence[Sample]) -> list[Finding]:
    """Whether Iterable takes the credentials, and the user fields of the queries."""
    settings = job.settings
    if settings.use_jwt_auth:
        text = "a JWT-enabled key cannot ask for the project's fields: try --limit 1"
        return [Finding("Iterable", text, is_note=True)]
    # Not that of a batch: a limit that others use up is told after three attempts.
    client = IterableClient(
        settings.iterable_api_key,
        base_url=settings.iterable_api_base_url,
        timeout=settings.request_timeout,
    )
    is_ok, answer = client.get_user_fields()
    if not is_ok:
        reason = explain_refusal(settings.iterable_api_base_url, answer)
        return [Finding("Iterable", iterable_client.without_addresses(reason), ExitCode.ABORTED)]
    known = answer["fields"]
    text = f"{settings.iterable_api_base_url} takes the key; the project has {len(known)} fields"
    findings = [Finding("Iterable", text)]
    for sample in samples:
        findings += check_sample(sample, answer["fields"], settings.database_timezone)
    return findings


def explain_refusal(base_url: str, answer: Json) -> str:
    """Why the project's fields could not be had, and what to check."""
    code = answer["code"]
    said = f"{base_url} said {code}: {answer.get('msg')}"
    if code in iterable_client.REFUSALS:
        return f"Iterable refused the credentials. Check {iterable_client.REFUSALS[code]}. {said}"
    return f"{said}. {find_advice(code, None)}"


def check_sample(sample: Sample, known: Mapping[str, str], zone: ZoneInfo) -> Iterator[Finding]:
    """Whether Iterable takes the fields of a query; `known`: their types there, by name."""
    query = sample.query
    label = "Fields"
    new = [name for name in sample.user_fields if not is_known(name, known)]
    for name, values in sample.user_fields.items():
        if name in known:
            complaint = compare_field(name, values, known[name], zone)
            if complaint:
                yield Finding(label, f"{query.name}: {complaint}", ExitCode.ROWS_FAILED)
                label = ""
    if new:
        fate = "drops them" if query.keys.get("new fields") == "no" else "creates them"
        text = f"{query.name}: new to the project, Iterable {fate}: {', '.join(new)}"
        yield Finding(label, text, is_note=True)
        label = ""
    if "event fields" in query.keys:
        yield Finding(
            label, f"{query.name}: Iterable does not tell the types of event fields", is_note=True
        )


def is_known(name: str, known: Mapping[str, str]) -> bool:
    """Whether a project has a field; of an object Iterable may name the fields alone."""
    return name in known or any(other.startswith(f"{name}.") for other in known)


def compare_field(name: str, values: Sequence[Any], type_there: str, zone: ZoneInfo) -> str:
    """What is wrong with a user field of values that a project has with a type; "" if nothing."""
    expected = ITERABLE_TYPES.get(type_there)
    if expected is None:
        return ""
    kinds: set[str] = set().union(*map(kinds_of_value, values))
    wrong = kinds - expected.takes
    if not wrong:
        return ""
    here = " and ".join(sorted(wrong))
    advice = "send another field, or cast it in the SQL"
    with suppress(ValueError):
        for value in values:
            db.cast_cell(expected.cell_type, value, zone)
        advice = f"in '-- user fields' write {name} {expected.cell_type}"
    return f"{name} goes out as {here}, but is {type_there} in Iterable, which refuses it: {advice}"


# --- The screen ---------------------------------------------------------------


class Progress:
    """A line on the terminal, at most twice a second: how far the query and the sending are."""

    def __init__(self, sync: Sync) -> None:
        is_wanted = not (sync.job.options.quiet or sync.job.options.verbose)
        self._is_shown = is_wanted and sys.stderr.isatty()
        self._began = self._last = 0.0
        self._total = 0
        self._line = ""  # what it shows now
        self._name = sync.query.name
        self._heading = f"{self._name}: " if len(sync.job.queries) > 1 else ""

    def begin_query(self) -> None:
        """Says that the database is at work."""
        self._show(f"Querying {self._name}")

    def count(self, rows: Iterable[Item]) -> Iterable[Item]:
        """Counts the rows that come by."""
        return self._counted(rows) if self._is_shown else rows

    def _counted(self, rows: Iterable[Item]) -> Iterator[Item]:
        for number, row in enumerate(rows, 1):
            if number % 100 == 0 and self._is_due():
                self._show(f"Querying {self._name}: {number:,} rows")
            yield row

    def begin_sending(self, total: int) -> None:
        """From now on rows are sent, `total` in all."""
        self._total = total
        self._began = time.monotonic()

    def show(self, results: Results) -> None:
        """Shows rows of total, rate, time left and failures, where it is time to."""
        if not self._is_shown or not self._is_due():
            return
        done = results.with_record
        rate = done / max(self._last - self._began, 0.001)
        left = "waiting for Iterable"
        if rate:
            left = f"{timedelta(seconds=round((self._total - done) / rate))} left"
        failed = results.failure_reasons.total()
        self._show(
            f"{self._heading}{done:,} of {self._total:,} rows, {rate:,.0f}/s, {left}, "
            f"{failed:,} calls failed"
        )

    def close(self) -> None:
        """Makes room for what is printed next."""
        if self._line:
            self._show("")

    def _is_due(self) -> bool:
        now = time.monotonic()
        if now - self._last < 0.5:
            return False
        self._last = now
        return True

    def _show(self, line: str) -> None:
        self._line = line
        if self._is_shown:
            room = shutil.get_terminal_size().columns - 1
            with suppress(OSError):  # the terminal may be gone
                print(f"\r\033[K{line[:room]}", end="", file=sys.stderr, flush=True)


GREEN, YELLOW, RED, CYAN = 32, 33, 31, 36  # ANSI's numbers
COLOURS = {
    Status.COMPLETED: GREEN,
    Status.COMPLETED_WITH_FAILURES: YELLOW,
    Status.DRY_RUN: CYAN,
    Status.ABORTED: RED,
    Status.INTERRUPTED: RED,
}
LABEL_WIDTH = 10
NARROW, WIDE = 60, 100  # columns of a page, at the least and at the most


class Entry(NamedTuple):
    """A line or paragraph of a page: on the left what it is about."""

    label: str
    text: str
    colour: int | None = None  # of the text's first line
    is_wrapped: bool = True
    hang: int = 0  # columns by which the other lines are indented


def show_page(entries: Iterable[Entry], is_quiet: bool) -> None:
    """Prints a page; who wanted to hear nothing gets it as an error."""
    with suppress(OSError):  # | head, or a full disk: what was done is done
        print_page(entries, sys.stderr if is_quiet else sys.stdout)


def print_page(entries: Iterable[Entry], out: IO[str]) -> None:
    """Prints a page, as wide as the terminal; without one as for a mail."""
    is_terminal = out.isatty()
    columns = shutil.get_terminal_size().columns if is_terminal else 80
    width = min(max(columns, NARROW), WIDE) - 1
    has_colour = is_terminal and not os.environ.get("NO_COLOR")
    for entry in entries:
        lines = [db.printable(line) for line in wrap_entry(entry, width - LABEL_WIDTH)]
        if has_colour and entry.colour:
            lines[0] = f"\033[{entry.colour}m{lines[0]}\033[0m"
        label = entry.label
        for line in lines:
            print(f"{label:<{LABEL_WIDTH}}{line}".rstrip(), file=out)
            label = ""


def wrap_entry(entry: Entry, width: int) -> list[str]:
    """The lines of an entry. Paths are not broken."""
    if not entry.is_wrapped:
        return entry.text.split("\n")
    return textwrap.wrap(
        entry.text,
        width,
        subsequent_indent=" " * entry.hang,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [""]


def summary_page(ending: Ending) -> list[Entry]:
    """What a person wants to know of a query that has ended."""
    summary, run_ = ending.summary, ending.summary["run"]
    conclusion = ending.conclusion
    status = conclusion.status
    text = f"{status.value.replace('_', ' ')} in {run_['seconds']:.1f} s"
    page = [Entry("Status", text, COLOURS[status])]
    if conclusion.reason:
        page.append(Entry("Reason", conclusion.reason))
    page.append(Entry("Query", run_["query"]))
    if ending.sync.query.has_since:
        page.append(Entry("Window", describe_window(ending.sync.window)))
    page += row_entries(ending)
    if ending.sent.preview:
        page.append(Entry("To send", ending.sent.preview.describe()))
    else:
        page.append(Entry("Requests", describe_requests(summary["requests"], ending)))
    for warning in run_["warnings"]:
        if warning != conclusion.reason:
            page.append(Entry("Warning", warning))
    for path in ending.paths:
        page.append(Entry("File", str(path.resolve()), is_wrapped=False))
    page += failure_entries(summary, ending.sync.job.settings.tolerated_failures)
    if ending.sent.preview:
        page += request_entries(ending.sent.preview)
    for name, rows in summary["reports"].items():
        page += report_entries(name, rows)
    page += next_entries(ending)
    if len(ending.sync.job.queries) > 1:
        page.append(Entry("", ""))
    return page


def describe_window(window: Window) -> str:
    """From when to when, and in which zone."""
    since, until = (f"{time:%Y-%m-%d %H:%M:%S}" for time in (window.since, window.until))
    text = f"{since} to {until} {window.until.tzinfo}"
    return f"{text}, {window.note}" if window.note else text


def row_entries(ending: Ending) -> list[Entry]:
    """The number of rows, and what became of them, a line each."""
    summary = ending.summary
    total = summary["total_users"]
    if not total:
        text = "none"
        if ending.sync.query.has_since:
            text = "none in this window: --days makes it longer, --as-of moves its end"
        return [Entry("Rows", text)]
    entries = [Entry("Rows", f"{total:,}")]
    width = len(f"{total:,}") + 2
    for key, words in ROW_WORDS.items():
        if ending.sent.preview and key == RowState.NOT_SENT.value:
            continue  # as none is in a dry run
        if summary[key] == total:
            return [Entry("Rows", f"{total:,}, all {words}")]
        if summary[key]:
            entries.append(Entry("", f"{summary[key]:>{width},} {words}"))
    return entries


ROW_WORDS = {  # by the names of the counts in the results file
    **{state.value: words for state, words in COUNTED.items()},
    RowState.NOT_SENT.value: "not sent",
}


def describe_rows(summary: Json) -> str:
    """The number of rows, and what became of them, in a line."""
    counts = [f"{summary[key]:,} {words}" for key, words in ROW_WORDS.items() if summary[key]]
    return f"{summary['total_users']:,}: {', '.join(counts) or 'none'}"


def describe_requests(requests: Json, ending: Ending) -> str:
    """How many there were, and what slowed them down."""
    parts = [f"{requests['sent']:,} sent"]
    if requests["retried"]:
        parts.append(f"{requests['retried']:,} of them retries")
    if requests["rate_limited"]:
        others = "others use this project's limits, too"
        parts.append(f"{requests['rate_limited']:,} answered 429 ({others})")
    if ending.sent.results.skipped_calls:
        parts.append(f"{ending.sent.results.skipped_calls:,} calls saved by the ledger")
    return ", ".join(parts)


ADVICE = {  # by code: what to do about a failure
    "InvalidValue": "Mend the value in the SQL, or the type behind the field's name: Iterable "
    "cannot take it as it is.",
    "NoIdentifier": "Without an address or a userId there is nobody to update: leave such rows "
    "out in the SQL.",
    "InvalidEmailAddressError": "Mend the address where it comes from, or leave such rows out in "
    "the SQL.",
    "RequestFieldsTypesMismatched": "Iterable fixed the field's type when it first came: cast the "
    "column to it, write it behind the field's name, or send another field. --check "
    "compares the types.",
    "ForgottenUserError": "Iterable was told to forget this user for good: leave them out in the "
    "SQL, or set TOLERATED_FAILURES=ForgottenUserError.",
    "EmailAlreadyExists": "Another user of the project has this address: look there who it is, "
    "and leave one of the two out in the SQL, or merge them in Iterable.",
    "UserIdAlreadyExists": "Another user of the project has this userId, or their address: look "
    "there who it is, and leave one of the two out in the SQL, or merge them in Iterable.",
    "UniqueFieldsLimitExceeded": "The project has as many fields as it may have: send fewer, or "
    "delete some in Iterable.",
    "RateLimitExceeded": "Others use this project's limits, too: run again when they are done.",
    "Timeout": "Iterable may have stored it all the same: run again, no event is added twice. If "
    "it happens often, raise REQUEST_TIMEOUT.",
    "ConnectionError": "Look at the network and the proxy between here and Iterable, then run "
    "again.",
    "5xx": "Iterable had trouble of its own: run again later, no event is added twice.",
    "Interrupted": "The run was stopped before this call was done: run again.",
    "Aborted": "The run ended before this call was done: run again.",
}


def find_advice(code: str, status: int | None) -> str:
    """What to do about a failure, "" where nobody knows."""
    if code in ADVICE:
        return ADVICE[code]
    return ADVICE["5xx"] if status and status >= 500 else ""


def failure_entries(summary: Json, tolerated: Collection[str]) -> list[Entry]:
    """For each reason the number of calls, an example, and what to do."""
    entries = []
    label = "Failures"
    for code, calls in summary["failure_reasons"].items():
        example = summary["failure_examples"][code]
        status = example["status"]
        text = f"{number_of(calls, 'call')}: {code}"
        if status:
            text += f", HTTP {status}"
        if code in tolerated:
            text += ", tolerated"
        entries.append(Entry(label, text))
        call = CALL_WORDS[example["call"]]
        text = f"  Row {example['row']}, {call}: {example['msg']}"
        entries.append(Entry("", text, hang=2))
        advice = find_advice(code, status)
        if advice and code not in tolerated:
            entries.append(Entry("", f"  {advice}", hang=2))
        label = ""
    return [Entry("", ""), *entries] if entries else []


CALL_WORDS = {"users_update": "user update", "events_track": "event"}


def request_entries(preview: Preview) -> list[Entry]:
    """The first requests of a dry run, without addresses."""
    entries = []
    for operation, payload in preview.firsts.items():
        text = json.dumps(payload, indent=2, ensure_ascii=False)
        text = iterable_client.without_addresses(text)
        entries += [
            Entry("", ""),
            Entry(
                "Request", f"POST /api/{operation.name}, the first of {operation.items or 'them'}"
            ),
        ]
        entries += [Entry("", line, is_wrapped=False) for line in text.split("\n")]
    return entries


REPORT_LINES = 20


def report_entries(name: str, rows: Sequence[Json]) -> list[Entry]:
    """A report as a table."""
    lines = table_lines(rows[:REPORT_LINES]) if rows else ["no rows"]
    lines = [iterable_client.without_addresses(line) for line in lines]
    if len(rows) > REPORT_LINES:
        lines.append(f"and {len(rows) - REPORT_LINES:,} more, in the results file")
    entries = [Entry("", line, is_wrapped=False) for line in lines]
    return [Entry("", ""), Entry("Report", name), *entries]


def table_lines(rows: Sequence[Json]) -> list[str]:
    """Rows of the same columns in lines; numbers stand on the right."""
    columns = []
    for name in rows[0]:
        cells = [row[name] for row in rows]
        texts = [name, *("" if cell is None else str(cell) for cell in cells)]
        width = max(map(len, texts))
        is_number = all(isinstance(cell, (int, float)) for cell in cells)
        align = str.rjust if is_number else str.ljust
        columns.append([align(text, width) for text in texts])
    return ["  ".join(line).rstrip() for line in zip(*columns, strict=True)]


def next_entries(ending: Ending) -> list[Entry]:
    """What to type next. A command has a line of its own, to be copied."""
    text, command = "", ""
    status, results_path = ending.conclusion.status, ending.paths[-1]
    preview = ending.sent.preview
    if ending.conclusion.exit_code == ExitCode.ROWS_FAILED:
        text = "Mend these and run again, no event is added twice. All of them:"
        command = shlex.join(["grep", '"overall_success": false', str(results_path)])
    elif status == Status.DRY_RUN and preview and preview.firsts:
        text = (
            f"{results_path} has every request. This sends the first row; then look at that user "
            "in Iterable:"
        )
        arguments = [argument for argument in sys.argv[1:] if argument != "--dry-run"]
        command = shlex.join([short_python(), sys.argv[0], *arguments, "--limit", "1"])
    elif status == Status.ABORTED:
        text = f"Run again when the reason is gone: {what_again(ending)}"
    elif status == Status.INTERRUPTED:
        text = f"Run again: {what_again(ending)}"
    entries = [Entry("", ""), Entry("Next", text)] if text else []
    if command:
        entries.append(Entry("", command, is_wrapped=False))
    return entries


def short_python() -> str:
    """The interpreter, as one would type it here."""
    try:
        return sys.executable.removeprefix(f"{Path.cwd()}/")
    except OSError:  # there is no working directory any more
        return sys.executable


def what_again(ending: Ending) -> str:
    """What another run would send of what this one left."""
    what = "everything is sent once more"
    if ending.sync.job.settings.send_only_changes:
        what = "what is missing is sent"
    return f"{what}, no event is added twice"


if __name__ == "__main__":
    exit_code = main()
    logging.shutdown()
    with suppress(OSError):  # nobody may be reading any more
        sys.stdout.flush()
    os._exit(exit_code)  # not sys.exit(), which waits for threads that wait for an answer

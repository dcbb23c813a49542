"""Databases: named queries from a .sql file, connections, rows that stream.

    queries = load_queries(Path("queries.sql"), keys=["email", "event"])
    with connect("sqlite:///app.db", ZoneInfo("UTC")) as database:
        columns, rows = database.rows(queries["active_users"], since, until)

Connections are read-only where the database can be told so (_ENGINES says what each is
told). SQLite needs the standard library alone; every other database goes through
SQLAlchemy Core, imported only then.

In this file, from top to bottom: the queries file; the form of a URL; connections, to
SQLite and through SQLAlchemy, and what each engine needs; times; typed cells; the spool;
what comes more than once; the ledger.
"""

from __future__ import annotations

import errno
import hashlib
import importlib
import io
import itertools
import json
import marshal
import os
import pickle
import re
import shlex
import sqlite3
import stat
import struct
import sys
import tempfile
from abc import abstractmethod
from array import array
from collections import Counter, UserString
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import Path
from time import monotonic, sleep
from typing import IO, Any, TypeVar
from urllib.parse import quote, quote_plus, urlsplit
from uuid import UUID
from zoneinfo import ZoneInfo

Columns = tuple[str, ...]  # their names
Cells = tuple[Any, ...]  # one row
_Bounds = Mapping[str, datetime]  # of the window, by the name of the parameter
_Result = TypeVar("_Result")


class QueryFileError(Exception):
    """The queries file is wrong. The text says where, and what to type."""


class DatabaseError(Exception):
    """The database cannot be reached or refuses a query.

    The text is for a person, and holds no password.
    """


# --- The queries file ---------------------------------------------------------

_MOST_BYTES = 1_000_000  # of a queries file; nobody writes more

_NAME_LINE = re.compile(r"\s*--\s*name\s*:")
_COMMENT_LINE = re.compile(r"\s*(--|$)")
_KEY_LINE = re.compile(r"--\s+([^:]+):(.*)")
_QUERY_START = re.compile(r"\s*(\(|(SELECT|WITH|VALUES)\b)", re.IGNORECASE)

# What in a statement is a comment, a parameter, or its end. Quoted text makes
# tokens of its own, so that nothing in it is mistaken for one of these; 'it''s'
# makes two, which comes to the same.
_TOKENS = re.compile(
    r"""
      (?P<comment> --[^\n]* | /\*.*?\*/ )
    # PostgreSQL's E'it\'s'
    | (?<!\w)[eE]'(?:[^'\\]|\\.|'')*'
    | '[^']*' | "[^"]*" | `[^`]*`
    # PostgreSQL's $$it's$$ and $tag$it's$tag$
    | (?<![\w$])\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?\$(?P=tag)\$
    | (?P<unclosed> ['"`] | /\* )
    # not a::since, a:since, "a":since
    | (?<![\w:)\]"'`\\]):(?P<parameter>since|until)\b
    # nor a[:n]
    | (?<![\w:)\]"'`\\\[]):(?P<unknown>[^\W\d]\w*)
    | (?P<end>;)
    """,
    re.DOTALL | re.VERBOSE,
)


@dataclass(frozen=True)
class Query:
    """One query of the file, with the comment above it taken apart.

    `keys` are as written: {"email": "email", "user fields": "plan, city"}.
    """

    name: str
    sql: str
    path: Path
    line: int  # of `-- name:`
    keys: Mapping[str, str]
    key_lines: Mapping[str, int]

    @property
    def has_since(self) -> bool:
        """Whether it looks at a window: then its SQL uses :since."""
        return any(token["parameter"] == "since" for token in _TOKENS.finditer(self.sql))

    def error(self, message: str, key: str = "") -> QueryFileError:
        """An error about this query, to raise.

        Arguments:
            message: what is wrong, and what to type.
            key: whose line it is about; by default that of the query's name.

        Returns:
            The error, which names file, line and query.
        """
        line = self.key_lines.get(key, self.line)
        return _make_error(self.path, line, message, self.name)


def load_queries(path: Path, keys: Collection[str]) -> dict[str, Query]:
    """Reads the queries of a file.

    A query begins with `-- name: x`. In the comment below, prose comes first and
    then one line for each key, `-- key: value`. The SQL may use :since and :until.

    Arguments:
        path: the file, in UTF-8.
        keys: those that the caller knows.

    Returns:
        The queries by name, in the order of the file.

    Raises:
        QueryFileError: the file cannot be read, or something in it is wrong.
    """
    lines = _read_text(path).split("\n")
    starts = [at for at, line in enumerate(lines) if _NAME_LINE.match(line)]
    bounds = [*starts, len(lines)]
    _check_preamble(_Source(path, keys), lines[: bounds[0]])
    if not starts:
        message = f"{path} holds no query: begin each with a line '-- name: x'"
        raise QueryFileError(message)
    queries: dict[str, Query] = {}
    for start, end in itertools.pairwise(bounds):
        query = _parse_query(path, keys, lines[start:end], start + 1)
        if query.name in queries:
            line = queries[query.name].line
            message = f"line {line} has a query of that name: rename one of the two"
            raise query.error(message)
        queries[query.name] = query
    return queries


def _read_text(path: Path) -> str:
    """The file's text, without a byte order mark; \\n ends its lines."""
    try:
        text = read_regular(path, _MOST_BYTES).decode("utf-8-sig")
    except OSError as error:
        message = f"The queries file {path} cannot be read: {error.strerror}."
        raise QueryFileError(message) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        message = "this is not UTF-8: save the file as UTF-8"
        raise _make_error(path, line, message) from None
    return text.replace("\r\n", "\n")


def read_regular(path: Path, most_bytes: int) -> bytes:
    """Reads a whole file. Links are followed, pipes and devices are not read.

    Arguments:
        path: the file.
        most_bytes: how many it may have.

    Returns:
        Its bytes.

    Raises:
        OSError: it cannot be read, is no regular file, or is too large; `strerror`
            says which.
    """
    _check_regular(path.stat())
    # By now there may be another file, and a pipe must not be waited for.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        _check_regular(os.fstat(file.fileno()))
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise OSError(errno.EFBIG, f"it has more than {most_bytes:,} bytes")
    return data


def _check_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is a directory, a pipe or a device, no file")


def _make_error(path: Path, line: int, message: str, query: str = "") -> QueryFileError:
    named = f", query '{query}'" if query else ""
    return QueryFileError(f"{path}, line {line}{named}: {message}")


@dataclass(frozen=True)
class _Source:
    """What the checks of a piece of the file need to know about the file."""

    path: Path
    keys: Collection[str]
    query: str = ""

    def error(self, line: int, message: str) -> QueryFileError:
        return _make_error(self.path, line, message, self.query)

    def check_label(self, line: int, comment: str) -> None:
        """Raises QueryFileError for a comment that looks like a key but is read as prose.

        Such are '-- User_Fields: a' and '--email: a', and a key where it has no effect.
        """
        label, colon, _ = comment.partition(":")
        key = self._find_key(label)
        if not colon or key is None:
            return
        meant = f"'-- {key}:'"
        if comment.startswith(f"-- {key}:"):
            problem = "has no effect here: it belongs between '-- name:' and the SQL"
            raise self.error(line, f"{meant} {problem}")
        advice = "write it exactly so, or reword the comment"
        raise self.error(line, f"'{label}:' looks like {meant}: {advice}")

    def _find_key(self, label: str) -> str | None:
        """The key that a label is, but for case, spaces, _ and -."""
        for key in ("name", *self.keys):
            if _squeeze(key) == _squeeze(label):
                return key
        return None


def _squeeze(label: str) -> str:
    return re.sub(r"[\s_-]", "", label).lower()


def _check_preamble(source: _Source, lines: list[str]) -> None:
    """Raises QueryFileError unless the lines above the first query are comments."""
    for number, line in enumerate(lines, 1):
        if not _COMMENT_LINE.match(line):
            message = "this is text before the first query: begin it with '-- name: x'"
            raise source.error(number, message)
        source.check_label(number, line.strip())


def _parse_query(path: Path, keys: Collection[str], lines: list[str], first: int) -> Query:
    """Takes apart `lines`: a query from its `-- name:`, which is line `first`."""
    name = lines[0].partition(":")[2].strip()
    if not re.fullmatch(r"[A-Za-z_][\w-]*", name, re.ASCII):
        problem = "is no name for a query: use letters, digits, _ and -"
        raise _make_error(path, first, f"'{name}' {problem}")
    source = _Source(path, keys, name)
    comment = list(itertools.takewhile(_COMMENT_LINE.match, lines[1:]))
    values, key_lines = _parse_comment(source, comment, first + 1)
    below = 1 + len(comment)
    sql = _parse_sql(source, "\n".join(lines[below:]), first + below)
    if not sql:
        raise source.error(first, "there is no SQL below the comment")
    return Query(name, sql, path, first, values, key_lines)


def _parse_comment(
    source: _Source, lines: list[str], first: int
) -> tuple[dict[str, str], dict[str, int]]:
    """The values and the lines of the keys in the comment above a query."""
    values: dict[str, str] = {}
    key_lines: dict[str, int] = {}
    for number, line in enumerate(map(str.strip, lines), first):
        match = _KEY_LINE.match(line)
        key = match[1] if match else ""
        if match and key in source.keys:
            if key in values:
                problem = "is here a second time: keep one of the two"
                raise source.error(number, f"the key '{key}' {problem}")
            values[key] = _parse_value(source, number, key, match[2])
            key_lines[key] = number
            continue
        source.check_label(number, line)
        is_blank = not line.strip("- ")
        if values and not is_blank:
            problem = f"is none of the keys ({', '.join(source.keys)})"
            message = f"'{line}' {problem}, and prose belongs above them"
            raise source.error(number, message)
    return values, key_lines


def _parse_value(source: _Source, line: int, key: str, text: str) -> str:
    value = text.strip()
    if not value:
        problem = "has no value: write one after the colon, or delete the line"
        raise source.error(line, f"the key '{key}' {problem}")
    return value


def _parse_sql(source: _Source, text: str, first: int) -> str:
    """The SQL of a query without its semicolon, '' if there is none.

    `first` is the line of the file at which `text` begins.
    """
    line, offset, end = first, 0, len(text)
    for token in _TOKENS.finditer(text):
        line += text.count("\n", offset, token.start())
        offset = token.start()
        if token["comment"]:
            source.check_label(line, token[0])
        elif token["unclosed"]:
            advice = "write a quote inside quotes twice: ''"
            raise source.error(line, f"nothing closes this {token[0]} ({advice})")
        elif token["unknown"]:
            problem = "is neither :since nor :until"
            advice = "put a space after any other colon"
            raise source.error(line, f"{token[0]} {problem} ({advice})")
        elif token["end"]:
            end = min(end, offset)
    code = _TOKENS.sub(_blank_comment, text)
    second = re.search(r"[^\s;]", code[end:])
    if second:
        line = first + text.count("\n", 0, end + second.start())
        advice = "give it a '-- name: x' of its own"
        raise source.error(line, f"a second statement begins here: {advice}")
    if not code[:end].strip():
        return ""
    _check_beginning(source, code[:end], first)
    return text[:end].rstrip()


def _check_beginning(source: _Source, code: str, first: int) -> None:
    """Raises QueryFileError where the SQL is no query: a slip must not change a database.

    Not every engine can be told to read only: Spark carried a CREATE TABLE out.
    """
    if not _QUERY_START.match(code):
        blank = len(code) - len(code.lstrip())
        line = first + code.count("\n", 0, blank)
        message = "this is no query: it begins with SELECT, WITH, VALUES or ("
        raise source.error(line, message)


def _blank_comment(token: re.Match[str]) -> str:
    """Spaces for a comment, so that offsets stay; other tokens as they stand."""
    return " " * len(token[0]) if token["comment"] else token[0]


# --- The form of a URL --------------------------------------------------------

_SQLITE = ("sqlite", "sqlite+pysqlite")  # what the standard library opens
_SCHEME = re.compile(r"[A-Za-z][\w+.-]*", re.ASCII)
_CONTROL = re.compile(r"[\0-\x1f\x7f]")
_URL_IS = "a URL, such as sqlite:///customers.db or postgresql://user:password@host/database"
_ENCODINGS = (
    "with what is special in its password percent-encoded "
    "(@ is %40, : is %3A, / is %2F, ? is %3F, # is %23, % is %25)"
)
_SPECIAL = re.compile("[@:/?#]|%(?![0-9A-Fa-f]{2})")


def check_url(text: str) -> str:
    """Judges the form of DATABASE_URL; only connect() can tell what is behind it.

    A path of SQLite may hold anything but control characters. Elsewhere no blank,
    and no @ / ? # may be left over from a password that is not percent-encoded:
    what is behind one would be taken for the host, and show in errors.

    Arguments:
        text: the setting, as it was written.

    Returns:
        The same text.

    Raises:
        ValueError: it has another form. The text says what it must be.
    """
    scheme, separator, rest = text.partition("://")
    if not separator or not _SCHEME.fullmatch(scheme) or _CONTROL.search(rest):
        raise ValueError(_URL_IS)
    if scheme.lower() not in _SQLITE and not _is_unambiguous(rest):
        hint = f", {_ENCODINGS}" if _has_special_password(text) else ""
        raise ValueError(_URL_IS + hint)
    return text


def _has_special_password(url: str) -> bool:
    """Whether the password seems to hold what means something in a URL."""
    credentials = url.partition("://")[2].rpartition("@")[0]
    password = credentials.partition(":")[2]
    return bool(_SPECIAL.search(password))


def _is_unambiguous(rest: str) -> bool:
    """Whether it is clear, in what is behind ://, where the password ends."""
    credentials, _, place = rest.rpartition("@")
    if " " in rest or "#" in place or re.search("[@/?#]", credentials):
        return False
    try:
        # Not the credentials: urlsplit() would refuse a [ in a password.
        urlsplit(f"//{place}")
    except ValueError:
        return False
    return True


def describe_url(url: str) -> str:
    """The URL for logs.

    Arguments:
        url: any text; it need not be a URL that can be used.

    Returns:
        The URL without its password and without the parameters after `?`, which
        may hold one. Where it is not clear what is a password, less is shown.
    """
    scheme, separator, rest = url.partition("://")
    if scheme.lower() in _SQLITE:
        return url
    if not separator:
        return "***"
    place, _, parameters = rest.partition("?")
    if "@" in parameters:  # of a parameter, or behind a ? of the password
        return f"{scheme}://***"
    credentials, at, address = place.rpartition("@")
    user, colon, _ = credentials.partition(":")
    if colon:
        return f"{scheme}://{user}:***@{address}"
    return f"{scheme}://{user}{at}{address}"


def printable(text: str) -> str:
    """Text that may be printed: a terminal obeys control characters, and data may hold some."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


# --- Connections --------------------------------------------------------------

# What an error may quote: a value, unless it is a zone or a token of the SQL, and
# somebody's address anywhere. The second line is for Spark and DuckDB.
_VALUE = re.compile(
    r"""(JSON\ path\ error\ near\ |(?<!zone)(?<!Zone")(?<!token):\ )['"].*
    | (\b(?:value|[Ss]tring|[Tt]ext)\ )['"\d-].*
    """,
    re.VERBOSE,
)
_ADDRESS = re.compile(r"[^\s'\"(=<]+@[^\s'\")>]+\.[^\s'\")>]+")


class UnreadableTime(UserString):
    """A cell with a time that Python cannot hold, as the database writes it.

    Such are `infinity` and `0000-00-00`.
    """


def connect(url: str, zone: ZoneInfo, patience: float = 30) -> Database:
    """Opens a database, read-only.

    Arguments:
        url: sqlite:///relative.db, sqlite:////absolute.db or one of SQLAlchemy's.
        zone: that of the times in the database that have none. Windows are bound
            in it, and it becomes the session's zone.
        patience: seconds to wait for a SQLite file that another process has locked.

    Returns:
        The connection, in one transaction; close it.

    Raises:
        DatabaseError: the URL is none, a library is missing, or the database
            refuses.
    """
    try:
        check_url(url)
    except ValueError as error:
        raise _make_url_error(str(error)) from None
    scheme, _, rest = url.partition("://")
    if scheme.lower() in _SQLITE:
        return _SQLite(rest, zone, patience)
    return _SQLAlchemy(url, zone)


def _make_url_error(form: str) -> DatabaseError:
    return DatabaseError(f"DATABASE_URL cannot be read: it must be {form}.")


class Database(AbstractContextManager["Database"]):
    """A connection for reading. Leave it by `with` or close()."""

    _failures: tuple[type[Exception], ...]  # what the driver raises
    _secrets: Sequence[str] = ()  # what must not show, longest first
    _zone: ZoneInfo
    _connection: Any = None  # none before it is open

    def rows(
        self, query: Query, since: datetime, until: datetime
    ) -> tuple[Columns, Iterator[Cells]]:
        """Runs a query over a window.

        Arguments:
            query: what to run.
            since: the beginning of the window, aware.
            until: its end, aware; it belongs to the window.

        Returns:
            The columns, known even without rows, and the rows. These stream: they
            are read once, and before the next query.

        Raises:
            QueryFileError: there is no result, or it has two columns of one name.
            DatabaseError: the database refuses. Reading rows, too, may raise it.
        """
        bounds = {"since": self._local(since), "until": self._local(until)}
        with self._translate_errors(query):
            columns, rows = self._execute(query.sql, bounds)
        if not columns:
            message = "this statement returns no rows: a query is a SELECT"
            raise query.error(message)
        for name, count in Counter(columns).items():
            if count > 1:
                problem = f"{count} result columns are named '{name}'"
                raise query.error(f"{problem}: rename all but one with AS")
        return columns, self._stream(query, rows)

    def _local(self, time: datetime) -> datetime:
        return time.astimezone(self._zone).replace(tzinfo=None)

    def _stream(self, query: Query, rows: Iterable[Cells]) -> Iterator[Cells]:
        with self._translate_errors(query):
            yield from rows

    @contextmanager
    def _translate_errors(self, query: Query) -> Iterator[None]:
        try:
            yield
        except self._failures as error:
            place = f"{query.path}, line {query.line}"
            raise DatabaseError(
                f"Query '{query.name}' ({place}) failed: {self._describe(error)}. "
                "Correct the query or, if it is not at fault, "
                "check DATABASE_URL and the server."
            ) from None

    @abstractmethod
    def _execute(self, sql: str, bounds: _Bounds) -> tuple[Columns, Iterable[Cells]]:
        """The columns, none if the statement has no result, and the rows."""

    def _describe(self, error: Exception) -> str:
        """What was said: one line, without SQL, values and secrets."""
        text = _shorten(self._find_sentence(error))
        for secret in self._secrets:
            text = text.replace(secret, "***")
        text = _VALUE.sub(r"\1\2***", text)
        return printable(_ADDRESS.sub("***", text))

    def _find_sentence(self, error: Exception) -> str:
        """What of an error a person can read."""
        return str(error)

    @abstractmethod
    def close(self) -> None:
        """Closes the connection; a second time does nothing."""

    def __exit__(self, *error: object) -> None:
        self.close()


# --- Connections: SQLite ------------------------------------------------------

_SLICE_SECONDS = 0.5  # of waiting for a lock in C, where no signal handler runs
_CHECK_PATH = (
    "Check DATABASE_URL: sqlite:///file.db is relative to the working directory, "
    "sqlite:////path/to.db is absolute, and no character is special."
)
_LOCKED = "database is locked"  # all that Python 3.10 has to tell it by
_UNAUTHORIZED = "a query may use neither ATTACH nor load_extension()"
_CANNOT_WRITE = ("attempt to write a readonly database", "unable to open database file")
_NEEDS_FILES = (
    "it is in WAL mode, which needs files beside it that cannot be made or opened. "
    "Let this account write to its directory, read a copy of it elsewhere, "
    "or switch it with PRAGMA journal_mode = DELETE."
)


class _SQLite(Database):
    # The last where an error of SQLite's quotes broken text.
    _failures = (sqlite3.Error, sqlite3.Warning, UnicodeDecodeError)

    def __init__(self, location: str, zone: ZoneInfo, patience: float) -> None:
        """`location` is what is behind the :// of the URL."""
        self._zone = zone
        if not location.startswith("/") or location in ("/", "/:memory:"):
            raise DatabaseError(
                "DATABASE_URL names no SQLite file: "
                "write sqlite:///relative.db or sqlite:////path/to.db."
            )
        path = Path(location[1:])
        try:
            path = path.absolute()  # there may be no working directory any more
            self._open(path, patience)
        except (OSError, sqlite3.Error) as error:
            self.close()
            reason = self._explain(path, error)
            message = f"The SQLite file {path} cannot be opened: {reason}"
            raise DatabaseError(message) from None
        except BaseException:  # a signal's
            self.close()
            raise

    def _open(self, path: Path, patience: float) -> None:
        _check_regular(path.stat())  # its errors say more than SQLite's
        self._connection = sqlite3.connect(
            f"{path.as_uri()}?mode=ro", uri=True, timeout=_SLICE_SECONDS, isolation_level=None
        )
        self._connection.execute("BEGIN")
        look = "SELECT 1 FROM sqlite_master LIMIT 1"
        _wait_for_lock(lambda: self._connection.execute(look), patience)
        # A broken byte must not end the query: it becomes a lone surrogate, for
        # which its row alone has to answer.
        self._connection.text_factory = lambda data: data.decode(errors="surrogateescape")
        self._connection.set_authorizer(_authorize)
        # Signal handlers run between Python's instructions; while a query runs for
        # long, there are only these.
        self._connection.set_progress_handler(lambda: 0, 100_000)

    def _describe(self, error: Exception) -> str:
        reason = super()._describe(error)
        return _UNAUTHORIZED if reason == "not authorized" else reason

    def _explain(self, path: Path, error: OSError | sqlite3.Error) -> str:
        """Why the file cannot be opened, and what to do."""
        if str(error) == _LOCKED:
            return "another process has locked it. Run again when that is done."
        if str(error) in _CANNOT_WRITE and _is_in_wal_mode(path):
            return _NEEDS_FILES
        reason = error.strerror if isinstance(error, OSError) else self._describe(error)
        return f"{reason}. {_CHECK_PATH}"

    def _execute(self, sql: str, bounds: _Bounds) -> tuple[Columns, Iterable[Cells]]:
        texts = {}
        for name, time in bounds.items():
            texts[name] = time.isoformat(" ", "seconds")
        cursor = self._connection.execute(sql, texts)
        columns = tuple(column[0] for column in cursor.description or ())
        # Not the cursor: leaving rows early would close it, after its connection.
        return columns, map(tuple, cursor)

    def close(self) -> None:
        if self._connection:
            self._connection.close()


def _authorize(action: int, *_: object) -> int:
    """Whether SQLite may do that: ATTACH would open another file, or make it."""
    return sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_ATTACH else sqlite3.SQLITE_OK


def _is_in_wal_mode(path: Path) -> bool:
    with suppress(OSError), path.open("rb") as file:
        return file.read(20)[18:] == b"\2\2"
    return False


def _wait_for_lock(action: Callable[[], _Result], patience: float) -> _Result:
    """Does it, again and again for `patience` seconds while another process has a lock."""
    deadline = monotonic() + patience
    while True:
        try:
            return action()
        except sqlite3.OperationalError as error:  # noqa: PERF203 - it waits anyhow
            if str(error) != _LOCKED or monotonic() >= deadline:
                raise


# --- Connections: SQLAlchemy --------------------------------------------------

_POSTGRESQL = "postgresql+psycopg"
_MYSQL = "mysql+pymysql"
_DRIVERS = {
    "postgres": _POSTGRESQL,
    "postgresql": _POSTGRESQL,
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
}
_ROWS_A_ROUND_TRIP = 500
_SECRET_PARAMETER = re.compile("pass|pwd|secret|token|key", re.IGNORECASE)
_SQLALCHEMY = "sqlalchemy==2.0.58"


class _SQLAlchemy(Database):
    _failures = (Exception,)  # drivers raise OSError, struct.error and others, too
    _result: Any = None  # of the latest query

    def __init__(self, url: str, zone: ZoneInfo) -> None:
        self._zone = zone
        scheme, _, rest = url.partition("://")
        scheme = _DRIVERS.get(scheme.lower(), scheme)
        self._engine = _find_engine(scheme)
        sqlalchemy = _import_sqlalchemy(scheme)
        self._text = sqlalchemy.text
        parsed = _parse_url(sqlalchemy, f"{scheme}://{rest}")
        self._secrets = _find_secrets(parsed)
        try:
            self._connect(sqlalchemy, parsed)
        except (ImportError, sqlalchemy.exc.NoSuchModuleError):
            self.close()
            raise _make_install_error(scheme) from None
        except Exception as error:
            self.close()
            reason = self._describe(error)
            message = f"Cannot use {describe_url(url)}: {reason}. {_advise(url, reason)}"
            raise DatabaseError(message) from None

    def _connect(self, sqlalchemy: Any, url: Any) -> None:
        arguments = self._engine.connect_arguments(url, self._zone)
        engine = sqlalchemy.create_engine(
            url, connect_args=arguments, poolclass=sqlalchemy.NullPool, hide_parameters=True
        )
        self._dialect = engine.dialect
        if self._engine.execute:
            sqlalchemy.event.listen(engine, "do_execute", self._engine.execute)
        self._connection = engine.connect()
        if self._engine.prepare:
            self._engine.prepare(self._connection.connection.driver_connection)
        for statement in self._engine.session:
            self._run(statement.format(zone=self._name_zone()))
        # Some dialects connect no earlier.
        probe = sqlalchemy.select(sqlalchemy.literal_column("1"))  # on Oracle FROM DUAL
        self._connection.execute(probe).close()

    def _name_zone(self) -> str:
        if self._zone.key in ("UTC", "Etc/UTC"):
            return self._engine.utc
        return self._zone.key

    def _run(self, sql: str) -> None:
        self._connection.execute(self._text(sql)).close()

    def _find_sentence(self, error: Exception) -> str:
        cause = getattr(error, "orig", None) or error  # of SQLAlchemy's errors
        return self._engine.find_sentence(cause) or type(cause).__name__

    def _execute(self, sql: str, bounds: _Bounds) -> tuple[Columns, Iterable[Cells]]:
        if self._result:
            self._result.close()
        self._result = self._connection.execute(
            self._text(_escape_colons(sql)),
            dict(bounds),
            # a cursor on the server, where the driver has them
            execution_options={"yield_per": _ROWS_A_ROUND_TRIP},
        )
        if not self._result.returns_rows:
            return (), ()
        columns = tuple(self._result.keys())
        if self._dialect.driver == "pymysql":
            return columns, read_pymysql(self._result)
        if self._dialect.name == "hive":
            return columns, _read_hive(self._result.cursor, self._connection.engine)
        return columns, map(tuple, self._result)

    def close(self) -> None:
        with suppress(Exception):  # a lost connection cannot be closed
            if self._result and self._dialect.driver == "pymysql":
                _abandon(self._result.cursor)
                self._connection.invalidate()
            if self._result:
                self._result.close()
            self._connection.close()


def _import_sqlalchemy(scheme: str) -> Any:
    try:
        return importlib.import_module("sqlalchemy")
    except ImportError:
        raise _make_install_error(scheme, _SQLALCHEMY) from None


def _make_install_error(scheme: str, *more: str) -> DatabaseError:
    """What to type where a library is missing; names come from our table, not from a URL."""
    dialect, _, driver = scheme.partition("+")
    if driver and scheme != _DRIVERS.get(dialect, scheme):
        return DatabaseError(
            f"The driver of {scheme}:// is not installed: install it, "
            f"or write {dialect}://, which takes the one that the README names."
        )
    packages = [*more, *_find_engine(scheme).packages]
    if not packages:
        return DatabaseError(
            f"No library for {scheme}:// is installed: correct DATABASE_URL, "
            "or install the SQLAlchemy dialect and the driver that it needs."
        )
    names = " ".join(f'"{package}"' for package in packages)
    python = shlex.quote(sys.executable)
    need = "needs"
    if driver and dialect not in _DRIVERS:
        need = "names no driver, or needs"
    if dialect.lower() not in _ENGINES:
        need = "needs its SQLAlchemy dialect with a driver, and"
    return DatabaseError(
        f"{scheme}:// {need} a library that is not installed: {python} -m pip install {names}"
    )


def _parse_url(sqlalchemy: Any, url: str) -> Any:
    """SQLAlchemy's own object for a URL. Raises DatabaseError."""
    try:
        return sqlalchemy.make_url(url)
    except ValueError:
        raise _make_url_error(f"{_URL_IS}, and its port is a number") from None
    except sqlalchemy.exc.ArgumentError:
        raise _make_url_error(_URL_IS) from None


def _advise(url: str, reason: str) -> str:
    if "time zone" in reason:
        return (
            "Load the server's zones "
            "(mysql_tzinfo_to_sql /usr/share/zoneinfo | mysql mysql), or use UTC."
        )
    advice = "Check DATABASE_URL, and that the server can be reached from here."
    if _has_special_password(url):
        return f"{advice} Write the URL {_ENCODINGS}."
    return advice


def _find_secrets(url: Any) -> list[str]:
    """What of SQLAlchemy's URL must not show, in all forms, longest first."""
    values = [url.password]
    for name, value in url.query.items():
        if _SECRET_PARAMETER.search(name):
            # SQLAlchemy has a tuple where a parameter stands twice
            values.extend([value] if isinstance(value, str) else value)
    forms: set[str] = set()
    for value in filter(None, values):
        text = str(value)
        forms.update([text, quote(text), quote(text, safe="")])
        forms.add(quote_plus(text))
    return sorted(forms, key=len, reverse=True)


def _shorten(said: str) -> str:
    """The first line of what an error says."""
    # A heading goes on in the next line: "connection failed:\n\t- no route".
    joined = re.sub(r":\n\W*", ": ", said.strip())
    return joined.split("\n")[0].rstrip(".")


def _escape_colons(sql: str) -> str:
    """The SQL for text(), which takes ` :x` in a literal or comment for a parameter."""
    parameters = set()
    for token in _TOKENS.finditer(sql):
        if token["parameter"]:
            parameters.add(token.start())

    def escape(colon: re.Match[str]) -> str:
        return ":" if colon.start() in parameters else r"\:"

    return re.sub(":", escape, sql)


def _keep_unreadable_times(connection: Any) -> None:
    """Keeps psycopg from ending a query at a time that Python cannot hold.

    Such are years before 1 and after 9999, infinity, and 24:00.
    """
    if type(connection).__module__.partition(".")[0] != "psycopg":
        return  # another driver was chosen
    adapt = importlib.import_module("psycopg.adapt")
    for name in ("date", "time", "timetz", "timestamp", "timestamptz"):
        oid = connection.adapters.types[name].oid
        loader = connection.adapters.get_loader(oid, adapt.Loader.format)
        tolerant = _make_tolerant(loader, adapt.Loader)
        connection.adapters.register_loader(oid, tolerant)


def _make_tolerant(loader: Any, base: Any) -> Any:
    """A loader of psycopg's that gives UnreadableTime where another raises."""
    unreadable = importlib.import_module("psycopg").DataError

    class Tolerant(base):  # type: ignore[misc]
        def __init__(self, oid: int, context: Any = None) -> None:
            super().__init__(oid, context)
            self._load = loader(oid, context).load

        def load(self, data: Any) -> Any:
            try:
                return self._load(data)
            except unreadable:
                return UnreadableTime(bytes(data).decode())

    return Tolerant


# Types by their numbers in MySQL's protocol, the last two with their lengths.
_MYSQL_TIMES = (7, 10, 12)  # TIMESTAMP, DATE, DATETIME
_MYSQL_JSON = 245
_MYSQL_BOOLEAN = (1, 1)  # TINYINT(1)
_MYSQL_BIT = (16, 1)


def read_pymysql(result: Any) -> Iterator[Cells]:
    """Reads rows and does what PyMySQL leaves undone.

    It delivers BOOLEAN, which is TINYINT(1), as an integer, BIT(1) as a byte, and
    JSON and the dates that are none, such as 0000-00-00, as text.

    Arguments:
        result: SQLAlchemy's, over a cursor of PyMySQL.

    Returns:
        The rows, as they arrive.
    """
    converters: list[tuple[int, Callable[[Any], Any]]] = []
    for place, (_, code, _, size, *_) in enumerate(result.cursor.description):
        convert = _choose_converter(code, size)
        if convert:
            converters.append((place, convert))
    try:
        for row in result:
            cells = list(row)
            for place, convert in converters:
                if cells[place] is not None:
                    cells[place] = convert(cells[place])
            yield tuple(cells)
    except GeneratorExit:  # rows were left early, and the connection stays in use
        raise
    except BaseException:  # a signal's, too
        _abandon(result.cursor)
        raise


def _choose_converter(code: int, size: int | None) -> Callable[[Any], Any] | None:
    """What makes cells of that type and length what they are; None: they are."""
    if code in _MYSQL_TIMES:
        return _mark_unreadable
    if code == _MYSQL_JSON:
        return json.loads
    if (code, size) == _MYSQL_BOOLEAN:
        return _read_boolean
    if (code, size) == _MYSQL_BIT:
        return _read_bit
    return None


def _mark_unreadable(value: Any) -> Any:
    return UnreadableTime(value) if isinstance(value, str) else value


def _read_boolean(value: Any) -> Any:
    return bool(value) if value in (0, 1) else value


def _read_bit(value: Any) -> bool:
    return bool(value == b"\x01")


def _abandon(cursor: Any) -> None:
    """Keeps PyMySQL from reading a result to its end when it is closed.

    It may be long, or its connection dead.
    """
    if cursor and cursor._result:
        cursor._result.unbuffered_active = False


# --- Connections: Spark -------------------------------------------------------

# States of a statement in the Thrift protocol of Hive, which Spark speaks.
_HIVE_FINISHED = 2
_HIVE_AT_WORK = (0, 1, 7)  # initialized, running, pending
_LONGEST_POLL = 0.5  # seconds between two questions for the state
# "org.apache.HiveSQLException: Error running query: [CODE] org.apache.XException: "
_JAVA_HEADING = re.compile(r"\A([^\n]*?\w(Exception|Error):\s+)+")


def _prepare_hive(_connection: Any) -> None:
    """Makes PyHive deliver dates, and lets no time end a query; to it, a date is text."""
    converters = importlib.import_module("pyhive.hive").TYPES_CONVERTER
    converters["TIMESTAMP_TYPE"] = _read_hive_time
    converters["DATE_TYPE"] = _read_hive_date


def _read_hive_time(text: str) -> datetime | UnreadableTime:
    try:
        # 0.1 us, where the rest takes 3.
        time = datetime.fromisoformat(text) if len(text) == 19 else _read_time_text(text)
    except ValueError:
        time = None
    return time or UnreadableTime(text)


def _read_hive_date(text: str) -> date | UnreadableTime:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return UnreadableTime(text)


def _execute_hive(cursor: Any, sql: str, parameters: Any, context: Any) -> bool:
    """Runs a statement so that it can be cancelled, in place of SQLAlchemy's way.

    That waits for the server inside one call: a signal would wait for the statement,
    which then went on without us.
    """
    with _ending_hive(cursor, context.root_connection.engine):
        cursor.execute(sql, parameters, async_=True)
        pause = 0.01
        while not _is_hive_done(cursor):
            sleep(pause)
            pause = min(pause * 1.5, _LONGEST_POLL)
    return True


def _is_hive_done(cursor: Any) -> bool:
    """Whether the statement has its result. Raises RuntimeError if it never will."""
    answer = cursor.poll(get_progress_update=False)
    if answer.operationState == _HIVE_FINISHED:
        return True
    if answer.operationState in _HIVE_AT_WORK:
        return False
    raise RuntimeError(answer.errorMessage or "the server cancelled the statement")


def _read_hive(cursor: Any, engine: Any) -> Iterator[Cells]:
    """The rows. Not through SQLAlchemy, which would wait for the server on a signal."""
    with _ending_hive(cursor, engine):
        yield from cursor


@contextmanager
def _ending_hive(cursor: Any, engine: Any) -> Iterator[None]:
    """Leaves neither a statement on the server nor a wait for it when something is raised."""
    try:
        yield
    except (GeneratorExit, RuntimeError):
        raise  # rows were left early, or the server refused: the connection is sound
    except BaseException as error:
        is_interrupted = not isinstance(error, Exception)
        if is_interrupted and cursor._operationHandle:
            _cancel_hive(cursor, engine)
        _drop_hive(cursor)
        raise


def _cancel_hive(cursor: Any, engine: Any) -> None:
    """Ends it over another connection: ours may be in the middle of an answer.

    Not with CancelOperation, which Spark ignores once there may be rows: most of the
    work is done as they are fetched.
    """
    types = importlib.import_module("TCLIService.ttypes")
    request = types.TCloseOperationReq(operationHandle=cursor._operationHandle)
    with suppress(Exception), closing(engine.raw_connection()) as other:
        other.driver_connection.client.CloseOperation(request)


def _drop_hive(cursor: Any) -> None:
    """Ends the connection without a word to the server, which might not answer."""
    connection = cursor._connection
    connection._transport.close()
    connection.close = lambda: None
    cursor._operationHandle = None


def _find_hive_sentence(error: Exception) -> str:
    """The sentence above the Java stack, in an answer of the server's or in ours."""
    answer = error.args[0] if error.args else None
    status = getattr(answer, "status", None)
    said = getattr(status, "errorMessage", None) or str(error)
    return _JAVA_HEADING.sub("", said)


# --- Connections: the engines -------------------------------------------------


def _find_plain_sentence(error: Exception) -> str:
    is_numbered = len(error.args) == 2 and isinstance(error.args[0], int)
    if is_numbered:  # PyMySQL: (1045, "Access denied ...")
        return str(error.args[1])
    return str(error)


def _find_trino_sentence(error: Exception) -> str:
    return str(getattr(error, "message", error))


def _no_arguments(_url: Any, _zone: ZoneInfo) -> dict[str, Any]:
    return {}


def _open_duckdb(_url: Any, _zone: ZoneInfo) -> dict[str, Any]:
    # So that a path that is mistyped becomes no file, either.
    return {"read_only": True}


def _open_trino(url: Any, zone: ZoneInfo) -> dict[str, Any]:
    arguments = {"timezone": zone.key}
    if url.password and "allow_insecure_auth" not in url.query:
        # By itself the client speaks TLS on port 443 alone, and sends no password without.
        arguments["http_scheme"] = "https"
    return arguments


@dataclass(frozen=True)
class _Engine:
    """What a session of a dialect needs. One that is not in the table gets none of it.

    How rows are read that a driver does not deliver as they should be is in _execute().
    """

    packages: tuple[str, ...] = ()  # for pip, beside SQLAlchemy
    session: tuple[str, ...] = ()  # statements that begin it
    utc: str = "UTC"  # what it calls that zone
    connect_arguments: Callable[[Any, ZoneInfo], dict[str, Any]] = _no_arguments
    prepare: Callable[[Any], None] | None = None  # the driver's connection
    execute: Callable[..., bool] | None = None  # SQLAlchemy's event do_execute
    find_sentence: Callable[[Exception], str] = _find_plain_sentence


_MYSQL_ENGINE = _Engine(
    packages=("PyMySQL==1.2.4",),
    session=(
        "SET time_zone = '{zone}'",
        # Of the session: a CREATE or DROP commits the transaction that it is in and
        # would run after it.
        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    ),
    utc="+00:00",  # needs no zone tables
)
_ENGINES = {
    "postgresql": _Engine(
        packages=("psycopg[binary]==3.3.9",),
        session=(
            "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
            "SET LOCAL TIME ZONE '{zone}'",
            # All rows will be read: PostgreSQL must not plan for the first tenth of
            # them, as it does for a cursor.
            "SET LOCAL cursor_tuple_fraction = 1",
        ),
        prepare=_keep_unreadable_times,
    ),
    "mysql": _MYSQL_ENGINE,
    "mariadb": _MYSQL_ENGINE,
    "hive": _Engine(
        packages=("pyhive[hive-pure-sasl]==0.7.0",),
        session=(
            "SET TIME ZONE '{zone}'",
            # Else Spark's driver holds the whole result before the first row leaves it.
            "SET spark.sql.thriftServer.incrementalCollect=true",
        ),
        prepare=_prepare_hive,
        execute=_execute_hive,
        find_sentence=_find_hive_sentence,
    ),
    "duckdb": _Engine(
        packages=("duckdb==2.0.1", "duckdb-engine==0.17.0"),
        session=("SET TimeZone = '{zone}'",),
        connect_arguments=_open_duckdb,
    ),
    "trino": _Engine(
        packages=("trino[sqlalchemy]==0.340.0",),
        connect_arguments=_open_trino,
        find_sentence=_find_trino_sentence,
    ),
    "snowflake": _Engine(
        packages=("snowflake-sqlalchemy==2.1.0",),
        session=("ALTER SESSION SET TIMEZONE = '{zone}'",),
    ),
    "bigquery": _Engine(packages=("sqlalchemy-bigquery==1.17.3",)),
}


def _find_engine(scheme: str) -> _Engine:
    """What a session needs, by the dialect before the + of a URL's scheme."""
    return _ENGINES.get(scheme.partition("+")[0].lower(), _Engine())


# --- Times --------------------------------------------------------------------

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d)(?::(\d\d)(?:\.(\d+))?)?"
    r" ?(?:(Z)|([+-]\d\d)(?::?(\d\d))?)?",
    re.ASCII,
)
_PLAIN = ("-- ::", "--T::")  # every third character of 2026-01-13 08:45:12, from the fifth


def parse_time(value: object, zone: tzinfo) -> datetime:
    """Reads the time that a cell means.

    Arguments:
        value: a datetime, a date, Unix seconds, or text like 2026-01-13 08:45:12Z.
        zone: that of what has none.

    Returns:
        An aware time.

    Raises:
        ValueError: it is no time. The text says what to write.
    """
    try:
        # The form in which SQLite keeps times, read here since every row has one: in
        # 0.6 us, _read_time() takes 3. combine() is faster than replace().
        if isinstance(value, str) and len(value) == 19 and value[4::3] in _PLAIN:
            local = datetime.fromisoformat(value)
            return datetime.combine(local, local.time(), zone)
        time = _read_time(value)
    except (ValueError, OverflowError):
        time = None
    if time is None:
        raise ValueError(
            f"{value!a:.80} is no time: write YYYY-MM-DD HH:MM:SS, "
            "perhaps with Z or +HH:MM, or Unix seconds"
        )
    return time if time.tzinfo else time.replace(tzinfo=zone)


def _read_time(value: object) -> datetime | None:
    """The time that a cell means, None or ValueError or OverflowError if none."""
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)
    if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
        return _EPOCH + timedelta(seconds=float(value))
    if isinstance(value, str):
        return _read_time_text(value.strip())
    return None


def _read_time_text(text: str) -> datetime | None:
    match = _TIME.fullmatch(text)
    if not match:
        return None
    parts = match.groups(default="00")
    day, minute, second, fraction, utc, hours, minutes = parts
    if utc == "Z":
        offset = "+00:00"
    elif match[6]:
        offset = f"{hours}:{minutes}"
    else:
        offset = ""
    # Python 3.10 reads no Z, no short offset, and fractions of six digits only.
    microsecond = f"{fraction[:6]:0<6}"
    return datetime.fromisoformat(f"{day} {minute}:{second}.{microsecond}{offset}")


def window(as_of: str, days: float, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The window that a run asks for.

    Arguments:
        as_of: its end: a time as parse_time() reads it, or a date, which means its
            beginning.
        days: its length, in days of 24 hours.
        zone: that of `as_of` where that has none.

    Returns:
        Its beginning and its end, in `zone`.

    Raises:
        ValueError: `as_of` is no time.
        OverflowError: the beginning is before year 1.
    """
    has_time = ":" in as_of
    local = parse_time(as_of if has_time else f"{as_of} 00:00", zone)
    # Through UTC, since a day in `zone` may have 23 or 25 hours, and some local times
    # never come.
    until = local.astimezone(timezone.utc)
    since = until - timedelta(hours=24) * days
    return since.astimezone(zone), until.astimezone(zone)


# --- Typed cells --------------------------------------------------------------

# The words of the types, and what a cell may be for each, are the README's table.
# Databases differ in what they deliver: SQLite has booleans as 1 and 0, times and JSON as
# text, and 10.00 as an integer; MariaDB has JSON as text.

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_LONGEST_NUMBER = 400  # digits: int() of Decimal('1E+9999999') takes minutes


def cast_cell(type_name: str, value: Any, zone: tzinfo) -> Any:
    """A cell as the type that its field is said to have.

    Arguments:
        type_name: one of CELL_TYPES.
        value: the cell; NULL has every type.
        zone: that of times without one, and of the day that a time is on.

    Returns:
        A Decimal, int, bool, date, aware datetime, dict, list or str, by the type.

    Raises:
        ValueError: the cell is not of the type. The text names no value.
    """
    if value is None:
        return None
    try:
        typed = CELL_TYPES[type_name](value, zone)
    except (ValueError, ArithmeticError, RecursionError):
        typed = None
    if typed is None:
        raise ValueError(f"{_describe_kind(value)} that is no {type_name}")
    return typed


def _to_decimal(value: Any, _zone: tzinfo) -> Decimal | None:
    if isinstance(value, str):
        if not _NUMBER.fullmatch(value.strip()):
            return None
        value = Decimal(value.strip())
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        return None
    number = Decimal(value)
    return number if number.is_finite() else None


def _to_integer(value: Any, zone: tzinfo) -> int | None:
    number = _to_decimal(value, zone)
    if number is None or number.adjusted() > _LONGEST_NUMBER:
        return None
    return int(number) if number == number.to_integral_value() else None


def _to_boolean(value: Any, _zone: tzinfo) -> bool | None:
    if isinstance(value, str):
        return {"true": True, "t": True, "false": False, "f": False}.get(value.strip().lower())
    if isinstance(value, (bool, int, Decimal)) and value in (0, 1):
        return bool(value)
    return None


def _to_date(value: Any, zone: tzinfo) -> date | None:
    if isinstance(value, str) and _DATE.fullmatch(value.strip()):
        return date.fromisoformat(value.strip())
    if isinstance(value, (str, datetime)):
        return parse_time(value, zone).astimezone(zone).date()
    return value if isinstance(value, date) else None


def _to_timestamp(value: Any, zone: tzinfo) -> datetime:
    """Of a date as text, too: SQLite has no other, and elsewhere a date is its midnight."""
    if isinstance(value, str) and _DATE.fullmatch(value.strip()):
        value = date.fromisoformat(value.strip())
    return parse_time(value, zone)


def _to_json(value: Any, _zone: tzinfo) -> dict[str, Any] | list[Any] | None:
    if isinstance(value, str):
        value = json.loads(value)
    return value if isinstance(value, (dict, list)) else None


def _to_text(value: Any, _zone: tzinfo) -> str | None:
    if isinstance(value, bool) or not isinstance(value, (str, int, UUID)):
        return None
    return str(value)


CELL_TYPES: dict[str, Callable[[Any, tzinfo], Any]] = {
    "decimal": _to_decimal,
    "integer": _to_integer,
    "boolean": _to_boolean,
    "date": _to_date,
    "timestamp": _to_timestamp,
    "json": _to_json,
    "text": _to_text,
}

_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_KINDS = (
    (bool, "a boolean"),
    (int, "an integer"),
    ((float, Decimal), "a number"),
    (str, "text"),
    (bytes, "binary data"),
    (datetime, "a time"),
    (date, "a date"),
    (dict, "an object"),
    (list, "an array"),
    (UnreadableTime, "a time out of range"),
)


def _describe_kind(value: Any) -> str:
    """What kind of value a cell is, in words."""
    if value == "":
        return "empty text"
    for kind, words in _KINDS:
        if isinstance(value, kind):
            return words
    return type(value).__name__


# --- The spool ----------------------------------------------------------------

# Rows on disk, so that the query's connection need not stay open while they are
# sent. Pickled batches cost about 1 us a row and keep every type. Memory follows
# the batches in use, so wide rows make smaller ones.
BATCH_ROWS = 1000
BATCH_CHARACTERS = 4_000_000

# What pickle raises, in the various versions of Python.
_UNKEPT = (AttributeError, TypeError, RecursionError, pickle.PicklingError)


def spool(query: Query, rows: Iterable[Any], file: IO[bytes], write: Callable[[Any], int]) -> int:
    """Puts the rows of a query, typed, into a file, and each through `write`.

    Arguments:
        query: whose rows these are, for the error.
        rows: they are read once.
        file: an empty one, for spooled(); left at its beginning.
        write: what else happens to a row; it returns the row's characters.

    Returns:
        How many rows there are.

    Raises:
        DatabaseError: a row has a value that cannot be kept.
    """
    total = size = 0
    batch: list[Any] = []
    for row in rows:
        batch.append(row)
        size += write(row)
        if len(batch) == BATCH_ROWS or size >= BATCH_CHARACTERS:
            _dump(query, batch, file)
            total += len(batch)
            size, batch = 0, []
    _dump(query, batch, file)
    _dump(query, [], file)  # an empty one marks the end
    file.seek(0)
    return total + len(batch)


def _dump(query: Query, batch: list[Any], file: IO[bytes]) -> None:
    try:
        pickle.dump(batch, file, pickle.HIGHEST_PROTOCOL)
    except _UNKEPT as error:
        problem = f"has a value that cannot be kept: {error}"
        raise DatabaseError(f"Query '{query.name}' {problem}") from None


def spooled(file: IO[bytes]) -> Iterator[list[Any]]:
    """Reads what spool() wrote.

    Arguments:
        file: at its beginning.

    Returns:
        The rows, in batches of at most BATCH_ROWS.
    """
    while True:
        batch = pickle.load(file)  # noqa: S301 - ours alone: it has no name
        if not batch:
            return
        yield batch


# --- What comes more than once ------------------------------------------------

_BUCKETS = 256  # equal keys are in the same one; a million keys are 4,000 in each
_CHUNK = 4096  # bytes of a bucket that are written at a time


class _Buckets:
    """Any number of entries of 64-bit numbers, the key first, in a file without a name.

    Where that has no room any more, there are none: they are for warnings alone.
    """

    def __init__(self, directory: Path) -> None:
        self._forget()
        self._file: IO[bytes] = io.BytesIO()
        try:
            self._file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115
        except OSError:
            self.close()

    def add_keys(self, keys: Iterable[int]) -> None:
        """Adds entries of a key alone."""
        unwritten = self._unwritten
        for key in keys:
            unwritten[key % _BUCKETS].append(key)
        self._write()

    def add(self, entries: Iterable[tuple[int, ...]]) -> None:
        """Adds entries, all of them equally long."""
        for entry in entries:
            self._unwritten[entry[0] % _BUCKETS].extend(entry)
        self._write()

    def _write(self) -> None:
        """Writes the buckets that are worth it."""
        if self._file.closed:
            self._forget()
        for number, numbers in enumerate(self._unwritten):
            is_worth_it = len(numbers) * numbers.itemsize >= _CHUNK
            if is_worth_it and not self._append(number, numbers):
                self.close()
                return

    def _append(self, number: int, numbers: array[int]) -> bool:
        """Writes numbers of a bucket. Returns whether there was room for all of them."""
        try:
            place = self._file.seek(0, os.SEEK_END)
            size = self._file.write(numbers)
        except OSError:
            return False
        self._places[number].append((place, size))
        self._unwritten[number] = array("q")
        return size == len(numbers) * numbers.itemsize

    def __iter__(self) -> Iterator[array[int]]:
        """The numbers of each bucket."""
        for number, unwritten in enumerate(self._unwritten):
            numbers = array("q")
            for place, size in self._places[number]:
                self._file.seek(place)
                numbers.frombytes(self._file.read(size))
            yield numbers + unwritten

    def close(self) -> None:
        """Forgets all of it, and what comes later."""
        self._file.close()
        self._forget()

    def _forget(self) -> None:
        self._unwritten = [array("q") for _ in range(_BUCKETS)]
        self._places: list[list[tuple[int, int]]] = [[] for _ in range(_BUCKETS)]


class Tally:
    """Counts keys that come more than once, of any number, in constant memory."""

    def __init__(self, directory: Path) -> None:
        """`directory` has room for 8 bytes a key."""
        self._buckets = _Buckets(directory)

    def note(self, keys: Iterable[int]) -> None:
        """Takes notice of keys, hashed to 64 bits."""
        self._buckets.add_keys(keys)

    def count_repeated(self) -> int:
        """How many keys came more than once."""
        repeated = 0
        for keys in self._buckets:
            if len(set(keys)) < len(keys):
                repeated += sum(times > 1 for times in Counter(keys).values())
        return repeated

    def close(self) -> None:
        """Removes the file."""
        self._buckets.close()


class Differences:
    """Counts keys that several sources give different values, in constant memory."""

    def __init__(self, directory: Path) -> None:
        """`directory` has room for 32 bytes an entry."""
        self._buckets = _Buckets(directory)

    def note(self, entries: Iterable[tuple[int, int, int, int]]) -> None:
        """Takes notice.

        Arguments:
            entries: of each a key and a value, hashed to 64 bits, and the numbers of
                its source and of the group that it is counted in.
        """
        self._buckets.add(entries)

    def count(self) -> dict[int, int]:
        """How many keys there are to which the sources last gave several values, by group."""
        counts: Counter[int] = Counter()
        for numbers in self._buckets:
            values: dict[tuple[int, int], dict[int, int]] = {}
            columns = [numbers[place::4] for place in range(4)]
            for key, value, source, group in zip(*columns, strict=True):
                values.setdefault((group, key), {})[source] = value
            for (group, _), by_source in values.items():
                counts[group] += len(set(by_source.values())) > 1
        return {group: number for group, number in counts.items() if number}

    def close(self) -> None:
        """Removes the file."""
        self._buckets.close()


# --- The ledger ---------------------------------------------------------------

# An event, or an update of a user, in the ledger: its key and its parts, which are
# digests: of an event one, of an update one for each field. Plain, since each row makes
# two, and ten thousand wait in memory.
Mark = tuple[int, tuple[bytes, ...]]
_Entry = dict[bytes, int]  # what is kept of a key: each part, and the day it was last seen

_LEDGER_ID = 0x17E2AB1E  # PRAGMA application_id: tells our file from others
_FORGET_DAYS = 90  # without being seen
# An entry's day is rewritten when it is so old: once a week, not every night. So it
# may be older than the last sight of the entry, by as much.
_REFRESH_DAYS = 7

# PRAGMA user_version. In 0 an entry was of an event or of a whole update, in 1 of an
# event or of one field, and its digest of 16 bytes.
_VERSION = 2
_TABLES = f"""
    PRAGMA journal_mode = WAL;
    BEGIN;
    PRAGMA application_id = {_LEDGER_ID};
    PRAGMA user_version = {_VERSION};
    CREATE TABLE delivered (key INTEGER PRIMARY KEY, digest BLOB, day INTEGER);
    CREATE TABLE projects (project BLOB PRIMARY KEY) WITHOUT ROWID;
    COMMIT
"""
_PART = struct.Struct(">12sH")  # of an entry: a part of a mark, and the day
_FIELD, _WHAT = slice(4), slice(4, 12)  # of a part: which field, and what is sent of it
_OLD_BYTES = 16  # of an entry before version 2
_ODD_ROWS = f"""
    SELECT 1 FROM delivered
    WHERE typeof(key) != 'integer' OR typeof(day) != 'integer'
        OR typeof(digest) != 'blob' OR length(digest) = 0
        OR length(digest) != {_OLD_BYTES} AND length(digest) % {_PART.size} != 0
    UNION ALL
    SELECT 1 FROM projects WHERE typeof(project) != 'blob' OR length(project) != 16
"""  # noqa: S608
_LOOK_UP = "SELECT key, digest, day FROM delivered WHERE key IN ({})"
_DELETE = "DELETE FROM delivered WHERE key = ?"
_SAVE = "INSERT OR REPLACE INTO delivered VALUES (?, ?, ?)"
_MOST_PLACES = 999  # in a statement, for any SQLite
_NO_FIELD = bytes(4)  # begins the part of an event
_VERSION_1_BITS = 2**18 - 1  # of a key: its end told the fields of a user apart
_MOST_KEPT = 4000  # hashes of texts, and tuples of fields: a megabyte


class LedgerError(Exception):
    """The ledger cannot be used. The text is for a person."""


class LedgerLockedError(Exception):
    """Another process holds the ledger. The text is for a person."""


class Ledger:
    """Which events, and which fields of which users, were delivered before.

    It holds digests in a small SQLite file: no names, no values. What is sent is marked,
    begins, and ends. Every change is committed at once, and survives the end of the
    process at any moment. Methods raise LedgerLockedError while another process holds
    the file, and sqlite3.Error where it cannot be read or written: on a full disk, say.

    Attributes:
        is_new_project: whether there are entries, but none under this secret.
        has_old_entries: whether there may be entries of before version 2, for take_over().
    """

    def __init__(
        self,
        path: Path,
        secret: str,
        writable: bool = True,
        today: int | None = None,
        patience: float = 5,
    ) -> None:
        """Opens or creates it.

        Arguments:
            path: the file.
            secret: whose calls these are. Without it, nobody can tell from the file
                whom they are about.
            writable: if not, all happens in a copy that is gone in the end.
            today: in days since 1970; by default of the clock.
            patience: seconds to wait for another process, in vain but once.

        Raises:
            LedgerError: the file is damaged, not a ledger, or behind a link.
            LedgerLockedError: another process holds it.
            sqlite3.OperationalError: it cannot be read or written.
        """
        self._path = path
        self._patience = patience
        self._today = _count_days() if today is None else today
        key = hashlib.blake2b(secret.encode()).digest()
        self._hash = hashlib.blake2b(key=key, digest_size=16)
        self._hash_32 = hashlib.blake2b(key=key, digest_size=32)
        self._fields: dict[str, int] = {}
        self._text_hashes: dict[str, int] = {}
        project = hashlib.blake2b(secret.encode(), digest_size=16)
        self._project = project.digest()
        # Of the calls that began and did not end, by key, the fields of each one's parts.
        # The entries that are kept have no such part. Calls of the same fields share them.
        self._in_flight: dict[int, tuple[tuple[bytes, ...], ...]] = {}
        self._shared: dict[tuple[bytes, ...], tuple[bytes, ...]] = {}
        self._open(writable)

    def _open(self, writable: bool) -> None:
        """Opens it, or says what is wrong with it and what mending that costs."""
        try:
            self._wait(lambda: self._connect(writable))
        except sqlite3.Error as error:
            is_operational = isinstance(error, sqlite3.OperationalError)
            if is_operational and not str(error).startswith("no such"):  # table, column
                raise
            raise LedgerError(
                f"The ledger {self._path} cannot be used ({error}): "
                f"delete {self._path} (everything is sent once more then), "
                "or choose another output directory"
            ) from None

    def _connect(self, writable: bool) -> None:
        _refuse_links(self._path)
        place = self._path if writable else ""  # a temporary file of SQLite's
        self._connection = sqlite3.connect(place, timeout=_SLICE_SECONDS)
        try:
            if not writable and self._path.exists():
                _copy_ledger(self._path, self._connection)
            _prepare_ledger(self._connection, self._today)
            self.has_old_entries = _was_taken_over(self._connection)
            projects = self._connection.execute("SELECT project FROM projects").fetchall()
        except BaseException:
            self._connection.close()
            raise
        self.is_new_project = bool(projects) and (self._project,) not in projects

    def _wait(self, action: Callable[[], _Result]) -> _Result:
        """Does it when no other process holds the file. Raises LedgerLockedError."""
        try:
            return _wait_for_lock(action, self._patience)
        except sqlite3.OperationalError as error:
            if str(error) != _LOCKED:
                raise
            self._patience = 0  # what else there is to do must not take as long again
            raise LedgerLockedError(
                f"Another process holds the ledger {self._path}. What was sent is "
                "recorded in the results: run again when that process is done"
            ) from None

    def mark(self, name: str, payload: Any) -> Mark:
        """Marks an event.

        Arguments:
            name: tells what it is from all else in the ledger.
            payload: what is sent of it: None, booleans, numbers, text, and lists and
                dictionaries of these.

        Returns:
            What begin() and end() take, with one part.
        """
        state = self._hash.copy()
        state.update(name.encode())
        key = int.from_bytes(state.digest()[:8], "big", signed=True)
        # Exact, four times as fast as JSON, and the same since Python 2.5.
        state.update(marshal.dumps(payload, 2))
        return key, (_NO_FIELD + state.digest()[:8],)

    def mark_fields(self, user: str, fields: Mapping[str, Any]) -> Mark:
        """Marks an update of a user, whichever query sends it.

        A value is hashed once, however many users have it. A part is of user, field and
        value all the same.

        Arguments:
            user: tells them from all else in the ledger.
            fields: their values by name, as for mark().

        Returns:
            What begin() and end() take, with a part for each field, in their order.
        """
        state = self._hash_32.copy()
        state.update(user.encode())
        digest = state.digest()
        key = int.from_bytes(digest[:8], "big", signed=True)
        of_user = int.from_bytes(digest[8:16], "big")
        parts = []
        for name, value in fields.items():
            if name not in self._fields:
                hashed = self._hash_exactly(name)
                self._fields[name] = int.from_bytes(hashed[12:] + hashed[:8], "big")
            part = self._fields[name] ^ of_user ^ self._hash_value(value)
            parts.append(part.to_bytes(12, "big"))
        return key, tuple(parts)

    def _hash_value(self, value: Any) -> int:
        """A hash of 64 bits; that of a text is kept for a while, since many repeat."""
        is_text = value.__class__ is str
        if is_text and value in self._text_hashes:
            return self._text_hashes[value]
        hashed = int.from_bytes(self._hash_exactly(value)[:8], "big")
        if is_text:
            if len(self._text_hashes) >= _MOST_KEPT:
                self._text_hashes.clear()
            self._text_hashes[value] = hashed
        return hashed

    def _hash_exactly(self, value: Any) -> bytes:
        state = self._hash.copy()
        state.update(marshal.dumps(value, 2))
        return state.digest()

    def begin(self, marks: Sequence[Mark]) -> list[Mark]:
        """Begins to send what was not delivered before: it is in flight from now on.

        That whose like is in flight, be it with the same value, is not known to be
        delivered: who can tell how that one ends. What is known of what is in flight
        is forgotten: a call may arrive and its answer be lost.

        Arguments:
            marks: in the order in which they would be sent.

        Returns:
            For each of them, in this order, a mark of the parts to send.
        """
        entries = self._look_up([key for key, _ in marks])
        changed = set()
        to_send: list[Mark] = []
        for key, parts in marks:
            entry = entries.setdefault(key, {})
            if self._is_settled(entry, parts):  # as most are: a third of the time
                to_send.append((key, ()))
                continue
            due = tuple([part for part in parts if part not in entry])
            to_send.append((key, due))
            is_refreshed = self._refresh(entry, parts)
            if self._start(key, entry, due) or is_refreshed:
                changed.add(key)
        self._save(entries, changed)
        return to_send

    def begin_all(self, marks: Sequence[Mark]) -> None:
        """Begins to send everything, delivered before or not."""
        entries = self._look_up([key for key, _ in marks])
        changed = set()
        for key, parts in marks:
            if self._start(key, entries.setdefault(key, {}), parts):
                changed.add(key)
        self._save(entries, changed)

    def _is_settled(self, entry: _Entry, parts: Sequence[bytes]) -> bool:
        """Whether they all were delivered, and seen not long ago."""
        if not all(map(entry.__contains__, parts)):
            return False
        return min(map(entry.__getitem__, parts)) > self._today - _REFRESH_DAYS

    def _refresh(self, entry: _Entry, parts: Sequence[bytes]) -> bool:
        """Notes of what was seen long ago that it was seen today. Returns whether any was."""
        last_day = self._today - _REFRESH_DAYS
        old = [part for part in parts if entry.get(part, self._today) <= last_day]
        for part in old:
            entry[part] = self._today
        return bool(old)

    def _start(self, key: int, entry: _Entry, parts: Sequence[bytes]) -> bool:
        """They are in flight. Returns whether anything of an entry was forgotten for that."""
        if not parts:
            return False
        fields = _fields_of(parts)
        if len(self._shared) >= _MOST_KEPT:
            self._shared.clear()
        fields = self._shared.setdefault(fields, fields)
        self._in_flight[key] = (*self._in_flight.get(key, ()), fields)
        return bool(entry) and _forget(entry, fields)

    def _is_in_flight(self, key: int, field: bytes) -> bool:
        return any(field in fields for fields in self._in_flight.get(key, ()))

    def take_over(self, updates: Sequence[tuple[Mark, str, Any]]) -> None:
        """Replaces entries of before version 2 by what they say of the fields of users.

        Where a whole update was delivered as it is now, its fields were, too. The other
        old entries are forgotten.

        Arguments:
            updates: of each the mark, and what made its mark in version 0.
        """
        entries = self._look_up([key for (key, _), _, _ in updates])
        unknown = []
        for (key, parts), name, payload in updates:
            if set(parts) - entries.setdefault(key, {}).keys():
                unknown.append((key, parts, self.mark(name, payload)))
        old_keys = []
        for key, parts, (whole_key, _) in unknown:
            of_fields = [_mark_of_version_1(key, part) for part in parts]
            old_keys += [whole_key, *(old_key for old_key, _ in of_fields)]
        old = self._look_up(old_keys)
        for key, parts, whole in unknown:
            delivered = _find_delivered(old, key, parts, whole)
            self._add_older(key, entries[key], delivered)
        changed = {key for key, _, _ in unknown}
        forgotten: dict[int, _Entry] = {key: {} for key in old}
        self._save({**forgotten, **entries}, changed | old.keys())

    def _add_older(self, key: int, entry: _Entry, parts: Iterable[bytes]) -> None:
        """Adds to an entry what it does not know; what was sent since stays as it is."""
        known_fields = set(_fields_of(entry))
        for part in parts:
            field = part[_FIELD]
            if field not in known_fields and not self._is_in_flight(key, field):
                entry[part] = self._today

    def end(self, calls: Iterable[tuple[Mark, bool]], dropped: Collection[str] = ()) -> None:
        """Ends what began, and records what of it was accepted.

        It is not recorded where a later one of the same field is in flight.

        Arguments:
            calls: marks of the parts that were to be sent, those of one key in the order
                in which they ended, each with whether it was accepted.
            dropped: fields that were not, though their calls were.
        """
        not_accepted = set(_fields_of(self._begin_parts(dropped)))
        ended: dict[tuple[int, bytes], bytes | None] = {}
        for (key, parts), is_accepted in calls:
            self._land(key, parts)
            for part in parts:
                field = part[_FIELD]
                is_kept = is_accepted and field not in not_accepted
                ended[key, field] = part if is_kept else None
        accepted = []
        for (key, field), ended_part in ended.items():
            if ended_part is not None and not self._is_in_flight(key, field):
                accepted.append((key, ended_part))
        if accepted:
            self._record(accepted)

    def _land(self, key: int, parts: Sequence[bytes]) -> None:
        """A call of these parts is in flight no longer."""
        calls = list(self._in_flight.pop(key))
        calls.remove(_fields_of(parts))
        if calls:
            self._in_flight[key] = tuple(calls)

    def _begin_parts(self, names: Iterable[str]) -> Iterator[bytes]:
        """What begins the parts of those of the fields that were ever marked."""
        for name in names:
            if name in self._fields:
                yield self._fields[name].to_bytes(12, "big")

    def _record(self, parts: Sequence[tuple[int, bytes]]) -> None:
        """Adds parts, each with its key, to the entries."""
        entries = self._look_up(list({key for key, _ in parts}))
        for key, part in parts:
            entries.setdefault(key, {})[part] = self._today
        project = ("INSERT OR IGNORE INTO projects VALUES (?)", [(self._project,)])
        self._save(entries, entries.keys(), project)

    def _look_up(self, keys: Sequence[int]) -> dict[int, _Entry]:
        """The entries that there are of these keys."""
        entries = {}

        def look_up() -> None:
            for start in range(0, len(keys), _MOST_PLACES):
                some = keys[start : start + _MOST_PLACES]
                sql = _LOOK_UP.format(",".join("?" * len(some)))
                for key, digest, day in self._connection.execute(sql, some):
                    entries[key] = _unpack(digest, day)

        self._wait(look_up)
        return entries

    def _save(
        self,
        entries: Mapping[int, _Entry],
        changed: Collection[int],
        *others: tuple[str, Sequence[Cells]],
    ) -> None:
        """Writes the entries that changed, in one transaction, with other changes."""
        oldest = self._today - _FORGET_DAYS - _REFRESH_DAYS
        emptied: list[Cells] = []
        rows: list[Cells] = []
        # In the order of the table, whose pages are written once then.
        for key in sorted(changed):
            kept = {part: day for part, day in entries[key].items() if day >= oldest}
            if kept:
                digest = b"".join(itertools.starmap(_PART.pack, kept.items()))
                rows.append((key, digest, max(kept.values())))
            else:
                emptied.append((key,))
        self._write(*others, (_DELETE, emptied), (_SAVE, rows))

    def close(self) -> None:
        """Forgets what was not seen for 90 days, where that can be done, and closes."""
        last_day = self._today - _FORGET_DAYS - _REFRESH_DAYS
        self._patience = 0  # the next run will do it, too
        with closing(self._connection), suppress(LedgerLockedError, sqlite3.Error):
            self._write(("DELETE FROM delivered WHERE day < ?", [(last_day,)]))

    def _write(self, *changes: tuple[str, Sequence[Cells]]) -> None:
        """Runs statements, each on its rows, in one transaction."""

        def write() -> None:
            with self._connection:
                for sql, rows in changes:
                    self._connection.executemany(sql, rows)

        self._wait(write)


def _unpack(digest: bytes, day: int) -> _Entry:
    if len(digest) == _OLD_BYTES:
        return {_NO_FIELD + digest[:8]: day}
    return dict(_PART.iter_unpack(digest))


def _fields_of(parts: Iterable[bytes]) -> tuple[bytes, ...]:
    """The field of each part: they begin with it."""
    return tuple([part[_FIELD] for part in parts])


def _forget(entry: _Entry, fields: Collection[bytes]) -> bool:
    """Forgets what an entry has of these fields. Returns whether it had any."""
    known = [part for part in entry if part[_FIELD] in fields]
    for part in known:
        del entry[part]
    return bool(known)


def _find_delivered(
    old: Mapping[int, _Entry], key: int, parts: Sequence[bytes], whole: Mark
) -> Sequence[bytes]:
    """Those of the parts of a user update that old entries say were delivered."""
    whole_key, [whole_part] = whole
    if whole_part in old.get(whole_key, {}):
        return parts
    delivered = []
    for part in parts:
        old_key, old_part = _mark_of_version_1(key, part)
        if old_part in old.get(old_key, {}):
            delivered.append(part)
    return delivered


def _mark_of_version_1(key: int, part: bytes) -> tuple[int, bytes]:
    """The key, and the part, that a field of a user update had in version 1."""
    field = int.from_bytes(part[_FIELD], "big")
    old_key = (key & ~_VERSION_1_BITS) | (field & _VERSION_1_BITS)
    return old_key, _NO_FIELD + part[_WHAT]


def _count_days() -> int:
    return int(datetime.now(timezone.utc).timestamp()) // 86400


def _refuse_links(path: Path) -> None:
    """Raises LedgerError where SQLite would follow a link or wait at a pipe."""
    for suffix in ("", "-journal", "-wal", "-shm"):
        file = path.with_name(path.name + suffix)
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(file.lstat().st_mode):
                raise LedgerError(
                    f"{file} is a link, a directory, a pipe or a device: "
                    "remove it, or choose another output directory"
                )


def _copy_ledger(path: Path, connection: sqlite3.Connection) -> None:
    """Copies it without writing, or making, a file. A new one has nothing to copy."""
    # One that is in use, or was when its process was killed, has a -wal. Without one, a
    # connection that may not write would make it, and leave it.
    mode = "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "immutable=1"
    place = f"{path.absolute().as_uri()}?{mode}"
    with closing(sqlite3.connect(place, uri=True, timeout=_SLICE_SECONDS)) as original:
        original.execute("BEGIN")
        # Takes the lock for which backup() would wait for ever.
        if _read_pragma(original, "schema_version"):
            original.backup(connection)


def _prepare_ledger(connection: sqlite3.Connection, today: int) -> None:
    """Makes it ready for use. Raises sqlite3.Error, with a reason if it is damaged."""
    # A file without tables is new, or was killed before it was more.
    if not _read_pragma(connection, "schema_version"):
        connection.executescript(_TABLES)
    # With WAL this means no fsync for each commit.
    connection.execute("PRAGMA synchronous = NORMAL")
    if _read_pragma(connection, "application_id") != _LEDGER_ID:
        raise sqlite3.DatabaseError("it is not a ledger of this program")
    version = _read_pragma(connection, "user_version")
    if version > _VERSION:
        raise sqlite3.DatabaseError("it is of a later version of this program")
    health = _read_pragma(connection, "quick_check(1)")
    if health != "ok":
        raise sqlite3.DatabaseError(health.splitlines()[-1])
    if connection.execute(_ODD_ROWS).fetchone():
        raise sqlite3.DatabaseError("it has a row that this program does not write")
    if version < _VERSION:
        _begin_take_over(connection, today)
    _end_take_over(connection, today)


def _begin_take_over(connection: sqlite3.Connection, today: int) -> None:
    """Makes a ledger of before one of this version, which has old entries for a while."""
    with connection:
        connection.execute("BEGIN")
        connection.execute("CREATE TABLE IF NOT EXISTS taken_over (day INTEGER)")
        connection.execute("INSERT INTO taken_over VALUES (?)", (today,))
        connection.execute(f"PRAGMA user_version = {_VERSION}")


def _end_take_over(connection: sqlite3.Connection, today: int) -> None:
    """Looks for no old entries any more when none can be left."""
    if _was_taken_over(connection):
        [day] = connection.execute("SELECT max(day) FROM taken_over").fetchone()
        if day is None or day < today - _FORGET_DAYS - _REFRESH_DAYS:
            connection.execute("DROP TABLE taken_over")


def _was_taken_over(connection: sqlite3.Connection) -> bool:
    sql = "SELECT 1 FROM sqlite_master WHERE name = 'taken_over'"
    return connection.execute(sql).fetchone() is not None


def _read_pragma(connection: sqlite3.Connection, name: str) -> Any:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]

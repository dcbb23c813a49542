"""Databases: named queries from a .sql file, read-only connections, and rows that stream.

    queries = load_queries(Path("queries.sql"), keys=["email", "event"])
    with connect("sqlite:///app.db", ZoneInfo("UTC")) as database:
        columns, rows = database.rows(queries["active_users"], since, until)

SQLite needs the standard library alone. Every other database goes through SQLAlchemy Core, imported only then.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import itertools
import json
import marshal
import pickle
import re
import sqlite3
from abc import abstractmethod
from collections import Counter, UserString
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote
from zoneinfo import ZoneInfo


class QueryFileError(Exception):
    """The queries file is wrong. The text says where (file, line, query) and what to type."""


class DatabaseError(Exception):
    """The database cannot be reached or refuses a query. The text is for a person and holds no password."""


# The queries file


@dataclass(frozen=True)
class Query:
    """One query of the file, with the comment above it taken apart."""

    name: str
    sql: str
    path: Path
    line: int  # of `-- name:`
    keys: Mapping[str, str]  # as written: {"email": "email", "user fields": "first_name, last_name"}
    key_lines: Mapping[str, int]

    def error(self, message: str, key: str = "") -> QueryFileError:
        """An error about this query, to raise; with `key`, about the line of that key."""
        return _error_in(self.path, self.name, self.key_lines.get(key, self.line), message)


# What in a statement is a comment, a parameter, or its end. Quoted text makes tokens of its own, so that nothing in it
# is mistaken for one of these; 'it''s' makes two, which comes to the same.
_TOKENS = re.compile(
    r"""
      (?P<comment> --[^\n]* | /\*.*?\*/ )
    | (?<!\w)[eE]'(?:[^'\\]|\\.|'')*'                       # PostgreSQL: E'it\'s'
    | '[^']*' | "[^"]*" | `[^`]*`
    | (?<![\w$])\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?\$(?P=tag)\$  # PostgreSQL: $$it's$$, $tag$it's$tag$
    | (?P<unclosed> ['"`] | /\* )
    | (?<![\w:)\]"'`\\]):(?P<parameter>since|until)\b       # not a::since, a:since, "a":since
    | (?<![\w:)\]"'`\\\[]):(?P<unknown>[^\W\d]\w*)          # nor a[:n]
    | (?P<end>;)
    """,
    re.DOTALL | re.VERBOSE,
)
_NAME_LINE = re.compile(r"\s*--\s*name\s*:")
_COMMENT_LINE = re.compile(r"\s*(--|$)")
_KEY_LINE = re.compile(r"--\s+([^:]+):(.*)")


_MOST_BYTES = 1_000_000  # of a queries file


def load_queries(path: Path, keys: Collection[str]) -> dict[str, Query]:
    """Read the queries of a file, by name and in its order.

    A query begins with `-- name: x`. In the comment below, prose comes first and then one line for each key,
    `-- key: value`; `keys` are those that the caller knows. The SQL may use the parameters :since and :until.
    Raises QueryFileError.
    """
    lines = _read(path).split("\n")
    starts = [index for index, line in enumerate(lines) if _NAME_LINE.match(line)]
    for number, line in enumerate(lines[: starts[0] if starts else None], 1):
        if not _COMMENT_LINE.match(line):
            raise _error_in(path, "", number, "this is text before the first query: begin it with '-- name: x'")
        if problem := _near_miss(line.strip(), keys):
            raise _error_in(path, "", number, problem)
    if not starts:
        raise QueryFileError(f"{path} holds no query: begin each with a line '-- name: x'")
    queries: dict[str, Query] = {}
    for start, end in itertools.pairwise([*starts, len(lines)]):
        query = _parse(path, lines[start:end], start + 1, keys)
        if query.name in queries:
            raise query.error(f"line {queries[query.name].line} has a query of that name: rename one of the two")
        queries[query.name] = query
    return queries


def _read(path: Path) -> str:
    """The file's text, without a byte order mark and with \\n for line endings."""
    try:
        if (size := path.stat().st_size) > _MOST_BYTES:
            raise QueryFileError(f"The queries file {path} has {size:,} bytes: this is no file that a person wrote.")
        return path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        raise QueryFileError(f"The queries file {path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise _error_in(path, "", line, "this is not UTF-8: save the file as UTF-8") from None


def _error_in(path: Path, name: str, line: int, message: str) -> QueryFileError:
    query = f", query '{name}'" if name else ""
    return QueryFileError(f"{path}, line {line}{query}: {message}")


def _parse(path: Path, lines: list[str], first: int, keys: Collection[str]) -> Query:
    """Take one query apart: `lines` from its `-- name:`, which is line `first` of the file."""
    name = lines[0].partition(":")[2].strip()
    if not re.fullmatch(r"[A-Za-z_][\w-]*", name, re.ASCII):
        raise _error_in(path, "", first, f"'{name}' is no name for a query: use letters, digits, _ and -")
    error = partial(_error_in, path, name)
    values: dict[str, str] = {}
    key_lines: dict[str, int] = {}
    comment = list(itertools.takewhile(_COMMENT_LINE.match, lines[1:]))
    for number, line in enumerate(map(str.strip, comment), first + 1):
        match = _KEY_LINE.match(line)
        key, value = (match[1], match[2].strip()) if match else ("", "")
        if key in values:
            raise error(number, f"the key '{key}' is here a second time: keep one of the two")
        if key in keys and not value:
            raise error(number, f"the key '{key}' has no value: write one after the colon, or delete the line")
        if key in keys:
            values[key], key_lines[key] = value, number
        elif problem := _near_miss(line, keys):
            raise error(number, problem)
        elif values and line.strip("- "):
            raise error(number, f"'{line}' is none of the keys ({', '.join(keys)}), and prose belongs above them")
    below = first + 1 + len(comment)
    text = "\n".join(lines[1 + len(comment) :])
    sql = _check_sql(text, keys, lambda at, problem: error(below + text.count("\n", 0, at), problem))
    if not sql:
        raise error(first, "there is no SQL below the comment")
    return Query(name, sql, path, first, values, key_lines)


def _near_miss(comment: str, keys: Collection[str]) -> str | None:
    """The complaint about a comment that seems to mean a key: '-- User_Fields: a', '--email: a', '-- Name: a'."""
    label, colon, _ = comment.partition(":")
    plain = {_plain(key): f"-- {key}:" for key in ("name", *keys)}
    near = difflib.get_close_matches(_plain(label), plain, n=1, cutoff=0.75)
    if not colon or not near:
        return None
    meant = plain[near[0]]
    if comment.startswith(meant):
        return f"'{meant}' has no effect here: it belongs between '-- name:' and the SQL"
    return f"'{label}:' looks like '{meant}': write it exactly so, or reword the comment"


def _plain(label: str) -> str:
    return re.sub(r"[\s_-]", "", label).lower()


def _check_sql(text: str, keys: Collection[str], error: Callable[[int, str], QueryFileError]) -> str:
    """The SQL of a query without its semicolon, '' if there is none. Raises `error`, of an offset and a message."""
    end = len(text)
    for token in _TOKENS.finditer(text):
        if token["comment"] and (problem := _near_miss(token[0], keys)):
            raise error(token.start(), problem)
        if token["unclosed"]:
            raise error(token.start(), f"nothing closes this {token[0]} (write a quote inside quotes twice: '')")
        if token["unknown"]:
            raise error(token.start(), f"{token[0]} is neither :since nor :until (put a space after any other colon)")
        if token["end"]:
            end = min(end, token.start())
    code = _TOKENS.sub(lambda token: " " * len(token[0]) if token["comment"] else token[0], text)
    if second := re.search(r"[^\s;]", code[end:]):
        raise error(end + second.start(), "a second statement begins here: give it a '-- name: x' of its own")
    return text[:end].rstrip() if code[:end].strip() else ""


# Connections and rows

_SQLITE = ("sqlite", "sqlite+pysqlite")


class UnreadableTime(UserString):
    """A cell with a time that Python cannot hold, as the database writes it: `infinity`, `0000-00-00`."""


def connect(url: str, zone: ZoneInfo) -> Database:
    """Open a database, read-only.

    `url` is sqlite:///relative.db, sqlite:////absolute.db or any URL of SQLAlchemy. `zone` is that of the times in the
    database that have none: windows are bound in it, and it becomes the session's zone. Raises DatabaseError.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise DatabaseError("DATABASE_URL is no URL: write sqlite:///file.db or postgresql://user:password@host/name.")
    if scheme.lower() in _SQLITE:
        return _SQLite(rest, zone)
    return _SQLAlchemy(url, zone)


def describe_url(url: str) -> str:
    """The URL for logs: no password, and none of the parameters after `?`, which may hold one."""
    scheme, separator, rest = url.partition("://")
    if scheme.lower() in _SQLITE:
        return url
    place, _, parameters = rest.partition("?")
    if not separator:
        return "***"
    if "@" in parameters:  # an unescaped ? in the password, or an @ in a parameter: who can tell
        return f"{scheme}://***"
    return f"{scheme}://" + re.sub("(?s)^([^:]*):.*@", r"\1:***@", place)


class Database(AbstractContextManager["Database"]):
    """A read-only connection, in one transaction. Leave it with `with` or close()."""

    _failures: tuple[type[Exception], ...]  # what the driver raises
    _zone: ZoneInfo
    _connection: Any = None  # none before it is open

    def rows(self, query: Query, since: datetime, until: datetime) -> tuple[tuple[str, ...], Iterator[tuple[Any, ...]]]:
        """Run a query over a window of two aware times: its columns, known even without rows, and its rows.

        Rows stream: they are read once, and before the next query. Reading them, too, may raise DatabaseError.
        """
        bounds = {"since": since, "until": until}
        local = {name: time.astimezone(self._zone).replace(tzinfo=None) for name, time in bounds.items()}
        with self._errors(query):
            columns, rows = self._execute(query.sql, local)
        if not columns:
            raise query.error("this statement returns no rows: a query is a SELECT")
        for name, count in Counter(columns).items():
            if count > 1:
                raise query.error(f"{count} result columns are named '{name}': rename all but one with AS")
        return columns, self._stream(query, rows)

    def _stream(self, query: Query, rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        with self._errors(query):
            yield from rows

    @contextmanager
    def _errors(self, query: Query) -> Iterator[None]:
        try:
            yield
        except self._failures as error:
            raise DatabaseError(
                f"Query '{query.name}' ({query.path}, line {query.line}) failed: {self._message(error)}. "
                "Correct the query or, if it is not at fault, check DATABASE_URL and the server."
            ) from None

    @abstractmethod
    def _execute(self, sql: str, bounds: dict[str, datetime]) -> tuple[tuple[str, ...], Iterable[tuple[Any, ...]]]:
        """The columns, none if the statement has no result, and the rows."""

    def _message(self, error: Exception) -> str:
        return str(error)

    @abstractmethod
    def close(self) -> None:
        """Close the connection; a second time does nothing."""

    def __exit__(self, *error: object) -> None:
        self.close()


class _SQLite(Database):
    _failures = (sqlite3.Error, sqlite3.Warning)

    def __init__(self, location: str, zone: ZoneInfo) -> None:
        self._zone = zone
        if not location.startswith("/") or location in ("/", "/:memory:"):
            raise DatabaseError(
                "DATABASE_URL names no SQLite file: write sqlite:///relative.db or sqlite:////path/to.db."
            )
        path = Path(location[1:])
        try:
            path = path.absolute()  # there may be no working directory any more
            path.stat()
            self._connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=30, isolation_level=None)
            self._connection.execute("BEGIN")
            self._connection.execute("SELECT 1 FROM sqlite_master LIMIT 1")
        except (OSError, sqlite3.Error) as error:
            self.close()
            reason = error.strerror if isinstance(error, OSError) else "it is a directory" if path.is_dir() else error
            raise DatabaseError(
                f"The SQLite file {path} cannot be opened: {reason}. Check DATABASE_URL: sqlite:///file.db is relative "
                "to the working directory, sqlite:////path/to.db is absolute, and no character is special."
            ) from None
        # A broken byte must not end the query: it becomes a lone surrogate, for which its row alone has to answer.
        self._connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
        # Signal handlers run between Python's instructions; while a query runs for long, there are only these.
        self._connection.set_progress_handler(lambda: 0, 100_000)

    def _execute(self, sql: str, bounds: dict[str, datetime]) -> tuple[tuple[str, ...], Iterable[tuple[Any, ...]]]:
        cursor = self._connection.execute(sql, {name: time.isoformat(" ", "seconds") for name, time in bounds.items()})
        # not the cursor itself: leaving rows early would close it, after its connection
        return tuple(column[0] for column in cursor.description or ()), map(tuple, cursor)

    def close(self) -> None:
        if self._connection:
            self._connection.close()


_POSTGRESQL, _MYSQL = "postgresql+psycopg", "mysql+pymysql"
_DRIVERS = {"postgres": _POSTGRESQL, "postgresql": _POSTGRESQL, "mysql": _MYSQL, "mariadb": _MYSQL}
_PACKAGES = {  # what pip calls the package of a driver or dialect
    "psycopg": "psycopg[binary]", "psycopg2": "psycopg2-binary", "pymysql": "PyMySQL", "mysqldb": "mysqlclient",
    "hive": "pyhive[hive]", "snowflake": "snowflake-sqlalchemy", "trino": "trino[sqlalchemy]",
}  # fmt: skip


def _engine(url: str) -> Any:
    """SQLAlchemy's engine for a URL; it connects to nothing yet. Raises DatabaseError."""
    scheme, _, rest = url.partition("://")
    scheme = _DRIVERS.get(scheme.lower(), scheme)
    dialect, _, driver = scheme.partition("+")
    package = _PACKAGES.get(driver or dialect, driver)
    try:
        sqlalchemy = importlib.import_module("sqlalchemy")
    except ImportError:
        raise _not_installed(scheme, "sqlalchemy", package) from None
    try:
        parsed = sqlalchemy.make_url(f"{scheme}://{rest}")
        if "@" in f"{parsed.host}{parsed.database}" or "@" in rest.partition("?")[2]:
            raise ValueError  # part of a password was taken for something else, and would show in errors
        return sqlalchemy.create_engine(parsed, poolclass=sqlalchemy.NullPool, hide_parameters=True)
    except (ImportError, sqlalchemy.exc.NoSuchModuleError) as error:
        if missing := package or getattr(error, "name", None):
            raise _not_installed(scheme, missing) from None
        raise DatabaseError(
            f"SQLAlchemy knows no {scheme}://: correct DATABASE_URL, or install the package that brings this dialect."
        ) from None
    except (sqlalchemy.exc.ArgumentError, ValueError):
        raise DatabaseError(
            "DATABASE_URL cannot be read: write scheme://user:password@host:port/name, with special characters in any "
            "part percent-encoded (@ is %40, : is %3A, / is %2F, ? is %3F, # is %23, % is %25)."
        ) from None


def _not_installed(scheme: str, *packages: str) -> DatabaseError:
    names = " ".join(f'"{package}"' for package in packages if package)
    return DatabaseError(f"{scheme}:// needs a library that is not installed: python -m pip install {names}")


class _SQLAlchemy(Database):
    _failures = (Exception,)  # drivers raise more than their own: OSError, struct.error, ...
    _FETCH = 500  # rows a round trip
    _result: Any = None  # of the latest query

    def __init__(self, url: str, zone: ZoneInfo) -> None:
        self._zone = zone
        self._secrets = _secrets(url)
        try:
            engine = _engine(url)
            self._text = importlib.import_module("sqlalchemy").text
            self._dialect = engine.dialect
            self._connection = engine.connect()
            self._begin()
        except DatabaseError:
            raise
        except Exception as error:
            self.close()
            text = self._message(error)
            advice = "Check DATABASE_URL, and that the server can be reached from here."
            if "time zone" in text:
                advice = "Load the server's zones (mysql_tzinfo_to_sql /usr/share/zoneinfo | mysql mysql), or use UTC."
            raise DatabaseError(f"Cannot use {describe_url(url)}: {text}. {advice}") from None

    def _begin(self) -> None:
        """Make the transaction read-only, one snapshot for all queries, in our zone."""
        if self._dialect.name == "postgresql":
            self._connection.execute(self._text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
            # All rows will be read: PostgreSQL must not plan for the first tenth of them, as it does for a cursor.
            settings = "SELECT set_config('TimeZone', :zone, true), set_config('cursor_tuple_fraction', '1', true)"
            self._connection.execute(self._text(settings), {"zone": self._zone.key})
            if self._dialect.driver == "psycopg":
                _keep_unreadable_times(self._connection.connection.driver_connection)
        elif self._dialect.name in ("mysql", "mariadb"):
            zone = "+00:00" if self._zone.key in ("UTC", "Etc/UTC") else self._zone.key  # offsets need no zone tables
            self._connection.execute(self._text("SET time_zone = :zone"), {"zone": zone})
            # Of the session: a CREATE or DROP commits the transaction that it is in and would run after it.
            self._connection.execute(self._text("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))

    def _execute(self, sql: str, bounds: dict[str, datetime]) -> tuple[tuple[str, ...], Iterable[tuple[Any, ...]]]:
        # text() would take ` :x` in a literal or a comment for a parameter: escape all other colons.
        parameters = {token.start() for token in _TOKENS.finditer(sql) if token["parameter"]}
        escaped = re.sub(":", lambda colon: ":" if colon.start() in parameters else r"\:", sql)
        if self._result:
            self._result.close()
        options = {"yield_per": self._FETCH}  # a cursor on the server, where the driver has them
        self._result = result = self._connection.execute(self._text(escaped), bounds, execution_options=options)
        if not result.returns_rows:
            return (), ()
        rows = _pymysql_rows(result) if self._dialect.driver == "pymysql" else map(tuple, result)
        return tuple(result.keys()), rows

    def close(self) -> None:
        with suppress(Exception):  # a lost connection cannot be closed, and need not be
            if self._result and self._dialect.driver == "pymysql":
                _abandon(self._result.cursor)
                self._connection.invalidate()
            if self._result:
                self._result.close()
            self._connection.close()

    def _message(self, error: Exception) -> str:
        """What the database or its driver said: one line, without SQL, values and password."""
        cause = getattr(error, "orig", None) or error
        numbered = len(cause.args) == 2 and isinstance(cause.args[0], int)  # PyMySQL: (1045, "Access denied ...")
        text = str(cause.args[1] if numbered else cause).strip() or type(cause).__name__
        text = re.sub(r":\n\W*", ": ", text).split("\n")[0].rstrip(".")
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return re.sub(r"[^\s'\"(=<]+@[^\s'\")>]+\.[^\s'\")>]+", "***", text)  # a value may be somebody's address


def _secrets(url: str) -> list[str]:
    """What of a URL must not show: the password and parameters like it, as written and decoded, the longest first."""
    values = re.findall(r"[?&][^=&]*(?:pass|pwd|secret|token|key)[^=&]*=([^&]+)", url, re.IGNORECASE)
    values.append(url.partition("://")[2].rpartition("@")[0].partition(":")[2])
    return sorted({form for value in values for form in (value, unquote(value))} - {""}, key=len, reverse=True)


def _keep_unreadable_times(connection: Any) -> None:
    """Keep psycopg from ending a query at a time before year 1 or after 9999, at infinity, or at 24:00."""
    adapt, error = importlib.import_module("psycopg.adapt"), importlib.import_module("psycopg").DataError

    def tolerant(loader: Any) -> Any:
        class Tolerant(adapt.Loader):  # type: ignore[name-defined, misc]
            def __init__(self, oid: int, context: Any = None) -> None:
                super().__init__(oid, context)
                self._load = loader(oid, context).load

            def load(self, data: Any) -> Any:
                try:
                    return self._load(data)
                except error:
                    return UnreadableTime(bytes(data).decode())

        return Tolerant

    for name in ("date", "time", "timetz", "timestamp", "timestamptz"):
        oid = connection.adapters.types[name].oid
        connection.adapters.register_loader(oid, tolerant(connection.adapters.get_loader(oid, adapt.Loader.format)))


def _pymysql_rows(result: Any) -> Iterator[tuple[Any, ...]]:
    """Rows with what PyMySQL leaves undone: BOOLEAN is TINYINT(1), sometimes BIT(1); JSON and zero dates are text."""
    flags = {(1, 1): lambda value: bool(value) if value in (0, 1) else value, (16, 1): lambda value: value == b"\x01"}
    # by the types of MySQL's protocol: TIMESTAMP, DATE, DATETIME; JSON
    times = dict.fromkeys((7, 10, 12), lambda value: UnreadableTime(value) if isinstance(value, str) else value)
    by_code: dict[int, Callable[[Any], Any]] = {**times, 245: json.loads}
    cursor = result.cursor
    converters = [by_code.get(code, flags.get((code, size))) for _, code, _, size, *_ in cursor.description]
    try:
        for row in result:
            cells = zip(row, converters, strict=True)
            yield tuple(convert(cell) if convert and cell is not None else cell for cell, convert in cells)
    except GeneratorExit:
        raise
    except BaseException:
        _abandon(cursor)
        raise


def _abandon(cursor: Any) -> None:
    """Keep PyMySQL from reading a result to its end when it is closed: it may be long, or its connection dead."""
    if cursor and cursor._result:
        cursor._result.unbuffered_active = False


# Times

_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d)(?::(\d\d)(?:\.(\d+))?)? ?(?:(Z)|([+-]\d\d)(?::?(\d\d))?)?", re.ASCII
)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def parse_time(value: object, zone: tzinfo) -> datetime:
    """The aware time that a cell means: a datetime, a date, Unix seconds, or text such as '2026-01-13 08:45:12Z'.

    What has no zone is in `zone`. Raises ValueError, whose text says what to write.
    """
    try:
        if isinstance(value, str) and len(value) == 19 and value[4::3] in ("-- ::", "--T::"):
            time = datetime.fromisoformat(value)  # the most common form, and the fastest way: combine() beats replace()
            return datetime.combine(time, time.time(), zone)
        if isinstance(value, datetime):
            return value if value.tzinfo else value.replace(tzinfo=zone)
        if isinstance(value, date):
            return datetime(value.year, value.month, value.day, tzinfo=zone)
        if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
            return _EPOCH + timedelta(seconds=float(value))
        if isinstance(value, str) and (match := _TIME.fullmatch(value.strip())):
            day, minute, second, fraction, utc, hours, minutes = match.groups(default="00")
            offset = "+00:00" if utc == "Z" else f"{hours}:{minutes}" if match[6] else ""
            # Python 3.10 reads no Z, no short offset, and fractions of six digits only.
            time = datetime.fromisoformat(f"{day} {minute}:{second}.{fraction[:6]:0<6}{offset}")
            return time if time.tzinfo else time.replace(tzinfo=zone)
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"{value!a:.80} is no time: write YYYY-MM-DD HH:MM:SS, perhaps with Z or +HH:MM, or Unix seconds")


def window(as_of: str, days: float, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The beginning and the end, in `zone`, of the `days` times 24 hours up to a time or the beginning of a date.

    Raises ValueError or OverflowError.
    """
    until = parse_time(as_of if ":" in as_of else f"{as_of} 00:00", zone)
    since = until.astimezone(timezone.utc) - timedelta(hours=24) * days  # also where a zone's day has 23 or 25
    return since.astimezone(zone), until.astimezone(zone)


# Rows on disk: from the query, whose connection need not stay open, until they are sent

BATCH_ROWS = 1000
BATCH_CHARACTERS = 4_000_000  # memory follows the batches in use, so wide rows make smaller ones


def spool(query: Query, rows: Iterable[Any], file: IO[bytes], write: Callable[[Any], int]) -> int:
    """Put the rows of a query, typed, into a file, and each through `write`, which returns its characters.

    Returns how many rows there are. Raises DatabaseError where one has a value that cannot be kept.
    """
    batch: list[Any] = []
    total = size = 0
    try:
        for row in rows:
            batch.append(row)
            size += write(row)
            if len(batch) == BATCH_ROWS or size >= BATCH_CHARACTERS:
                pickle.dump(batch, file, pickle.HIGHEST_PROTOCOL)
                total, size, batch = total + len(batch), 0, []
        for last in (batch, []):  # the empty one marks the end
            pickle.dump(last, file, pickle.HIGHEST_PROTOCOL)
    except (AttributeError, TypeError, RecursionError, pickle.PicklingError) as error:
        raise DatabaseError(f"Query '{query.name}' has a value that cannot be kept: {error}") from None
    file.seek(0)
    return total + len(batch)


def spooled(file: IO[bytes]) -> Iterator[list[Any]]:
    """The rows of a file of spool(), in batches."""
    while batch := pickle.load(file):  # noqa: S301 - ours alone: it has no name
        yield batch


# The ledger

Mark = tuple[int, bytes]  # the key of a call in the ledger, and the digest of its payload
_LEDGER_ID = 0x17E2AB1E  # PRAGMA application_id: tells our file from others
_REFRESH_DAYS = 7  # an entry's day is rewritten when it is so old: once a week, not every night
_FORGET_DAYS = 90  # without being seen; the entry's day may be _REFRESH_DAYS older than the last sight of it


class LedgerError(Exception):
    """The ledger cannot be used. The text is for a person."""


class Ledger:
    """Which calls were delivered before, and with what payload: digests in a small SQLite file, no names, no payloads.

    A call is marked, begins, and ends. Every change is committed at once, and survives the end of the process at any
    moment. Methods raise sqlite3.Error where the file cannot be read or written: on a full disk, say.
    """

    def __init__(self, path: Path, secret: str, writable: bool = True, today: int | None = None) -> None:
        """Open or create it; where it is not `writable`, a copy that is gone in the end.

        `secret` is whose calls these are: without it, nobody can tell from the file whom they are about. `today` is in
        days since 1970. Raises LedgerError where the file is damaged or not a ledger.
        """
        self._today = int(datetime.now(timezone.utc).timestamp()) // 86400 if today is None else today
        self._project = hashlib.blake2b(secret.encode(), digest_size=16).digest()
        self._hash = hashlib.blake2b(key=hashlib.blake2b(secret.encode()).digest(), digest_size=16)
        self._in_flight: Counter[int] = Counter()  # calls by key that began and did not end
        advice = f"delete {path} (everything is sent once more then), or choose another output directory"
        try:
            self._connection = connection = sqlite3.connect(path if writable else "")  # "": a temporary one
            if not writable and path.exists():
                with closing(sqlite3.connect(path)) as original:
                    original.backup(connection)
            if not connection.execute("PRAGMA schema_version").fetchone()[0]:  # new, or killed before it was more
                connection.executescript(f"""
                    PRAGMA journal_mode = WAL; BEGIN; PRAGMA application_id = {_LEDGER_ID};
                    CREATE TABLE delivered (key INTEGER PRIMARY KEY, digest BLOB, day INTEGER);
                    CREATE TABLE projects (project BLOB PRIMARY KEY) WITHOUT ROWID; COMMIT""")
            if connection.execute("PRAGMA application_id").fetchone()[0] != _LEDGER_ID:
                raise LedgerError(f"{path} is not a ledger of this program: {advice}")
            if (health := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                raise sqlite3.DatabaseError(health.splitlines()[-1])
            connection.execute("PRAGMA synchronous = NORMAL")  # with WAL: no fsync for each commit
            projects = {row[0] for row in connection.execute("SELECT project FROM projects")}
            self.is_new_project = bool(projects) and self._project not in projects
        except sqlite3.OperationalError:
            raise
        except sqlite3.Error as error:
            raise LedgerError(f"The ledger {path} cannot be used ({error}): {advice}") from None

    def mark(self, name: str, payload: Any) -> Mark:
        """The mark of a call; `name` tells what it is about from all else in the ledger."""
        state = self._hash.copy()
        state.update(name.encode())
        key = int.from_bytes(state.digest()[:8], "big", signed=True)  # two names of one key are only sent every time
        state.update(marshal.dumps(payload, 2))  # exact, four times as fast as JSON, and the same since Python 2.5
        return key, state.digest()

    def begin(self, marks: Sequence[Mark]) -> list[bool]:
        """Whether each of these calls was delivered before with the same payload; the others are in flight from now on.

        One whose like is in flight, be it with the same payload, is not known to be delivered: who can tell how that
        one ends. What is known of others is forgotten: a call may arrive and its answer be lost.
        """
        keys = [key for key, _ in marks]
        found: list[tuple[int, bytes, int]] = []
        for some in (keys[start : start + 500] for start in range(0, len(keys), 500)):  # any SQLite takes 999
            places = ",".join("?" * len(some))
            found += self._connection.execute(f"SELECT * FROM delivered WHERE key IN ({places})", some)  # noqa: S608
        known = {key: digest for key, digest, _ in found}
        delivered = []
        for key, digest in marks:
            delivered.append(known.get(key) == digest and key not in self._in_flight)
            if not delivered[-1]:
                self._in_flight[key] += 1
        outdated = [(key,) for key in known.keys() & self._in_flight.keys()]
        self._write("DELETE FROM delivered WHERE key = ?", outdated)
        old = [(self._today, key) for key, _, day in found if day <= self._today - _REFRESH_DAYS]
        self._write("UPDATE delivered SET day = ? WHERE key = ?", old)
        return delivered

    def end(self, calls: Iterable[tuple[Mark, bool]]) -> None:
        """Record which of these calls were accepted, unless a later one of the same name is in flight."""
        accepted: dict[int, bytes] = {}
        for (key, digest), is_accepted in calls:
            self._in_flight[key] -= 1
            if not self._in_flight[key]:
                del self._in_flight[key]
            if is_accepted:
                accepted[key] = digest
            else:
                accepted.pop(key, None)
        rows = sorted((key, digest, self._today) for key, digest in accepted.items() if key not in self._in_flight)
        if rows:
            self._write("INSERT OR IGNORE INTO projects VALUES (?)", [(self._project,)])
            self._write("INSERT OR REPLACE INTO delivered VALUES (?, ?, ?)", rows)

    def close(self) -> None:
        """Forget what was not seen for 90 days, and close."""
        self._write("DELETE FROM delivered WHERE day < ?", [(self._today - _FORGET_DAYS - _REFRESH_DAYS,)])
        self._connection.close()

    def _write(self, sql: str, rows: list[Any]) -> None:
        with self._connection:  # a transaction
            self._connection.executemany(sql, rows)

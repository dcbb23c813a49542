"""One typed query over every type, and what each of its cells becomes, whatever the database.

Another database is a key more in SQL_TYPES, and in LITERALS where its literals need more than
the text of SQL that stands here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

ZONE = "Europe/Berlin"  # the session's, and that of times without one
ROWS = ("usual", "low", "high")  # the edges of each type; `null` and bad cells have more rows
SQL_TYPES = {  # of a column, by what it holds
    "sqlite": {
        "integer": "INTEGER",
        "number": "NUMERIC",
        "double": "REAL",
        "boolean": "INTEGER",
        "date": "TEXT",
        "time": "TEXT",
        "json": "TEXT",
        "text": "TEXT",
    },
    "postgresql": {
        "integer": "BIGINT",
        "number": "NUMERIC(20, 2)",
        "double": "DOUBLE PRECISION",
        "boolean": "BOOLEAN",
        "date": "DATE",
        "time": "TIMESTAMPTZ",
        "json": "JSON",
        "text": "TEXT",
    },
    "mariadb": {
        "integer": "BIGINT",
        "number": "DECIMAL(20, 2)",
        "double": "DOUBLE",
        "boolean": "BOOLEAN",
        "date": "DATE",
        "time": "DATETIME",
        "json": "JSON",
        "text": "VARCHAR(99) CHARACTER SET utf8mb4",
    },
}
LITERALS: dict[str, dict[str, str]] = {}  # such as {"x": {"time": "TIMESTAMP {}"}}


class TypedColumn(NamedTuple):
    """A column, a field of the same name, and what is sent of its cells."""

    name: str
    type_name: str  # the field's
    holds: str  # a key of SQL_TYPES
    cells: tuple[str, str, str]  # SQL, for each of ROWS
    sent: tuple[Any, Any, Any]
    bad_cell: str = ""  # SQL of one that is not of the type
    kind: str = "text"  # what the error calls it


COLUMNS = [
    # as databases have the type
    TypedColumn(
        "amount",
        "decimal",
        "number",
        ("10.00", "-9999999999999.99", "0.01"),
        (10.0, -9999999999999.99, 0.01),
    ),
    TypedColumn(
        "score",
        "integer",
        "integer",
        ("42", "-9223372036854775808", "9223372036854775807"),
        (42, -(2**63), 2**63 - 1),
    ),
    TypedColumn("active", "boolean", "boolean", ("TRUE", "FALSE", "TRUE"), (True, False, True)),
    TypedColumn(
        "born",
        "date",
        "date",
        ("'2026-01-13'", "'0001-01-01'", "'9999-12-31'"),
        ("2026-01-13", "0001-01-01", "9999-12-31"),
    ),
    TypedColumn(
        "seen",
        "timestamp",
        "time",
        ("'2026-07-13 08:45:12'", "'1000-01-02 00:00:00'", "'9999-12-31 23:59:59'"),
        (
            "2026-07-13 06:45:12 +00:00",
            "1000-01-01 23:06:32 +00:00",  # before zones, in mean solar time
            "9999-12-31 22:59:59 +00:00",
        ),
    ),
    TypedColumn(
        "prefs",
        "json",
        "json",
        ("""'{"a": {"b": [1, 2.5, null, true, "東京"]}}'""", "'{}'", """'{"": {}}'"""),
        ({"a": {"b": [1, 2.5, None, True, "東京"]}}, {}, {"": {}}),
    ),
    TypedColumn("note", "text", "text", ("'Łódź 🎉'", "''", "'007'"), ("Łódź 🎉", "", "007")),
    # as a neighbouring type
    TypedColumn(
        "amount_whole",
        "decimal",
        "integer",
        ("10", "-9223372036854775808", "0"),
        (10.0, -(2.0**63), 0.0),
    ),
    TypedColumn(
        "amount_double", "decimal", "double", ("10.0", "-1e300", "0.5"), (10.0, -1e300, 0.5)
    ),
    TypedColumn(
        "score_number",
        "integer",
        "number",
        ("42.00", "-9999999999999", "0.00"),
        (42, -9999999999999, 0),
        "42.50",
        "a number",
    ),
    TypedColumn(
        "active_number",
        "boolean",
        "integer",
        ("1", "0", "1"),
        (True, False, True),
        "2",
        "an integer",
    ),
    TypedColumn(
        "born_at",
        "date",
        "time",
        ("'2026-07-13 00:30:00'", "'1000-01-02 00:00:00'", "'9999-12-31 23:59:59'"),
        ("2026-07-13", "1000-01-02", "9999-12-31"),
    ),
    TypedColumn(
        "seen_day",
        "timestamp",
        "date",
        ("'2026-07-13'", "'1000-01-02'", "'9999-12-31'"),
        (
            "2026-07-12 22:00:00 +00:00",
            "1000-01-01 23:06:32 +00:00",
            "9999-12-30 23:00:00 +00:00",
        ),
    ),
    TypedColumn(
        "seen_seconds",
        "timestamp",
        "integer",
        ("1768293912", "0", "253402300799"),
        (
            "2026-01-13 08:45:12 +00:00",
            "1970-01-01 00:00:00 +00:00",
            "9999-12-31 23:59:59 +00:00",
        ),
        "253402300800",
        "an integer",
    ),
    TypedColumn("note_number", "text", "integer", ("7", "-7", "0"), ("7", "-7", "0")),
    TypedColumn("note_double", "text", "double", ("NULL",) * 3, (None,) * 3, "1.5", "a number"),
    # as text
    TypedColumn(
        "amount_text",
        "decimal",
        "text",
        ("' 10 '", "'-1e3'", "'9223372036854775808'"),
        (10.0, -1000.0, 2.0**63),
        "'1,5'",
    ),
    TypedColumn(
        "score_text",
        "integer",
        "text",
        ("'42.00'", "'-9223372036854775808'", "'9223372036854775807'"),
        (42, -(2**63), 2**63 - 1),
        "'0x10'",
    ),
    TypedColumn(
        "active_text",
        "boolean",
        "text",
        ("'true'", "' F '", "'t'"),
        (True, False, True),
        "'yes'",
    ),
    TypedColumn(
        "born_text",
        "date",
        "text",
        ("'2026-07-12T22:30:00Z'", "'0001-01-01'", "'9999-12-31'"),
        ("2026-07-13", "0001-01-01", "9999-12-31"),
        "'2026-02-30'",
    ),
    TypedColumn(
        "seen_text",
        "timestamp",
        "text",
        ("'2026-01-28T04:27:41.223515+00:00'", "'0001-01-01 00:00:00Z'", "'9999-12-31 23:59:59Z'"),
        (
            "2026-01-28 04:27:41 +00:00",
            "0001-01-01 00:00:00 +00:00",
            "9999-12-31 23:59:59 +00:00",
        ),
        "'soon'",
    ),
    TypedColumn(
        "prefs_text",
        "json",
        "text",
        ("""'[1, 2.5, null, true, "東京"]'""", "' [] '", """'[{"a": [[]]}]'"""),
        ([1, 2.5, None, True, "東京"], [], [{"a": [[]]}]),
        "'7'",
    ),
]
NAMES = ", ".join(column.name for column in COLUMNS)
TYPED_NAMES = ", ".join(f"{column.name} {column.type_name}" for column in COLUMNS)
BAD_COLUMNS = [column for column in COLUMNS if column.bad_cell]


def expected_fields() -> dict[str, dict[str, Any]]:
    """The dataFields of each row of which all cells are of their types, by user."""
    fields: dict[str, dict[str, Any]] = {"null@example.com": dict.fromkeys(_names())}
    for place, row in enumerate(ROWS):
        fields[f"{row}@example.com"] = {column.name: column.sent[place] for column in COLUMNS}
    return fields


def expected_errors() -> dict[str, str]:
    """What the failure of each row with a bad cell says, by user."""
    errors = {}
    for column in BAD_COLUMNS:
        message = f"column {column.name}: {column.kind} that is no {column.type_name}"
        errors[f"{column.name}@example.com"] = message
    return errors


def table_statements(database: str) -> list[str]:
    """The statements that make the table `typed`, whose times are in ZONE."""
    types = SQL_TYPES[database]
    declared = ", ".join(f"{column.name} {types[column.holds]}" for column in COLUMNS)
    names = f"email {types['text']}, number {types['integer']}, {declared}"
    statements = ["DROP TABLE IF EXISTS typed", f"CREATE TABLE typed ({names})"]
    for number, (user, cells) in enumerate(_rows().items()):
        values = [f"'{user}@example.com'", str(number)]
        for column in COLUMNS:
            values.append(_literal(database, column, cells.get(column.name, "NULL")))
        statements.append(f"INSERT INTO typed VALUES ({', '.join(values)})")  # noqa: S608
    return statements


def _names() -> list[str]:
    return [column.name for column in COLUMNS]


def _rows() -> dict[str, dict[str, str]]:
    """The SQL of the cells of each row, but for NULL."""
    rows: dict[str, dict[str, str]] = {"null": {}}
    for place, row in enumerate(ROWS):
        rows[row] = {column.name: column.cells[place] for column in COLUMNS}
    for column in BAD_COLUMNS:
        rows[column.name] = {column.name: column.bad_cell}
    return rows


def _literal(database: str, column: TypedColumn, sql: str) -> str:
    """The SQL of a cell, as the database wants it."""
    form = LITERALS.get(database, {}).get(column.holds, "{}")
    return sql if sql == "NULL" else form.format(sql)

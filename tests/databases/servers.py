"""Private PostgreSQL and MariaDB servers for tests.

    with postgresql() as url, mariadb() as other_url:
        load_sample_data(url)

Each runs in a temporary directory, on a free port, and is gone at the end. They need the programs
of Debian's packages postgresql and mariadb-server, and the drivers of requirements-ci.txt.
"""

from __future__ import annotations

import importlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from tests.project import ROOT

PASSWORD = "p@ss:w/rd#1%?"  # all that a URL has to escape
MARIADB_ZONES = ("Europe/Berlin", "Pacific/Honolulu")  # the others stay unknown to the server
START_SECONDS = 60


@contextmanager
def postgresql() -> Iterator[str]:
    """Start PostgreSQL; the URL is that of a database `app`, which its user `app` owns."""
    with _directory("postgres") as (directory, account):
        _run(_initdb_command(directory), account)
        port = _free_port()
        pg_ctl = [_program("pg_ctl"), "-D", directory / "data", "-w", "-t", str(START_SECONDS)]
        options = _postgresql_options(directory, port)
        _run([*pg_ctl, "-l", directory / "log", "-o", options, "start"], account)
        try:
            server = f"postgresql://app:{quote(PASSWORD, safe='')}@127.0.0.1:{port}"
            execute(f"{server}/postgres", "CREATE DATABASE app")
            yield f"{server}/app"
        finally:
            _run([*pg_ctl, "-m", "immediate", "stop"], account)


def _initdb_command(directory: Path) -> list[Any]:
    password_file = directory / "password"
    password_file.write_text(PASSWORD)
    password_file.chmod(0o644)  # in a directory that only its owner can enter
    return [
        _program("initdb"),
        f"--pgdata={directory}/data",
        "--username=app",
        f"--pwfile={password_file}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C",
        "--no-sync",
    ]


def _postgresql_options(directory: Path, port: int) -> str:
    options = [
        f"-p {port}",
        f"-k {directory}",
        "-c listen_addresses=127.0.0.1",
        "-c fsync=off",
        "-c timezone=Asia/Tokyo",
    ]
    return " ".join(options)


@contextmanager
def mariadb() -> Iterator[str]:
    """Start MariaDB; the URL is that of a database `app`, which its user `app` owns."""
    with _directory("mysql") as (directory, account):
        install = [
            _program("mariadb-install-db"),
            "--no-defaults",
            f"--datadir={directory}/data",
            "--skip-test-db",
            "--auth-root-authentication-method=normal",
        ]
        _run(install, account)
        port = _free_port()
        command = _mariadb_command(directory, port)
        process = subprocess.Popen(command, **account, stderr=subprocess.DEVNULL)
        try:
            _wait_for(port, process, directory / "log")
            url = f"mysql://app:{quote(PASSWORD, safe='')}@127.0.0.1:{port}/app"
            for zone in MARIADB_ZONES:
                _load_zone(url, zone)
            yield url
        finally:
            process.terminate()
            process.wait(START_SECONDS)


def _mariadb_command(directory: Path, port: int) -> list[str]:
    start = directory / "start.sql"
    start.write_text(
        "CREATE DATABASE app CHARACTER SET utf8mb4;\n"
        f"CREATE USER app@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';\n"
        "GRANT ALL ON *.* TO app@'127.0.0.1';\n"
    )
    return [
        _program("mariadbd"),
        "--no-defaults",
        f"--datadir={directory}/data",
        f"--init-file={start}",
        f"--port={port}",
        f"--socket={directory}/socket",
        f"--log-error={directory}/log",
        f"--pid-file={directory}/pid",
        "--bind-address=127.0.0.1",
        "--default-time-zone=+09:00",
        "--transaction-isolation=READ-COMMITTED",
    ]


def execute(url: str, *statements: str) -> None:
    """Run statements as they stand, each of them committed."""
    connection = _connect(url)
    try:
        for statement in statements:
            connection.cursor().execute(statement)
    finally:
        connection.close()


def _connect(url: str) -> Any:
    """A connection of the driver's own, which commits each statement."""
    parts = urlsplit(url)
    place: dict[str, Any] = {
        "host": parts.hostname,
        "port": parts.port,
        "user": parts.username,
        "password": unquote(parts.password or ""),
        "autocommit": True,
    }
    name = parts.path[1:]
    if parts.scheme == "postgresql":
        return importlib.import_module("psycopg").connect(dbname=name, **place)
    return importlib.import_module("pymysql").connect(database=name, **place)


def setting_zone(url: str, zone: str) -> str:
    """The statement that gives a session that zone."""
    if not url.startswith("mysql"):
        return f"SET TIME ZONE '{zone}'"
    if zone == "UTC":  # which MariaDB knows by its offset only
        return "SET time_zone = '+00:00'"
    return f"SET time_zone = '{zone}'"


def sample_statements() -> list[str]:
    """The statements that create the sample tables."""
    return _statements((ROOT / "tests" / "sample_data.sql").read_text(encoding="utf-8"))


def load_sample_data(url: str) -> None:
    """Create the sample tables; their times are UTC."""
    execute(url, setting_zone(url, "UTC"), *sample_statements())


def _statements(script: str) -> list[str]:
    statements = []
    for part in script.split(";\n"):
        if part.strip():
            statements.append(part.strip())
    return statements


@contextmanager
def _directory(user: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A directory for a server, and how to run it there.

    PostgreSQL refuses to run as root, and MariaDB warns. The path is short, as sockets need.
    """
    directory = Path(tempfile.mkdtemp(prefix=f"{user}-", dir="/tmp"))
    account: dict[str, Any] = {"cwd": directory}
    try:
        if os.geteuid() == 0:
            shutil.chown(directory, user, user)
            account |= {"user": user, "group": user, "extra_groups": []}
        yield directory, account
    finally:
        shutil.rmtree(directory)


def _program(name: str) -> str:
    """A server's program; Debian keeps those of PostgreSQL and of daemons off the path of users."""
    path = shutil.which(name)
    if path is not None:
        return path
    newest_first = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in [*newest_first, Path("/usr/sbin")]:
        if (folder / name).exists():
            return str(folder / name)
    raise FileNotFoundError(f"{name} is not installed: apt-get install postgresql mariadb-server")


def _run(command: list[Any], account: dict[str, Any]) -> None:
    output = subprocess.run(
        command, **account, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if output.returncode:
        raise RuntimeError(f"{command[0]} failed: {output.stdout}")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return once the server answers; MariaDB opens its port only after its init file."""
    deadline = time.monotonic() + START_SECONDS
    with socket.socket() as probe:
        while probe.connect_ex(("127.0.0.1", port)):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"MariaDB did not start: {log.read_text()}")
            time.sleep(0.05)


def _load_zone(url: str, zone: str) -> None:
    command = [_program("mariadb-tzinfo-to-sql"), f"/usr/share/zoneinfo/{zone}", zone]
    script = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    execute(url, "USE mysql", *_statements(script))

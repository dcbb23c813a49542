"""Private PostgreSQL and MariaDB servers for tests.

Each is in a temporary directory, on a free port, and gone at the end.

    with postgresql() as url, mariadb() as other_url:
        load_sample_data(url)

They need the programs of Debian's packages postgresql and mariadb-server, and the drivers
of requirements-ci.txt.
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

PASSWORD = "p@ss:w/rd#1%?"  # all that a URL has to escape
MARIADB_ZONES = ("Europe/Berlin", "Pacific/Honolulu")  # the others stay unknown to the server
START_SECONDS = 60


@contextmanager
def postgresql() -> Iterator[str]:
    """Start PostgreSQL; the URL is that of a database `app`, whose user `app` may do anything."""
    with _directory("postgres") as (directory, account):
        data = directory / "data"
        password_file = directory / "password"
        password_file.write_text(PASSWORD)
        password_file.chmod(0o644)  # in a directory that only its owner can enter
        initdb = [
            _program("initdb"),
            "-D",
            data,
            "-U",
            "app",
            "--pwfile",
            password_file,
            "--auth=scram-sha-256",
        ]
        _run([*initdb, "--encoding=UTF8", "--locale=C", "--no-sync"], account)
        port = _free_port()
        options = f"-p {port} -k {directory} -c listen_addresses=127.0.0.1"
        options += " -c fsync=off -c timezone=Asia/Tokyo"
        pg_ctl = [_program("pg_ctl"), "-D", data, "-w", "-t", str(START_SECONDS)]
        _run([*pg_ctl, "-l", directory / "log", "-o", options, "start"], account)
        try:
            server = f"postgresql://app:{quote(PASSWORD, safe='')}@127.0.0.1:{port}"
            execute(f"{server}/postgres", "CREATE DATABASE app")
            yield f"{server}/app"
        finally:
            _run([*pg_ctl, "-m", "immediate", "stop"], account)


@contextmanager
def mariadb() -> Iterator[str]:
    """Start MariaDB; the URL is that of a database `app`, whose user `app` may do anything."""
    with _directory("mysql") as (directory, account):
        data, log = directory / "data", directory / "log"
        install = [
            _program("mariadb-install-db"),
            "--no-defaults",
            f"--datadir={data}",
            "--skip-test-db",
        ]
        _run([*install, "--auth-root-authentication-method=normal"], account)
        start = directory / "start.sql"
        start.write_text(
            "CREATE DATABASE app CHARACTER SET utf8mb4;\n"
            f"CREATE USER app@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';\n"
            "GRANT ALL ON *.* TO app@'127.0.0.1';\n"
        )
        port = _free_port()
        command = [
            _program("mariadbd"),
            "--no-defaults",
            f"--datadir={data}",
            f"--init-file={start}",
            f"--port={port}",
        ]
        command += [
            f"--socket={directory}/socket",
            f"--log-error={log}",
            f"--pid-file={directory}/pid",
        ]
        command += [
            "--bind-address=127.0.0.1",
            "--default-time-zone=+09:00",
            "--transaction-isolation=READ-COMMITTED",
        ]
        process = subprocess.Popen(command, **account, stderr=subprocess.DEVNULL)
        try:
            url = f"mysql://app:{quote(PASSWORD, safe='')}@127.0.0.1:{port}/app"
            _wait_for(port, process, log)
            for zone in MARIADB_ZONES:
                _load_zone(url, zone)
            yield url
        finally:
            process.terminate()
            process.wait(START_SECONDS)


def execute(url: str, *statements: str) -> None:
    """Run statements as they stand, each of them committed."""
    parts = urlsplit(url)
    account = {
        "user": parts.username,
        "password": unquote(parts.password or ""),
        "host": parts.hostname,
    }
    place: dict[str, Any] = {"port": parts.port, "autocommit": True, **account}
    name = parts.path[1:]
    if parts.scheme == "postgresql":
        connection = importlib.import_module("psycopg").connect(dbname=name, **place)
    else:
        connection = importlib.import_module("pymysql").connect(database=name, **place)
    try:
        for statement in statements:
            connection.cursor().execute(statement)
    finally:
        connection.close()


def load_sample_data(url: str) -> None:
    """Create the sample tables; their times are UTC."""
    script = (Path(__file__).parents[1] / "sample_data.sql").read_text(encoding="utf-8")
    zone = "SET time_zone = '+00:00'" if url.startswith("mysql") else "SET TIME ZONE 'UTC'"
    execute(url, zone, *filter(str.strip, script.split(";\n")))


@contextmanager
def _directory(user: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A directory for a server and how to run it there.

    PostgreSQL refuses to run as root, and MariaDB warns.
    """
    directory = Path(
        tempfile.mkdtemp(prefix=f"{user}-", dir="/tmp")
    )  # a short path, as sockets need
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
    places = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True), Path("/usr/sbin")]
    path = shutil.which(name) or next(
        (str(place / name) for place in places if (place / name).exists()), None
    )
    if path is None:
        raise FileNotFoundError(
            f"{name} is not installed: apt-get install postgresql mariadb-server"
        )
    return path


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
    execute(url, "USE mysql", *filter(None, map(str.strip, script.split(";\n"))))

"""Private PostgreSQL, MariaDB and Spark servers for tests, and DuckDB files.

    with postgresql() as url, mariadb() as other_url:
        load_sample_data(url)

Each runs in a temporary directory, on a free port, and is gone at the end. They need the programs
of Debian's packages postgresql, mariadb-server and openjdk-17-jre-headless, the drivers of
requirements-ci.txt, and SPARK_HOME: the folder of the Python package pyspark, in a virtual
environment of its own.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit
from urllib.request import urlopen

from tests.project import ROOT

PASSWORD = "p@ss:w/rd#1%?"  # all that a URL has to escape
MARIADB_ZONES = ("Europe/Berlin", "Pacific/Honolulu")  # the others stay unknown to the server
START_SECONDS = 180  # Spark takes 10 to 20, and more where others want the processors, too


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


@dataclass(frozen=True)
class Spark:
    """A running Thrift server of Spark's."""

    url: str  # of its database `default`
    status_url: str  # of Spark's own API
    process: subprocess.Popen[bytes]

    def jobs(self) -> list[str]:
        """The states of all jobs that it has or had: RUNNING, SUCCEEDED, FAILED."""
        applications = self._ask("/applications")
        jobs = self._ask(f"/applications/{applications[0]['id']}/jobs")
        return [job["status"] for job in jobs]

    def _ask(self, path: str) -> Any:
        with urlopen(f"{self.status_url}/api/v1{path}") as answer:  # noqa: S310 - loopback
            return json.load(answer)


@contextmanager
def spark() -> Iterator[Spark]:
    """Start Spark's Thrift server."""
    if "SPARK_HOME" not in os.environ:
        raise RuntimeError("SPARK_HOME names no folder of Spark's: .ci/run shows how to make one")
    directory = Path(tempfile.mkdtemp(prefix="spark-", dir="/tmp"))
    port, status_port = _free_port(), _free_port()
    log = directory / "log"
    command = _spark_command(directory, port, status_port)
    environment = {**os.environ, "SPARK_LOCAL_IP": "127.0.0.1"}
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command, cwd=directory, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        _wait_for(port, process, log)
        url = f"hive://127.0.0.1:{port}/default"
        yield Spark(url, f"http://127.0.0.1:{status_port}", process)
    finally:
        process.kill()  # there is nothing to keep, and a good end takes seconds
        process.wait(START_SECONDS)
        shutil.rmtree(directory)


def _spark_command(directory: Path, port: int, status_port: int) -> list[str]:
    settings = {
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.extraJavaOptions": (
            f"-Djava.io.tmpdir={directory} -Dderby.system.home={directory} "
            "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"
        ),
        "spark.hadoop.hive.server2.thrift.bind.host": "127.0.0.1",
        "spark.hadoop.hive.server2.thrift.port": str(port),
        "spark.hadoop.javax.jdo.option.ConnectionURL": "jdbc:derby:memory:metastore;create=true",
        "spark.local.dir": str(directory),
        "spark.sql.warehouse.dir": f"{directory}/warehouse",
        "spark.sql.session.timeZone": "Asia/Tokyo",
        "spark.sql.shuffle.partitions": "4",
        "spark.ui.port": str(status_port),
    }
    command = [f"{os.environ['SPARK_HOME']}/bin/spark-submit", "--master", "local[2]"]
    command += ["--driver-memory", "1g"]
    command += ["--class", "org.apache.spark.sql.hive.thriftserver.HiveThriftServer2"]
    for name, value in settings.items():
        command += ["--conf", f"{name}={value}"]
    return [*command, "spark-internal"]


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
    place: dict[str, Any]
    if parts.scheme == "sqlite":
        return sqlite3.connect(parts.path[1:], isolation_level=None)
    if parts.scheme == "duckdb":
        return importlib.import_module("duckdb").connect(parts.path[1:])
    if parts.scheme == "hive":
        place = {"host": parts.hostname, "port": parts.port, "database": parts.path[1:]}
        return importlib.import_module("pyhive.hive").connect(**place)
    place = {
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
    if url.startswith("duckdb"):
        return f"SET TimeZone = '{zone}'"
    if not url.startswith("mysql"):
        return f"SET TIME ZONE '{zone}'"
    if zone == "UTC":  # which MariaDB knows by its offset only
        return "SET time_zone = '+00:00'"
    return f"SET time_zone = '{zone}'"


def sample_statements() -> list[str]:
    """The statements that create the sample tables."""
    return _statements((ROOT / "tests" / "sample_data.sql").read_text(encoding="utf-8"))


def load_sample_data(url: str, zone: str = "UTC") -> None:
    """Create the sample tables; their times are in that zone."""
    statements = sample_statements()
    if url.startswith("hive"):
        statements = list(map(_adapt_to_spark, statements))
    execute(url, setting_zone(url, zone), *statements)


def _adapt_to_spark(statement: str) -> str:
    """Spark's tables take no keys, its INSERT no text for a time, and '' is no quote to it."""
    no_keys = re.sub(r",\s*FOREIGN KEY.*|PRIMARY KEY", "", statement)
    times = re.sub(r"('\d{4}-\d\d-\d\d \d\d:\d\d:\d\d')", r"TIMESTAMP \1", no_keys)
    return times.replace("''", "\\'")


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
    """Return once the server answers; it opens its port when all is ready."""
    deadline = time.monotonic() + START_SECONDS
    with socket.socket() as probe:
        while probe.connect_ex(("127.0.0.1", port)):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"The server did not start: {log.read_text()}")
            time.sleep(0.05)


def _load_zone(url: str, zone: str) -> None:
    command = [_program("mariadb-tzinfo-to-sql"), f"/usr/share/zoneinfo/{zone}", zone]
    script = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    execute(url, "USE mysql", *_statements(script))

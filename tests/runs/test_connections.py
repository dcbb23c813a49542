"""Whom a run talks to: proxies, redirects, certificates."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import ANY
from urllib.parse import quote

import pytest

from iterable_client import IterableClient
from tests.fake_iterable import FakeIterable
from tests.project import JWT, KEY, SECRET, MakeProject, Project
from tests.runs.leaks import BULK, PASSWORD, SINGLE, check_nothing_leaked

Contacts = Callable[[], set[str]]


HOOK = """
import os, sys

def note(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        place = args[1] if event == "socket.connect" else args[:2]
        with open(os.environ["CONTACTS"], "a") as file:
            print(*place[:2], file=file)

sys.addaudithook(note)
"""


@pytest.fixture
def contacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Contacts:
    """Tells the hosts and ports that main.py looked up or connected to, as Python reports them."""
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(HOOK)
    noted = tmp_path / "contacts"
    noted.touch()
    monkeypatch.setenv("PYTHONPATH", str(hook))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("CONTACTS", str(noted))
    return lambda: set(noted.read_text().splitlines())


def read_head(connection: socket.socket) -> bytes:
    """What comes up to the empty line that ends an HTTP head, or up to the end."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if piece == b"":
            break
        data += piece
    return data


@dataclass
class Recorder:
    """A port that notes the first bytes of each connection and closes it.

    A connection without a byte ends it: its own, at the end.
    """

    heard: list[bytes] = field(default_factory=list)

    def __enter__(self) -> Recorder:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.place = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()
        return self

    def _listen(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection:
                head = read_head(connection)
            if head == b"":
                return
            self.heard.append(head)

    def __exit__(self, *error: object) -> None:
        host, port = self.place.split(":")
        socket.create_connection((host, int(port))).close()
        self._thread.join()
        self._listener.close()


NETRC = "machine 127.0.0.1 login a password b\ndefault login c password d\n"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


@pytest.mark.parametrize("settings", [SINGLE, BULK, JWT])
def test_another_host_is_reached_through_the_proxy_alone(
    make_project: MakeProject,
    monkeypatch: pytest.MonkeyPatch,
    contacts: Contacts,
    settings: dict[str, str],
) -> None:
    with Recorder() as proxy:
        for name in PROXIES:
            monkeypatch.setenv(name, f"http://me:{quote(PASSWORD, safe='')}@{proxy.place}")
        project = make_project(None)
        project.settings["ITERABLE_API_BASE_URL"] = "https://api.iterable.invalid"
        done = project.run("--verbose", MAX_RETRIES="2", **settings)
    assert done.code == 4
    assert done.results["failure_reasons"] == {"ConnectionError": 10}
    assert len(proxy.heard) == done.results["requests"]["sent"] > 0
    for head in proxy.heard:
        assert head.startswith(b"CONNECT api.iterable.invalid:443 ")
        assert KEY.encode() not in head
        assert b"eyJ" not in head
    assert contacts() == {proxy.place.replace(":", " ")}
    check_nothing_leaked(project, done)


@pytest.mark.parametrize("settings", [SINGLE, BULK])
def test_loopback_is_reached_without_the_proxy_and_netrc_is_ignored(
    project: Project,
    server: FakeIterable,
    monkeypatch: pytest.MonkeyPatch,
    contacts: Contacts,
    settings: dict[str, str],
) -> None:
    for name in (".netrc", "_netrc"):
        (project.directory / name).write_text(NETRC)
    monkeypatch.setenv("HOME", str(project.directory))
    monkeypatch.setenv("NETRC", str(project.directory / ".netrc"))
    with Recorder() as proxy:
        for name in PROXIES:
            monkeypatch.setenv(name, f"http://{proxy.place}")
        done = project.run(**settings)
    assert done.code == 0
    assert proxy.heard == []
    assert contacts() == {f"127.0.0.1 {server.port}"}
    assert server.requests
    for seen in server.requests:
        assert "authorization" not in seen.headers


@pytest.mark.parametrize(
    ("status", "settings"), [(301, SINGLE), (302, BULK), (307, JWT), (308, SINGLE)]
)
def test_a_redirect_is_a_failure_and_its_target_is_never_contacted(
    project: Project,
    server: FakeIterable,
    contacts: Contacts,
    status: int,
    settings: dict[str, str],
) -> None:
    with Recorder() as target:
        url = f"http://{target.place}/api/users/update"
        server.add_fault("redirect", status=status, location=url)
        done = project.run(**settings)
    assert done.code == 4
    assert set(done.results["failure_reasons"]) == {"InvalidResponse"}
    assert done.results["requests"]["retried"] == 0
    assert target.heard == []
    assert contacts() == {f"127.0.0.1 {server.port}"}


CERTIFICATE = """\
[req]
prompt = no
distinguished_name = who
x509_extensions = what
[who]
CN = stand-in
[what]
subjectAltName = {}
basicConstraints = critical, CA:true
keyUsage = critical, digitalSignature, keyCertSign
subjectKeyIdentifier = hash
"""
HERE, ELSEWHERE = "IP:127.0.0.1", "DNS:api.iterable.com"


def make_certificate(directory: Path, name: str) -> Path:
    """Makes a self-signed certificate, and its key.pem beside it."""
    (directory / "openssl.cnf").write_text(CERTIFICATE.format(name))
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-config", "openssl.cnf", "-keyout", "key.pem", "-out", "certificate.pem"]
    subprocess.run(command, cwd=directory, check=True, capture_output=True)
    return directory / "certificate.pem"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Self-signed certificates with their keys, by the name of what they are for."""
    found = {}
    for name in (HERE, ELSEWHERE):
        found[name] = make_certificate(tmp_path_factory.mktemp("certificate"), name)
    return found


@pytest.mark.parametrize(
    ("name", "trusted", "settings", "code"),
    [
        (HERE, "", SINGLE, 4),
        (HERE, "", BULK, 4),
        (HERE, "", JWT, 4),
        (HERE, "its own", SINGLE, 0),
        (HERE, "its own", BULK, 0),
        (HERE, "its own", JWT, 0),
        (HERE, "the other", SINGLE, 4),
        (ELSEWHERE, "its own", SINGLE, 4),
        (HERE, "nonsense", SINGLE, 4),
    ],
)
def test_a_certificate_that_nobody_vouches_for_is_refused_at_once(
    make_project: MakeProject,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    certificates: dict[str, Path],
    name: str,
    trusted: str,
    settings: dict[str, str],
    code: int,
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates[name], certificates[name].with_name("key.pem"))
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("no certificate\n")
    bundles = {
        "its own": certificates[name],
        "the other": certificates[ELSEWHERE],
        "nonsense": nonsense,
    }
    if trusted:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundles[trusted]))
    secret = SECRET if settings == JWT else None
    with FakeIterable(api_key=KEY, jwt_secret=secret, ssl_context=context) as server:
        done = make_project(server).run(**settings)
        assert bool(server.requests) == (code == 0), "the key was not sent"
    assert done.code == code, done.err
    if code == 4 and trusted != "nonsense":
        assert done.results["requests"]["retried"] == 0
        assert done.results["failure_reasons"] == {"ConnectionError": 10}
        answer = done.results["records"][0]["users_update"]["response"]
        assert "certificate verify failed" in answer["msg"].lower()


class Tunnel:
    """A proxy that tunnels to a port of this machine, whatever the name that it is asked for."""

    def __init__(self, port: int) -> None:
        self.heard = 0  # connections
        self._port = port
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with suppress(OSError):  # the end
            while True:
                caller, _ = self._listener.accept()
                self.heard += 1
                read_head(caller)
                caller.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                server = socket.create_connection(("127.0.0.1", self._port))
                self._open += [caller, server]
                for pair in ((caller, server), (server, caller)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)

    def drop(self) -> None:
        """Ends all connections, as proxies do to those that are idle."""
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()
        self.drop()
        for one in self._open:
            one.close()


def test_a_proxy_is_asked_for_a_new_tunnel_within_a_time_of_its_own(
    monkeypatch: pytest.MonkeyPatch, certificates: dict[str, Path]
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate = certificates[ELSEWHERE]
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    monkeypatch.setattr("iterable_client.TOTAL_TIMEOUTS", 0.1)
    with (
        FakeIterable(api_key=KEY, ssl_context=context) as server,
        closing(Tunnel(server.port)) as proxy,
    ):
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        client = IterableClient(KEY, base_url="https://api.iterable.com", max_retries=1)
        assert client.update_user("a@example.com", {}) == (True, ANY)
        proxy.drop()
        time.sleep(3.1)  # more than the first attempt had in all
        assert client.update_user("a@example.com", {}) == (True, ANY)
        assert proxy.heard == 2

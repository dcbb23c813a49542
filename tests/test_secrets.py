"""No secret in anything that a run leaves behind, and none to anybody but Iterable."""
from __future__ import annotations

import base64
import json
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.conftest import AS_OF, Finished, Project, outputs
from tests.demo import demo_settings
from tests.fake_iterable import FakeIterable

MakeProject = Callable[[FakeIterable | None], Project]
Contacts = Callable[[], set[str]]

KEY, SECRET, PASSWORD = "KEY-0a1b2c3d4e5f-KEY", "SECRET-9f8e7d6c5b4a39281706f5e4d3c2b1a0-SECRET", "PASS-p/w#1-WORD"
JWT = {"USE_JWT_AUTH": "true", "ITERABLE_JWT_SECRET": SECRET}
SINGLE, BULK = {"SEND_MODE": "single"}, {"SEND_MODE": "bulk"}


def forms(secret: str) -> set[str]:
    """What a secret may look like: as it is, in a URL, in JSON, as HTTP's basic authentication has it."""
    return {secret, quote(secret, safe=""), json.dumps(secret)[1:-1], base64.b64encode(secret.encode()).decode()}


TRACES = re.compile("|".join([*map(re.escape, {form for secret in (KEY, SECRET, PASSWORD) for form in forms(secret)}),
                              "eyJ"]).encode(), re.IGNORECASE)


def check_nothing_leaked(project: Project, done: Finished, *traces: str) -> None:
    """No secret and no token in what was printed or written, and addresses nowhere but in the CSV and the results."""
    found = {"output": (done.out + done.err).encode()}
    for path in project.directory.rglob("*"):
        if path.is_file() and path.name not in ("test.env", "app.db"):
            found[path.name] = path.read_bytes()
    pattern = re.compile(b"|".join([TRACES.pattern, *(re.escape(trace).encode() for trace in traces)]), re.IGNORECASE)
    assert {name: pattern.findall(data) for name, data in found.items() if pattern.search(data)} == {}
    assert [name for name, data in found.items() if b"@example.com" in data.lower()] == [
        name for name in found if name.endswith((".csv", ".json"))]


# --- Every mode of a run

ECHO = "echo_headers"
RUNS: dict[str, tuple[dict[str, Any], dict[str, str], list[str], int]] = {  # fault, settings, flags, exit code
    "single": ({}, SINGLE, [], 0), "bulk": ({}, BULK, [], 0), "JWT": ({}, JWT, [], 0),
    "only changes": ({}, {**SINGLE, "SEND_ONLY_CHANGES": "true"}, [], 0),
    "only changes, bulk": ({}, {**BULK, "SEND_ONLY_CHANGES": "true"}, [], 0),
    "dry run": ({}, JWT, ["--dry-run"], 0), "dry run, bulk": ({}, BULK, ["--dry-run"], 0),
    "a wrong key": ({}, {"ITERABLE_API_KEY": f"{KEY}-{KEY}"}, [], 4),
    "a wrong secret": ({}, {**JWT, "ITERABLE_JWT_SECRET": f"{SECRET}-{SECRET}"}, [], 4),
    "refused": ({"kind": ECHO}, SINGLE, [], 4), "refused, bulk": ({"kind": ECHO}, BULK, [], 4),
    "refused, JWT": ({"kind": ECHO}, JWT, [], 4),
    "failing rows": ({"kind": ECHO, "status": 400}, SINGLE, [], 1),
    "failing rows, bulk": ({"kind": ECHO, "status": 400}, BULK, [], 1),
    "failing rows, JWT": ({"kind": ECHO, "status": 409}, JWT, [], 1),
    "refused addresses": ({"kind": "status", "status": 400, "code": "InvalidEmailAddressError",
                           "msg": "amara.okafor@example.com, sofia.nunez@example.com"}, SINGLE, [], 1),
    "retries": ({"kind": ECHO, "status": 503, "times": 3}, SINGLE, [], 0),
    "down": ({"kind": ECHO, "status": 500}, SINGLE, [], 4), "down, bulk": ({"kind": ECHO, "status": 500}, BULK, [], 4),
    "down, JWT": ({"kind": ECHO, "status": 429}, JWT, [], 4),
    "an echo as a success": ({"kind": ECHO, "status": 200, "code": "Success"}, JWT, [], 0),
    "an echo as a success, bulk": ({"kind": ECHO, "status": 200, "code": "Success"}, BULK, [], 4),
    "an echo as a code": ({"kind": "status", "status": 400, "code": f"{KEY} {SECRET}", "body": None}, SINGLE, [], 1),
    "a page that shows the key": ({"kind": "status", "status": 502, "body": f"<p>{KEY} {SECRET}"}, SINGLE, [], 4),
    "a redirect": ({"kind": "redirect", "location": f"http://{KEY}.example.com/"}, JWT, [], 4),
    "dropped": ({"kind": "drop_before"}, JWT, [], 4), "unreachable": ({"kind": "down"}, JWT, [], 4),
}


@pytest.mark.parametrize("name", RUNS)
def test_no_mode_of_a_run_leaves_a_secret_or_an_address_where_it_does_not_belong(
    make_project: MakeProject, name: str
) -> None:
    fault, settings, flags, code = RUNS[name]
    with FakeIterable(api_key=KEY, jwt_secret=SECRET if settings.keys() & JWT.keys() else None) as server:
        project = make_project(server)
        if fault.get("kind") == "down":
            server.down()
        elif fault:
            server.add_fault(**fault)
        keys = {"ITERABLE_API_KEY": KEY, "ITERABLE_JWT_SECRET": SECRET, "LOG_LEVEL": "DEBUG"}
        done = project.run("--verbose", *flags, **{**keys, **settings})
    assert done.code == code, done.err
    assert len(outputs(project.output)) == 2
    assert done.err.count("DEBUG") == done.log.count("DEBUG") >= done.results["requests"]["sent"]
    if fault.get("kind") == ECHO and "times" not in fault:
        assert "[redacted]" in done.results_text, "the key came back"
    check_nothing_leaked(project, done)


LIBRARY = '''
"""What db.py uses of SQLAlchemy, over a driver that tells everything that it was given."""
from types import SimpleNamespace as Namespace
from urllib.parse import parse_qsl, unquote, urlsplit

class exc: ArgumentError = NoSuchModuleError = type("SomeError", (Exception,), {})
NullPool = text = None

def make_url(url):
    parts = urlsplit(url)
    return Namespace(url=url, password=unquote(parts.password or ""), query=dict(parse_qsl(parts.query)))

def create_engine(parsed, **options):
    def connect():
        raise OSError("no number: 'ada@" + f"example.com'. This was {parsed.url}, that is {unquote(parsed.url)}")
    return Namespace(connect=connect, dialect=Namespace(name="odd"))
'''


@pytest.mark.parametrize("url", [
    f"postgresql://me:{quote(PASSWORD, safe='')}@127.0.0.1:9/shop", f"postgresql://me:{PASSWORD}@127.0.0.1:9/shop",
    f"mysql://127.0.0.1:9/shop?user=me&password={quote(PASSWORD, safe='')}", f"trino://me:{PASSWORD}?@127.0.0.1:9/shop",
    f"me:{PASSWORD}@127.0.0.1:9/shop", f"postgresql:/me:{PASSWORD}@127.0.0.1/shop", f"://me:{PASSWORD}@127.0.0.1/shop",
    f"postgresql://me:@{PASSWORD}@127.0.0.1:9/shop",
])
@pytest.mark.parametrize("library", [True, False])
def test_no_error_of_a_database_shows_the_password_or_an_address(
    make_project: MakeProject, monkeypatch: pytest.MonkeyPatch, url: str, library: bool
) -> None:
    project = make_project(None)
    if library:
        (project.directory / "library").mkdir()
        (project.directory / "library" / "sqlalchemy.py").write_text(LIBRARY)
        monkeypatch.setenv("PYTHONPATH", str(project.directory / "library"))
        monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    done = project.run("--verbose", DATABASE_URL=url, ITERABLE_API_KEY=KEY)
    assert (done.code in (2, 3), outputs(project.output)) == (True, [])
    check_nothing_leaked(project, done)
    assert not re.search("p/w|w#1|PASS-|-WORD", done.err), "nor a part of it"


# --- Arguments and files that others can read


def command_lines() -> dict[int, str]:
    """The arguments of every process, by id, as `ps` shows them."""
    if Path("/proc/self/cmdline").exists():
        found = {}
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):  # it ended just now
                found[int(path.parent.name)] = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return found
    ps = ["/bin/ps", "-A", "-ww", "-o", "pid=,args="]
    lines = subprocess.run(ps, capture_output=True, text=True, check=True).stdout
    return {int(pid): args for pid, args in (line.split(maxsplit=1) for line in lines.splitlines())}


def test_ps_shows_no_secret_of_a_run(make_project: MakeProject) -> None:
    with FakeIterable(api_key=KEY, jwt_secret=SECRET) as server:
        server.add_fault("hang")
        project = make_project(server)
        process = project.start("--verbose", "--as-of", AS_OF, **JWT, ITERABLE_API_KEY=KEY)
        assert process.stderr
        assert any("5 rows" in line for line in process.stderr), "it is sending"
        lines = command_lines()
        process.kill()
        process.communicate()
    assert "main.py" in lines[process.pid]
    assert not [line for line in lines.values() if TRACES.search(line.encode())]


def test_ps_shows_no_secret_of_the_demo() -> None:
    with demo_settings() as settings:
        lines = command_lines().values()
    assert [line for line in lines if "tests.fake_iterable --exit-with-parent" in line]
    assert not [line for line in lines if str(settings["ITERABLE_API_KEY"]) in line]


@pytest.mark.parametrize("flags", [["--quiet"], []])
def test_a_short_secret_and_a_readable_env_file_are_told_once_and_in_the_log_alone(
    make_project: MakeProject, flags: list[str]
) -> None:
    with FakeIterable(api_key=KEY, jwt_secret="short-secret") as server:
        project = make_project(server)
        settings = {**JWT, "ITERABLE_JWT_SECRET": "short-secret", "ITERABLE_API_KEY": KEY, "LOG_LEVEL": "WARNING"}
        command, env = project.command(*flags, "--as-of", AS_OF, **settings)
        assert Path(command[3]).name == "test.env"
        Path(command[3]).chmod(0o640)
        run = subprocess.run(command, env=env, cwd=project.directory, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr, bool(run.stdout)) == (0, "", not flags)
    log = (project.output / "iterable_integration.log").read_text().splitlines()
    assert [sum(text in line for line in log) for text in ("32 bytes", "test.env")] == [1, 1]
    assert len(log) == 2
    assert not re.search("short-secret|32 bytes|test.env", run.stdout + run.stderr)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_nothing_is_said_of_an_env_file_for_its_owner_alone(make_project: MakeProject, mode: int) -> None:
    project = make_project(None)
    command, env = project.command("--dry-run", LOG_LEVEL="WARNING")
    Path(command[3]).chmod(mode)
    subprocess.run(command, env=env, cwd=project.directory, check=True, capture_output=True)
    assert (project.output / "iterable_integration.log").read_text() == ""


# --- Transport

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
    """Tells the hosts and ports that main.py looked up or connected to, as Python itself reports them."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(HOOK)
    (tmp_path / "contacts").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hook"))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("CONTACTS", str(tmp_path / "contacts"))
    return lambda: set((tmp_path / "contacts").read_text().splitlines())


@dataclass
class Recorder:
    """A port that notes the first bytes of each connection and closes it."""

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
                data = b""
                while b"\r\n\r\n" not in data and (piece := connection.recv(65536)):
                    data += piece
                if data == b"":
                    return
                self.heard.append(data)

    def __exit__(self, *error: object) -> None:
        host, port = self.place.split(":")
        socket.create_connection((host, int(port))).close()
        self._thread.join()
        self._listener.close()


PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


@pytest.mark.parametrize("settings", [SINGLE, BULK, JWT])
def test_another_host_is_reached_through_the_proxy_alone(
    make_project: MakeProject, monkeypatch: pytest.MonkeyPatch, contacts: Contacts, settings: dict[str, str]
) -> None:
    with Recorder() as proxy:
        for name in PROXIES:
            monkeypatch.setenv(name, f"http://me:{quote(PASSWORD, safe='')}@{proxy.place}")
        project = make_project(None)
        url = "https://api.iterable.invalid"
        done = project.run("--verbose", ITERABLE_API_BASE_URL=url, ITERABLE_API_KEY=KEY, MAX_RETRIES="2", **settings)
    assert (done.code, done.results["failure_reasons"]) == (4, {"ConnectionError": 10})
    assert len(proxy.heard) == done.results["requests"]["sent"] > 0
    assert {data.split(b"\r\n")[0].rsplit(b" ", 1)[0] for data in proxy.heard} == {b"CONNECT api.iterable.invalid:443"}
    assert not [data for data in proxy.heard if KEY.encode() in data or b"eyJ" in data]
    assert contacts() == {proxy.place.replace(":", " ")}
    check_nothing_leaked(project, done)


@pytest.mark.parametrize("settings", [SINGLE, BULK])
def test_loopback_is_reached_without_the_proxy_and_netrc_is_ignored(
    make_project: MakeProject, monkeypatch: pytest.MonkeyPatch, contacts: Contacts, settings: dict[str, str]
) -> None:
    with Recorder() as proxy, FakeIterable(api_key=KEY) as server:
        for name in PROXIES:
            monkeypatch.setenv(name, f"http://{proxy.place}")
        project = make_project(server)
        for name in (".netrc", "_netrc"):
            (project.directory / name).write_text("machine 127.0.0.1 login a password b\ndefault login c password d\n")
        monkeypatch.setenv("HOME", str(project.directory))
        monkeypatch.setenv("NETRC", str(project.directory / ".netrc"))
        done = project.run(ITERABLE_API_KEY=KEY, **settings)
    assert (done.code, proxy.heard, contacts()) == (0, [], {f"127.0.0.1 {server.port}"})
    assert ["authorization" in seen.headers for seen in server.requests] == [False] * len(server.requests)


@pytest.mark.parametrize(("status", "settings"), [(301, SINGLE), (302, BULK), (307, JWT), (308, SINGLE)])
def test_a_redirect_is_a_failure_and_its_target_is_never_contacted(
    make_project: MakeProject, contacts: Contacts, status: int, settings: dict[str, str]
) -> None:
    with Recorder() as target, FakeIterable(api_key=KEY) as server:
        server.add_fault("redirect", status=status, location=f"http://{target.place}/api/users/update")
        done = make_project(server).run(ITERABLE_API_KEY=KEY, **settings)
    assert (done.code, set(done.results["failure_reasons"])) == (4, {"InvalidResponse"})
    assert (done.results["requests"]["retried"], target.heard, contacts()) == (0, [], {f"127.0.0.1 {server.port}"})


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Self-signed certificates with their keys, by the name of what they are for."""
    found = {}
    for name in ("IP:127.0.0.1", "DNS:api.iterable.com"):
        path = found[name] = tmp_path_factory.mktemp("certificate") / "certificate.pem"
        config = path.with_name("openssl.cnf")
        config.write_text("[req]\nprompt = no\ndistinguished_name = who\nx509_extensions = what\n[who]\nCN = stand-in\n"
                          f"[what]\nsubjectAltName = {name}\nbasicConstraints = critical, CA:true\n"
                          "keyUsage = critical, digitalSignature, keyCertSign\nsubjectKeyIdentifier = hash\n")
        command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -config openssl.cnf -keyout key.pem -out"
        subprocess.run([*command.split(), path.name], cwd=path.parent, check=True, capture_output=True)
    return found


@pytest.mark.parametrize(("name", "trusted", "settings", "code"), [
    *(("IP:127.0.0.1", trusted, settings, code) for settings in (SINGLE, BULK, JWT)
      for trusted, code in (("", 4), ("its own", 0))),
    ("IP:127.0.0.1", "the other", SINGLE, 4), ("DNS:api.iterable.com", "its own", SINGLE, 4),
    ("IP:127.0.0.1", "nonsense", SINGLE, 2),
])
def test_a_certificate_that_nobody_vouches_for_is_refused_at_once(
    make_project: MakeProject, monkeypatch: pytest.MonkeyPatch, certificates: dict[str, Path],
    name: str, trusted: str, settings: dict[str, str], code: int,
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates[name], certificates[name].with_name("key.pem"))
    with FakeIterable(api_key=KEY, jwt_secret=SECRET if settings is JWT else None, ssl_context=context) as server:
        project = make_project(server)
        nonsense = project.directory / "nonsense.pem"
        nonsense.write_text("no certificate\n")
        other = certificates["DNS:api.iterable.com"]
        bundles = {"its own": certificates[name], "the other": other, "nonsense": nonsense}
        if trusted:
            monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundles[trusted]))
        done = project.run(ITERABLE_API_KEY=KEY, **settings)
        assert bool(server.requests) == (code == 0), "the key was not sent"
    assert done.code == code, done.err
    if code == 4:
        assert done.results["requests"]["retried"] == 0
        assert done.results["failure_reasons"] == {"ConnectionError": 10}
        assert "certificate verify failed" in done.results["records"][0]["users_update"]["response"]["msg"].lower()
    elif code == 2:
        assert re.fullmatch(r"main\.py: .*REQUESTS_CA_BUNDLE.*nonsense\.pem.*\n", done.err)

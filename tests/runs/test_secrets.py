"""No secret in anything that a run prints or leaves behind, or shows to `ps`."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.demo import demo_settings
from tests.fake_iterable import FakeIterable
from tests.project import JWT, KEY, SECRET, Json, MakeProject, Project, outputs
from tests.runs.leaks import BULK, PASSWORD, SINGLE, TRACES, check_nothing_leaked

ECHO = "echo_headers"


@dataclass(frozen=True)
class Case:
    """A mode of a run: its settings and flags, what the server does, how it ends."""

    settings: dict[str, str]
    fault: Json = field(default_factory=dict)
    code: int = 0
    flags: tuple[str, ...] = ()


ADDRESSES_REFUSED = {
    "kind": "status",
    "status": 400,
    "code": "InvalidEmailAddressError",
    "msg": "amara.okafor@example.com, sofia.nunez@example.com",
}
SUCCESS_ECHO = {"kind": ECHO, "status": 200, "code": "Success"}
CODE_ECHO = {"kind": "status", "status": 400, "code": f"{KEY} {SECRET}"}
PAGE_ECHO = {"kind": "status", "status": 502, "body": f"<p>{KEY} {SECRET}"}
CASES = {
    "single": Case(SINGLE),
    "bulk": Case(BULK),
    "JWT": Case(JWT),
    "only changes": Case({**SINGLE, "SEND_ONLY_CHANGES": "true"}),
    "only changes, bulk": Case({**BULK, "SEND_ONLY_CHANGES": "true"}),
    "dry run": Case(JWT, flags=("--dry-run",)),
    "dry run, bulk": Case(BULK, flags=("--dry-run",)),
    "a wrong key": Case({"ITERABLE_API_KEY": f"{KEY}-{KEY}"}, code=4),
    "a wrong secret": Case({**JWT, "ITERABLE_JWT_SECRET": f"{SECRET}-{SECRET}"}, code=4),
    "refused": Case(SINGLE, {"kind": ECHO}, 4),
    "refused, bulk": Case(BULK, {"kind": ECHO}, 4),
    "refused, JWT": Case(JWT, {"kind": ECHO}, 4),
    "failing rows": Case(SINGLE, {"kind": ECHO, "status": 400}, 1),
    "failing rows, bulk": Case(BULK, {"kind": ECHO, "status": 400}, 1),
    "failing rows, JWT": Case(JWT, {"kind": ECHO, "status": 409}, 1),
    "refused addresses": Case(SINGLE, ADDRESSES_REFUSED, 1),
    "retries": Case(SINGLE, {"kind": ECHO, "status": 503, "times": 3}),
    "down": Case(SINGLE, {"kind": ECHO, "status": 500}, 4),
    "down, bulk": Case(BULK, {"kind": ECHO, "status": 500}, 4),
    "down, JWT": Case(JWT, {"kind": ECHO, "status": 504}, 4),
    "an echo as a success": Case(JWT, SUCCESS_ECHO),
    "an echo as a success, bulk": Case(BULK, SUCCESS_ECHO, 4),
    "an echo as a code": Case(SINGLE, CODE_ECHO, 4),
    "a page that shows the key": Case(SINGLE, PAGE_ECHO, 4),
    "a redirect": Case(JWT, {"kind": "redirect", "location": f"http://{KEY}.example.com/"}, 4),
    "dropped": Case(JWT, {"kind": "drop_before"}, 4),
    "unreachable": Case(JWT, {"kind": "down"}, 4),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_no_mode_of_a_run_leaves_a_secret_or_an_address_where_it_does_not_belong(
    make_project: MakeProject, case: Case
) -> None:
    uses_jwt = "USE_JWT_AUTH" in case.settings
    with FakeIterable(api_key=KEY, jwt_secret=SECRET if uses_jwt else None) as server:
        project = make_project(server)
        if case.fault.get("kind") == "down":
            server.down()
        elif case.fault:
            server.add_fault(**case.fault)
        settings = {"ITERABLE_JWT_SECRET": SECRET, "LOG_LEVEL": "DEBUG", **case.settings}
        done = project.run("--verbose", *case.flags, **settings)
    assert done.code == case.code, done.err
    assert len(outputs(project.output)) == 2
    assert done.err.count("DEBUG") == done.log.count("DEBUG") >= done.results["requests"]["sent"]
    if case.fault.get("kind") == ECHO and "times" not in case.fault:
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
    password, query = unquote(parts.password or ""), dict(parse_qsl(parts.query))
    place = {"host": "127.0.0.1", "database": "shop"}
    return Namespace(url=url, password=password, query=query, **place)

def create_engine(parsed, **options):
    def connect():
        url = f"{parsed.url}, that is {unquote(parsed.url)}"
        raise OSError("no number: 'ada@" + f"example.com'. This was {url}")
    return Namespace(connect=connect, dialect=Namespace(name="odd"))
'''


@pytest.fixture
def talkative_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts LIBRARY in the place of SQLAlchemy."""
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "sqlalchemy.py").write_text(LIBRARY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "library"))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")


URLS = [
    f"postgresql://me:{quote(PASSWORD, safe='')}@127.0.0.1:9/shop",
    f"postgresql://me:{PASSWORD}@127.0.0.1:9/shop",
    f"mysql://127.0.0.1:9/shop?user=me&password={quote(PASSWORD, safe='')}",
    f"trino://me:{PASSWORD}?@127.0.0.1:9/shop",
    f"me:{PASSWORD}@127.0.0.1:9/shop",
    f"postgresql:/me:{PASSWORD}@127.0.0.1/shop",
    f"://me:{PASSWORD}@127.0.0.1/shop",
    f"postgresql://me:@{PASSWORD}@127.0.0.1:9/shop",
]


def check_tells_no_password(project: Project, url: str) -> None:
    """A run that fails at this database says nothing of the password."""
    done = project.run("--verbose", DATABASE_URL=url)
    assert done.code in (2, 3)
    assert outputs(project.output) == []
    check_nothing_leaked(project, done)
    for part in ("p/w", "w#1", "PASS-", "-WORD"):
        assert part not in done.err


@pytest.mark.parametrize("url", URLS)
def test_no_error_of_a_database_shows_the_password_or_an_address(
    make_project: MakeProject, url: str
) -> None:
    check_tells_no_password(make_project(None), url)


@pytest.mark.usefixtures("talkative_library")
@pytest.mark.parametrize("url", URLS)
def test_no_error_shows_them_though_the_library_tells_everything(
    make_project: MakeProject, url: str
) -> None:
    check_tells_no_password(make_project(None), url)


def proc_command_lines() -> dict[int, str]:
    """The arguments of every process, where /proc has them."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it ended just now
            text = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            found[int(path.parent.name)] = text
    return found


def command_lines() -> dict[int, str]:
    """The arguments of every process, by id, as `ps` shows them."""
    if Path("/proc/self/cmdline").exists():
        return proc_command_lines()
    ps = ["/bin/ps", "-A", "-ww", "-o", "pid=,args="]
    output = subprocess.run(ps, capture_output=True, text=True, check=True).stdout
    found = {}
    for line in output.splitlines():
        pid, args = line.split(maxsplit=1)
        found[int(pid)] = args
    return found


def test_ps_shows_no_secret_of_a_run(make_project: MakeProject, jwt_server: FakeIterable) -> None:
    jwt_server.add_fault("hang")
    process = make_project(jwt_server).start("--verbose", **JWT)
    assert process.stderr
    assert any("5 rows" in line for line in process.stderr), "it is sending"
    lines = command_lines()
    process.kill()
    process.communicate()
    assert "main.py" in lines[process.pid]
    for line in lines.values():
        assert not TRACES.search(line.encode())


def test_ps_shows_no_secret_of_the_demo() -> None:
    with demo_settings() as settings:
        lines = command_lines().values()
    assert any("tests.fake_iterable --exit-with-parent" in line for line in lines)
    assert not any(str(settings["ITERABLE_API_KEY"]) in line for line in lines)


@pytest.mark.parametrize("flags", [["--quiet"], []])
def test_a_short_secret_and_a_readable_env_file_are_told_once_in_the_log(
    make_project: MakeProject, flags: list[str]
) -> None:
    with FakeIterable(api_key=KEY, jwt_secret="short-secret") as server:
        project = make_project(server)
        settings = {**JWT, "ITERABLE_JWT_SECRET": "short-secret", "LOG_LEVEL": "WARNING"}
        command, env = project.command(*flags, **settings)
        project.env_file.chmod(0o640)
        run = subprocess.run(
            command, env=env, cwd=project.directory, capture_output=True, text=True, check=False
        )
    assert (run.returncode, run.stderr) == (0, "")
    assert bool(run.stdout) == (not flags)
    log = project.log.read_text()
    assert log.count("32 bytes") == 1
    assert len([line for line in log.splitlines() if project.env_file.name in line]) == 1
    assert len(log.splitlines()) == 2
    for text in ("short-secret", "32 bytes"):
        assert text not in run.stdout
    has_told = f"chmod 600 {project.env_file}" in " ".join(run.stdout.split())
    assert has_told == (not flags), "and on the screen"


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_nothing_is_said_of_an_env_file_for_its_owner_alone(
    make_project: MakeProject, mode: int
) -> None:
    project = make_project(None)
    command, env = project.command("--dry-run", LOG_LEVEL="WARNING")
    project.env_file.chmod(mode)
    subprocess.run(command, env=env, cwd=project.directory, check=True, capture_output=True)
    assert project.log.read_text() == ""

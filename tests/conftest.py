"""What the rooms share: an environment without our settings, stand-ins for Iterable, projects."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

import main
from main import Settings
from tests.fake_iterable import FakeIterable
from tests.project import KEY, SECRET, MakeProject, Project, new_project
from tests.settings import NAMES, Load

# Parts of the names of variables that requests heeds
FOREIGN = ("PROXY", "CA_BUNDLE", "NETRC", "SSL_CERT")


@pytest.fixture(scope="session", autouse=True)
def bare_environment() -> Iterator[None]:
    """No test can reach production: no setting of ours and no proxy comes from outside."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in list(os.environ):
            if name in NAMES or any(part in name.upper() for part in FOREIGN):
                monkeypatch.delenv(name)
        yield


@pytest.fixture(scope="session", autouse=True)
def nohup_for_ourselves_alone() -> None:
    """Under nohup, what a test starts heeds SIGHUP nevertheless: handlers are not inherited."""
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)


@pytest.fixture
def server() -> Iterator[FakeIterable]:
    """The stand-in for Iterable, without latency, enforcing its limits."""
    with FakeIterable(api_key=KEY) as server:
        yield server


@pytest.fixture
def unlimited() -> Iterator[FakeIterable]:
    """The stand-in without its limits."""
    with FakeIterable(api_key=KEY, enforce_limits=False) as server:
        yield server


@pytest.fixture
def jwt_server() -> Iterator[FakeIterable]:
    """The stand-in of a project whose key is JWT-enabled."""
    with FakeIterable(api_key=KEY, jwt_secret=SECRET) as server:
        yield server


@pytest.fixture
def session() -> Iterator[requests.Session]:
    """For requests to a stand-in whose API key is "key"."""
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Api-Key"] = "key"
        yield session


@pytest.fixture
def make_project(tmp_path: Path) -> MakeProject:
    """Makes a project on the sample data that sends to a server."""
    return lambda server: new_project(tmp_path, server)


@pytest.fixture
def project(make_project: MakeProject, server: FakeIterable) -> Project:
    """A project on the sample data that sends to `server`."""
    return make_project(server)


@pytest.fixture
def fast_project(make_project: MakeProject, unlimited: FakeIterable) -> Project:
    """A project that sends to `unlimited` as fast as it can."""
    project = make_project(unlimited)
    project.settings["RATE_LIMIT_FACTOR"] = "1000"
    return project


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Loads the settings of a command line and an env file, in an empty working directory."""
    monkeypatch.chdir(tmp_path)

    def load(*flags: str, env_file: str | bytes = b"", **settings: str) -> Settings:
        lines = [f"{name}='{value}'\n" for name, value in settings.items()]
        rest = env_file.encode() if isinstance(env_file, str) else env_file
        Path("test.env").write_bytes("".join(lines).encode() + rest)
        args = main.parse_args(["--env-file", "test.env", *flags])
        return main.load_settings(args, main.read_env(args))

    return load

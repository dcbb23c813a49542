"""Whom the client talks to: redirects, cookies, .netrc, proxies, CA bundles."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from iterable_client import IterableClient
from tests.fake_iterable import FakeIterable
from tests.project import KEY
from tests.unit.clients import ADA, UPDATE, Connect, Mock, codes


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed_and_its_target_never_sees_the_key(
    connect: Connect, server: FakeIterable, status: int
) -> None:
    with FakeIterable() as target:
        server.add_fault("redirect", status=status, location=f"{target.url}/api/users/update")
        ok, answer = connect(server).update_user(ADA, {})
        assert target.requests == []
    assert (ok, answer["code"]) == (False, "InvalidResponse")
    assert len(server.requests) == 1
    assert "redirects are not followed" in answer["msg"]


def test_a_cookie_is_not_sent_back(connect: Connect, http: Mock) -> None:
    http.post(UPDATE, status=503, headers={"Set-Cookie": "a=b"})
    connect().update_user(ADA, {})
    assert ["Cookie" in call.request.headers for call in http.calls] == [False] * 3


def test_netrc_is_ignored(
    connect: Connect, server: FakeIterable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    connect(server).update_user(ADA, {})
    assert "authorization" not in server.requests[0].headers


def test_a_proxy_from_the_environment_is_used_but_never_for_loopback(
    connect: Connect, server: FakeIterable, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeIterable() as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert connect(server).update_user(ADA, {})[0]
        server.add_fault("status", status=503, times=1)
        assert connect(server).update_user(ADA, {})[0]  # nor for its retry
        assert proxy.requests == []
        result = connect().update_user(ADA, {})
        assert codes([result]) == ["ConnectionError"]  # this proxy does not know CONNECT
        assert [seen.path for seen in proxy.requests] == ["api.iterable.com:443"] * 3
        assert KEY not in str(proxy.requests)


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_ca_bundle_that_does_not_exist_is_named_in_the_answer(
    connect: Connect, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "/nowhere/ca.pem")
    ok, answer = connect().update_user(ADA, {})
    assert (ok, answer["code"]) == (False, "ConnectionError")
    assert "/nowhere/ca.pem" in answer["msg"]


@pytest.mark.parametrize(
    ("proxy", "host", "reason"),
    [
        ("", "nowhere.invalid", "Failed to resolve 'nowhere.invalid'"),
        ("", "127.0.0.1:9", "Connection refused"),
        ("http://127.0.0.1:9", "api.iterable.com", "the proxy cannot be reached: .* refused"),
    ],
)
def test_what_the_network_says_is_said_in_words(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, proxy: str, host: str, reason: str
) -> None:
    if proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy)
    client = IterableClient(KEY, base_url=f"https://{host}", max_retries=1)
    ok, answer = client.update_user(ADA, {})
    assert (ok, answer["code"]) == (False, "ConnectionError")
    assert re.search(reason, answer["msg"])
    assert "Connection(" not in answer["msg"]

"""Web pages cannot use the model unless their origin is listed, nor by a name that they made point to this machine."""

import re
from collections.abc import AsyncIterator

import httpx
import pytest
from google.api.httpbody_pb2 import HttpBody

from deploy.envoy.tests.conftest import Context, FakeRouter
from infermesh_envoy import Address, EnvoyOptions
from infermesh_envoy.browsers import hosts_regex, origins_regex, own_names

pytestmark = pytest.mark.asyncio(loop_scope="session")
CHAT = "/v1/chat/completions"
PREFLIGHT = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}


@pytest.fixture(autouse=True)
def answering(router: FakeRouter) -> None:
    async def answer(request: HttpBody, context: Context) -> AsyncIterator[HttpBody]:
        yield HttpBody(content_type="application/json", data=b"{}")

    router.chat = answer


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://page.evil.example", "http://PAGE/", ""])
async def test_a_foreign_page_cannot_ask(router: FakeRouter, http: httpx.AsyncClient, origin: str) -> None:
    """Not even with a body of plain text, for which browsers do not ask first."""
    headers = {"origin": origin, "content-type": "text/plain"}
    response = await http.post(CHAT, content=b"{}", headers=headers)
    assert response.status_code == 403
    error = response.json()["error"]
    assert (error["type"], error["code"]) == ("permission_error", "origin_not_allowed")
    assert "INFERMESH_CORS_ORIGINS" in error["message"]
    assert not router.seen
    assert not [name for name in response.headers if name.startswith("access-control")]


async def test_a_foreign_page_is_told_no_beforehand(http: httpx.AsyncClient) -> None:
    response = await http.options(CHAT, headers={"origin": "http://evil.example", **PREFLIGHT})
    assert response.status_code == 403
    assert "access-control-allow-origin" not in response.headers


async def test_a_listed_page_may(router: FakeRouter, http: httpx.AsyncClient) -> None:
    response = await http.post(CHAT, json={}, headers={"origin": "http://page"})
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == "http://page"
    assert len(router.seen) == 1


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8080", "localhost:8080", "LOCALHOST", "[::1]:8080", "mesh.test", "mesh.test:8080"]
)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_our_own_page_may(router: FakeRouter, http: httpx.AsyncClient, scheme: str, host: str) -> None:
    """Its requests have an origin as those of foreign pages have, which names the host that they go to."""
    response = await http.post(CHAT, json={}, headers={"origin": f"{scheme}://{host}", "host": host})
    assert response.status_code == 200
    assert len(router.seen) == 1


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://localhost:3000", "localhost:8080"),
        ("http://127.0.0.1", "127.0.0.1:8080"),
        ("http://localhost:8080", "127.0.0.1:8080"),
        ("http://evil.example", "evil.example"),
        ("file://127.0.0.1:8080", "127.0.0.1:8080"),
    ],
)
async def test_other_pages_of_this_machine_may_not(http: httpx.AsyncClient, origin: str, host: str) -> None:
    response = await http.post(CHAT, json={}, headers={"origin": origin, "host": host})
    assert response.status_code == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example"]
)
async def test_a_foreign_name_is_refused(router: FakeRouter, http: httpx.AsyncClient, host: str) -> None:
    """DNS rebinding: for the browser, the page and the API are one origin then."""
    response = await http.post(CHAT, json={}, headers={"host": host})
    assert response.status_code == 403
    error = response.json()["error"]
    assert (error["type"], error["code"]) == ("permission_error", "host_not_allowed")
    assert host in error["message"]
    assert not router.seen


@pytest.mark.parametrize(
    "host", ["localhost", "LocalHost:8080", "127.0.0.1:1", "[::1]:8080", "mesh.test", "mesh.test:8080"]
)
async def test_our_own_names_are_accepted(http: httpx.AsyncClient, host: str) -> None:
    assert (await http.post(CHAT, json={}, headers={"host": host})).status_code == 200


def options(host: str, *names: str, origins: tuple[str, ...] = ()) -> EnvoyOptions:
    return EnvoyOptions(http=Address(host, 1), allowed_hosts=names, cors_origins=origins)


async def test_any_name_reaches_other_addresses_unless_names_are_listed() -> None:
    assert hosts_regex(options("0.0.0.0")) == ""
    assert hosts_regex(options("0.0.0.0", "a.example")) == r"(?i)(a\.example)(:\d+)?"
    assert hosts_regex(options("::1")) != ""
    inside = re.compile(hosts_regex(options("0.0.0.0", "*.svc", "*.svc.cluster.local")))
    for name in ("envoy.a-team.svc", "envoy.ns.svc.cluster.local:8080", "ENVOY.NS.SVC"):
        assert inside.fullmatch(name), name
    for name in ("svc", "envoy.svc.example", "evil.example/.svc", "envoy.nssvc"):
        assert not inside.fullmatch(name), name
    assert own_names(options("0.0.0.0", "a.example", "*.svc")) == ["localhost", "a.example"]
    assert hosts_regex(options("::1", "*")) == ""


async def test_by_a_name_our_page_may_only_if_the_name_is_listed() -> None:
    """Another page can make its name point to any address."""
    assert own_names(options("0.0.0.0")) == ["localhost"]
    assert own_names(options("0.0.0.0", "A.example", "*")) == ["localhost", "a.example"]


async def test_any_origin_only_if_that_is_asked_for() -> None:
    assert origins_regex(options("::1")) == "none"
    assert origins_regex(options("::1", origins=("*",))) == ""

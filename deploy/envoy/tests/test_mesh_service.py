"""MeshService through Envoy: its JSON has the names of the contract, and files that a client has are not sent again."""

import httpx
import pytest

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_names_are_the_contracts_and_zeros_are_there(http: httpx.AsyncClient) -> None:
    (endpoint,) = (await http.get("/mesh/v1/endpoints")).json()["endpoints"]
    assert endpoint["address"] == "h:1"
    assert (endpoint["drain_s"], endpoint["kv_cache_usage"], endpoint["models"]) == (0, 0, [])


@pytest.mark.parametrize("body", [{"content": b""}, {"json": {}}, {"json": {"device": "cpu"}}])
async def test_names_with_slashes_and_colons(http: httpx.AsyncClient, body: dict[str, object]) -> None:
    response = await http.post("/mesh/v1/models/org%2Fname:8b:load", **body)  # type: ignore[arg-type]
    assert response.json()["unloaded"] == ["org/name:8b", "cpu" if "device" in str(body) else ""]


async def test_a_malformed_body_is_refused_in_words(http: httpx.AsyncClient) -> None:
    response = await http.post("/mesh/v1/models/m:load", content=b'{"pinned": 7}')
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("known", ['W/"abc"', '"x", W/"abc"'])
async def test_what_the_client_has_is_not_sent_again(http: httpx.AsyncClient, known: str) -> None:
    response = await http.get("/ui/main.js", headers={"if-none-match": known})
    assert (response.status_code, response.content) == (304, b"")
    assert response.headers["etag"] == 'W/"abc"'


async def test_what_it_has_not_is_sent(http: httpx.AsyncClient) -> None:
    for headers in ({}, {"if-none-match": 'W/"abd"'}):
        response = await http.get("/ui/lib/main.js", headers=headers)
        assert (response.status_code, response.content) == (200, b"here\n")
    assert (await http.get("/mesh/v1/endpoints", headers={"if-none-match": "nil"})).status_code == 200

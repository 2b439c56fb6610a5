"""Who a request is taken to come from, where fairness asks: its own word, else its credentials, else nobody."""

import json
from typing import Any

import pytest
from google.api.httpbody_pb2 import HttpBody

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.admission.admission import Admission
from infermesh_router.admission.pending_call import PendingCall
from infermesh_router.requests.call import Call
from infermesh_router.requests.client_id import derive_client_id
from infermesh_router.testing.router import StartRouter, StartWorker


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The clients of the calls that were admitted."""
    seen: list[str] = []
    arrive = Admission.arrive

    def spy(self: Admission, call: Call, **options: Any) -> PendingCall:
        seen.append(call.wanted.client)
        return arrive(self, call, **options)

    monkeypatch.setattr(Admission, "arrive", spy)
    return seen


def test_credentials_are_not_kept() -> None:
    name = derive_client_id([("x", "y"), ("authorization", "Bearer secret")])
    assert name
    assert "secret" not in name
    assert name == derive_client_id([("authorization", "Bearer secret")])
    assert name != derive_client_id([("authorization", "Bearer other")])
    assert derive_client_id([]) == derive_client_id(None) == ""


def test_a_key_in_anthropics_or_azures_header_counts_as_well() -> None:
    ada, bob = derive_client_id([("x-api-key", "ada")]), derive_client_id([("api-key", "bob")])
    assert ada
    assert bob
    assert ada != bob
    assert derive_client_id([("x-api-key", "ada"), ("authorization", "Bearer k")]) == derive_client_id(
        [("authorization", "Bearer k")]
    )


async def test_over_grpc(start_worker: StartWorker, start_router: StartRouter, clients: list[str]) -> None:
    router = await start_router(await start_worker())
    stub = router.inference
    metadata = (("authorization", "Bearer k"),)
    for request, sent in [
        (pb.GenerateRequest(model="m", text="hi", client_id="me"), metadata),
        (pb.GenerateRequest(model="m", text="hi"), metadata),
        (pb.GenerateRequest(model="m", text="hi"), ()),
    ]:
        async for _ in stub.Generate(request, metadata=sent):
            pass
    await stub.Embed(pb.EmbedRequest(model="m", texts=["hi"]), metadata=metadata)
    assert clients == ["me", derive_client_id(metadata), "", derive_client_id(metadata)]


async def test_over_rest(start_worker: StartWorker, start_router: StartRouter, clients: list[str]) -> None:
    router = await start_router(await start_worker())
    stub = router.openai
    metadata = (("authorization", "Bearer k"),)
    for fields in ({"user": "me"}, {}):
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
        async for _ in stub.CreateChatCompletion(HttpBody(data=json.dumps(body).encode()), metadata=metadata):
            pass
    assert clients == ["me", derive_client_id(metadata)]

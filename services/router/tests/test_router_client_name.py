"""Who a request is taken to come from, where fairness asks: its own word, else its credentials, else nobody."""

import json

import pytest
from google.api.httpbody_pb2 import HttpBody

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1 import inference_pb2_grpc as pb_grpc
from infermesh.openai.v1 import openai_pb2_grpc
from infermesh_router.admission.admission import Admission
from infermesh_router.requests.client_name import name_client


@pytest.fixture
def clients(monkeypatch) -> list[str]:
    """The clients of the calls that were admitted."""
    seen: list[str] = []
    admit = Admission.admit

    async def spy(self, call, **options):
        seen.append(call.wanted.client)
        return await admit(self, call, **options)

    monkeypatch.setattr(Admission, "admit", spy)
    return seen


def test_credentials_are_not_kept() -> None:
    name = name_client([("x", "y"), ("authorization", "Bearer secret")])
    assert name
    assert "secret" not in name
    assert name == name_client([("authorization", "Bearer secret")])
    assert name != name_client([("authorization", "Bearer other")])
    assert name_client([]) == name_client(None) == ""


async def test_over_grpc(start_worker, start_router, clients) -> None:
    router = await start_router(await start_worker())
    stub = pb_grpc.InferenceServiceStub(router.channel)
    metadata = (("authorization", "Bearer k"),)
    for request, sent in [
        (pb.GenerateRequest(model="m", text="hi", client_id="me"), metadata),
        (pb.GenerateRequest(model="m", text="hi"), metadata),
        (pb.GenerateRequest(model="m", text="hi"), ()),
    ]:
        async for _ in stub.Generate(request, metadata=sent):
            pass
    await stub.Embed(pb.EmbedRequest(model="m", texts=["hi"]), metadata=metadata)
    assert clients == ["me", name_client(metadata), "", name_client(metadata)]


async def test_over_rest(start_worker, start_router, clients) -> None:
    router = await start_router(await start_worker())
    stub = openai_pb2_grpc.OpenAIServiceStub(router.channel)
    metadata = (("authorization", "Bearer k"),)
    for fields in ({"user": "me"}, {}):
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
        async for _ in stub.CreateChatCompletion(HttpBody(data=json.dumps(body).encode()), metadata=metadata):
            pass
    assert clients == ["me", name_client(metadata)]

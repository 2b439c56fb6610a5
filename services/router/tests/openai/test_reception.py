"""Every dialect takes the model that a path in Azure's form names, and how the body is compressed, from one place."""

import gzip
import json

import grpc
import pytest
from google.api.httpbody_pb2 import HttpBody

from infermesh.anthropic.v1 import anthropic_pb2_grpc
from infermesh.ollama.v1 import ollama_pb2_grpc
from infermesh.openai.v1 import openai_pb2_grpc
from infermesh_router.openai.reception import DEPLOYMENT_KEY
from infermesh_router.requests.unpacking import ENCODING_KEY
from infermesh_router.testing.router import StartRouter, StartWorker

BODY = {"model": "another", "max_tokens": 4, "stream": False}
CHAT = BODY | {"messages": [{"role": "user", "content": "hi"}]}
SENT = ((DEPLOYMENT_KEY, "m"), (ENCODING_KEY, "gzip"))


@pytest.mark.parametrize(
    ("call", "body"),
    [
        ("CreateChatCompletion", CHAT),
        ("CreateCompletion", BODY | {"prompt": "hi"}),
        ("CreateResponse", {"model": "another", "input": "hi", "store": False}),
        ("CreateMessage", CHAT),
        ("Chat", {"model": "another", "messages": CHAT["messages"], "stream": False}),
    ],
)
async def test_the_model_of_the_path_counts(
    call: str, body: dict[str, object], start_worker: StartWorker, start_router: StartRouter
) -> None:
    router = await start_router(await start_worker())
    stubs = (
        openai_pb2_grpc.OpenAIServiceStub,
        anthropic_pb2_grpc.AnthropicServiceStub,
        ollama_pb2_grpc.OllamaServiceStub,
    )
    offering = next(stub for stub in (make(router.channel) for make in stubs) if hasattr(stub, call))
    request = HttpBody(data=gzip.compress(json.dumps(body).encode()))
    answered: grpc.aio.UnaryStreamCall[HttpBody, HttpBody] = getattr(offering, call)(request, metadata=SENT)
    (message,) = [message async for message in answered]
    assert json.loads(message.data)["model"]

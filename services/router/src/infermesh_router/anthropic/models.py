"""Lists models in Anthropic's shape, for clients that send the header `anthropic-version`."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

import grpc
import orjson
from google.api.httpbody_pb2 import HttpBody

from infermesh.openai.v1 import openai_pb2 as pb
from infermesh_router.openai.answerer import JSON
from infermesh_runtime.rpc.context import RpcContext

RequestT = TypeVar("RequestT")

VERSION_KEY = "anthropic-version"


class _Models(Protocol):
    """The calls of OpenAIService that describe models."""

    async def ListModels(self, request: pb.ListModelsRequest, context: RpcContext) -> HttpBody: ...

    async def GetModel(self, request: pb.GetModelRequest, context: RpcContext) -> HttpBody: ...


def model_handlers(models: _Models) -> dict[str, grpc.RpcMethodHandler]:
    """These calls, answered in the shape that the client expects."""
    return {
        "ListModels": grpc.unary_unary_rpc_method_handler(
            _in_both(models.ListModels, _list), pb.ListModelsRequest.FromString, HttpBody.SerializeToString
        ),
        "GetModel": grpc.unary_unary_rpc_method_handler(
            _in_both(models.GetModel, _model), pb.GetModelRequest.FromString, HttpBody.SerializeToString
        ),
    }


def _in_both(
    call: Callable[[RequestT, RpcContext], Awaitable[HttpBody]], shape: Callable[[dict[str, Any]], dict[str, Any]]
) -> Callable[[RequestT, RpcContext], Awaitable[HttpBody]]:
    async def answer(request: RequestT, context: RpcContext) -> HttpBody:
        body = await call(request, context)
        if not any(key == VERSION_KEY for key, _ in context.invocation_metadata()):
            return body
        return HttpBody(content_type=JSON, data=orjson.dumps(shape(orjson.loads(body.data))))

    return answer


def _list(openai: dict[str, Any]) -> dict[str, Any]:
    data = [_model(model) for model in openai["data"]]
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
    return {"data": data, "has_more": False, **ends}


def _model(openai: dict[str, Any]) -> dict[str, Any]:
    """One model, of its description in OpenAI's shape."""
    created = datetime.fromtimestamp(openai["created"], UTC)
    context = openai["max_model_len"] or None
    return {
        "type": "model",
        "id": openai["id"],
        "display_name": openai["id"],
        "created_at": created.isoformat().replace("+00:00", "Z"),
        "lifecycle": "active",
        "max_input_tokens": context,
        "max_tokens": context,
    }

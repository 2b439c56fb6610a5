"""Answers /tokenize, /detokenize and /apply-template by asking an endpoint."""

import time
from typing import Any

import orjson
from google.api.httpbody_pb2 import HttpBody

from infermesh.inference.v1 import inference_pb2
from infermesh_router.access.access import Access
from infermesh_router.openai.conversion import BodyConverter, ConvertAsked
from infermesh_router.openai.convert.tokens import convert_detokenize, convert_template, convert_tokenize
from infermesh_router.openai.errors import rename_fields
from infermesh_router.openai.reception import sent_by
from infermesh_router.relay.dispatcher import Dispatcher
from infermesh_runtime.errors import InfermeshError
from infermesh_runtime.rpc.context import RpcContext

_NAMES = {"token_ids": "tokens"}


class TokenServicer:
    """The calls of OpenAIService that ask about tokens. They get serialised bodies."""

    def __init__(self, dispatcher: Dispatcher, *, access: Access, converter: BodyConverter) -> None:
        self._dispatcher = dispatcher
        self._access = access
        self._converter = converter

    async def Tokenize(self, request: bytes, context: RpcContext) -> HttpBody:
        """The token ids of a text or a conversation, in vLLM's shape."""
        found = await self._tokens(convert_tokenize, request, context)
        strings: dict[str, Any] = {"token_strs": list(found.tokens)} if found.tokens else {"token_strs": None}
        ids = list(found.token_ids)
        return _json({"count": len(ids), "max_model_len": found.context_length, "tokens": ids, **strings})

    async def ApplyTemplate(self, request: bytes, context: RpcContext) -> HttpBody:
        """A conversation as its template renders it, in llama.cpp's shape."""
        return _json({"prompt": (await self._tokens(convert_template, request, context)).text})

    async def Detokenize(self, request: bytes, context: RpcContext) -> HttpBody:
        """The text of token ids, in vLLM's shape."""
        answer = await self._ask(convert_detokenize, request, context)
        return _json({"prompt": inference_pb2.DetokenizeResponse.FromString(answer).text})

    async def _tokens(
        self, convert: ConvertAsked, request: bytes, context: RpcContext
    ) -> inference_pb2.TokenizeResponse:
        return inference_pb2.TokenizeResponse.FromString(await self._ask(convert, request, context))

    async def _ask(self, convert: ConvertAsked, request: bytes, context: RpcContext) -> bytes:
        since_s = time.perf_counter()
        with self._access.entered(context) as visit:
            asked = await self._converter.asked(convert, request, sent_by(context))
            call = visit.admit(asked.call)
            context.body.keep(len(call.body))
            try:
                timeout_s = context.time_remaining()
                return await self._dispatcher.send(call, timeout_s, since_s=since_s, ignored=asked.ignored)
            except InfermeshError as error:
                raise rename_fields(error, {**asked.extra, **_NAMES}) from error


def _json(document: dict[str, Any]) -> HttpBody:
    return HttpBody(content_type="application/json", data=orjson.dumps(document))

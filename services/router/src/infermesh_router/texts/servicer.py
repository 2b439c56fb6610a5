"""Answers the calls about texts: converts the body, sends the call to an endpoint, writes the answer."""

import time
from collections.abc import Mapping

import grpc
from google.api.httpbody_pb2 import HttpBody

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.access.access import Access
from infermesh_router.openai.answerer import JSON, ignored_headers
from infermesh_router.openai.conversion import AskedCall, BodyConverter, ConvertAsked
from infermesh_router.openai.errors import rename_fields
from infermesh_router.openai.reception import sent_by
from infermesh_router.relay.dispatcher import Dispatcher
from infermesh_router.texts.answers import embeddings, rerank, score
from infermesh_router.texts.convert import convert_embeddings, convert_rerank, convert_score
from infermesh_router.texts.ollama import OllamaEmbedAnswer, convert_ollama, ollama_embeddings
from infermesh_runtime.errors import InfermeshError
from infermesh_runtime.rpc.context import RpcContext

LIMITED_CALLS = ("CreateEmbedding", "Rerank", "Score")
"""Calls of OpenAIService that count for INFERMESH_MAX_CALLS."""
LIMITED_OLLAMA_CALLS = ("Embed",)
_MANY = {"texts": "input", "token_ids": "input"}
_RERANK = {"queries[0]": "query", "queries": "query", "texts": "documents"}
_SCORE = {"queries": "text_1", "texts": "text_2"}


class TextServicer:
    """The calls of OpenAIService and OllamaService about texts. They get serialised bodies."""

    def __init__(self, dispatcher: Dispatcher, *, access: Access, converter: BodyConverter) -> None:
        self._dispatcher = dispatcher
        self._access = access
        self._converter = converter

    async def CreateEmbedding(self, request: bytes, context: RpcContext) -> HttpBody:
        """The vectors of texts, in OpenAI's shape."""
        asked, answer = await self._ask(convert_embeddings, request, context)
        return _json(await embeddings(pb.EmbedResponse.FromString(answer), asked.extra))

    async def Rerank(self, request: bytes, context: RpcContext) -> HttpBody:
        """Documents by how well they answer a query, in Cohere's and Jina's shape."""
        asked, answer = await self._ask(convert_rerank, request, context, _RERANK)
        return _json(rerank(pb.ScoreResponse.FromString(answer), asked.extra))

    async def Score(self, request: bytes, context: RpcContext) -> HttpBody:
        """The scores of pairs of texts, in vLLM's shape."""
        asked, answer = await self._ask(convert_score, request, context, _SCORE)
        return _json(score(pb.ScoreResponse.FromString(answer), asked.extra))

    async def Embed(self, request: bytes, context: RpcContext) -> HttpBody:
        """The vectors of texts, in Ollama's shapes."""
        since_s = time.perf_counter()
        asked, answer = await self._ask(convert_ollama, request, context)
        return _json(await ollama_embeddings(pb.EmbedResponse.FromString(answer), asked.extra, since_s))

    async def _ask(
        self,
        convert: ConvertAsked,
        request: bytes,
        context: RpcContext,
        names: Mapping[str, str] | None = None,
    ) -> tuple[AskedCall, bytes]:
        """What was asked, and an endpoint's answer; `names` are those of the fields in the body."""
        since_s = time.perf_counter()
        with self._access.entered(context) as visit:
            asked = await self._converter.asked(convert, request, sent_by(context))
            if isinstance(asked.extra, OllamaEmbedAnswer) and asked.extra.is_empty:
                return asked, b""
            call = visit.admit(asked.call)
            context.body.keep(len(call.body))
            try:
                timeout_s = context.time_remaining()
                answer = await self._dispatcher.send(call, timeout_s, since_s=since_s, ignored=asked.ignored)
            except InfermeshError as error:
                raise rename_fields(error, _names(asked) if names is None else names) from error
            visit.count_embedding(answer)
            headers = [*visit.headers, *ignored_headers(asked.ignored)]
            if headers:
                await context.send_initial_metadata(headers)
            return asked, answer


def text_handlers(servicer: TextServicer) -> dict[str, grpc.RpcMethodHandler]:
    """The methods of OpenAIService. They get their bodies serialised, so that they can be read in another process."""
    calls = {"CreateEmbedding": servicer.CreateEmbedding, "Rerank": servicer.Rerank, "Score": servicer.Score}
    return {name: _unary(call) for name, call in calls.items()}


def ollama_text_handlers(servicer: TextServicer) -> dict[str, grpc.RpcMethodHandler]:
    """The methods of OllamaService."""
    return {"Embed": _unary(servicer.Embed)}


def _unary(call: object) -> grpc.RpcMethodHandler:
    return grpc.unary_unary_rpc_method_handler(call, None, HttpBody.SerializeToString)


def _names(asked: AskedCall) -> Mapping[str, str]:
    """The body's names of an EmbedRequest's fields."""
    one = {"texts[0]": asked.extra.field, "token_ids[0]": asked.extra.field}
    return one | _MANY if asked.extra.is_single else _MANY


def _json(body: bytes) -> HttpBody:
    return HttpBody(content_type=JSON, data=body)

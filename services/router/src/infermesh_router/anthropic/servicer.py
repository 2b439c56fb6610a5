"""AnthropicService: takes Anthropic's request bodies, answers with bodies or server-sent events. Envoy handles HTTP."""

from functools import partial

import grpc
import orjson
from google.api.httpbody_pb2 import HttpBody

from infermesh.anthropic.v1 import anthropic_pb2 as pb
from infermesh.inference.v1 import inference_pb2
from infermesh_router.access.access import Access
from infermesh_router.anthropic.convert import convert_count, convert_messages
from infermesh_router.anthropic.dialect import AnthropicDialect
from infermesh_router.anthropic.errors import rename_error
from infermesh_router.openai.answerer import JSON, Answerer
from infermesh_router.openai.conversion import BodyConverter
from infermesh_router.openai.reception import received
from infermesh_router.relay.dispatcher import Dispatcher
from infermesh_runtime.errors import InfermeshError
from infermesh_runtime.rpc.context import RpcContext

LIMITED_CALLS = ("CreateMessage", "CountTokens")
"""Calls that count for INFERMESH_MAX_CALLS."""
SERVICE = pb.DESCRIPTOR.services_by_name["AnthropicService"].full_name


class AnthropicServicer:
    """AnthropicService over all endpoints."""

    def __init__(self, answerer: Answerer, dispatcher: Dispatcher, *, access: Access, converter: BodyConverter) -> None:
        self._answerer = answerer
        self._dispatcher = dispatcher
        self._access = access
        self._converter = converter

    async def CreateMessage(self, request: bytes, context: RpcContext) -> None:
        """Answers a conversation."""
        convert = partial(self._converter.convert, convert_messages)
        async with received(self._access, context, request, convert) as got:
            del request
            await self._answerer.answer(got.asked(AnthropicDialect(got.converted.extra, context.request_id)))

    async def CountTokens(self, request: bytes, context: RpcContext) -> HttpBody:
        """Counts the tokens of a prompt, as an endpoint renders and tokenises it."""
        convert = partial(self._converter.convert, convert_count)
        async with received(self._access, context, request, convert) as got:
            del request
            job = got.converted.job
            call = got.visit.admit(job.calls[0])
            context.body.keep(len(call.body))
            try:
                answer = await self._dispatcher.send(call, context.time_remaining(), since_s=got.since_s)
            except InfermeshError as error:
                raise rename_error(error, job) from error
        tokens = inference_pb2.TokenizeResponse.FromString(answer).token_ids
        return HttpBody(content_type=JSON, data=orjson.dumps({"input_tokens": len(tokens)}))


def anthropic_handlers(servicer: AnthropicServicer) -> dict[str, grpc.RpcMethodHandler]:
    """The service's methods. Those that take a body get it serialised, so that it can be read in another process."""
    serialise = HttpBody.SerializeToString
    return {
        "CreateMessage": grpc.unary_stream_rpc_method_handler(servicer.CreateMessage, None, serialise),
        "CountTokens": grpc.unary_unary_rpc_method_handler(servicer.CountTokens, None, serialise),
    }

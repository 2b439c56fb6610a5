"""Answers requests for a text: each becomes a job, which the answerer of all dialects runs."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from google.api.httpbody_pb2 import HttpBody

from infermesh_router.access.access import Access
from infermesh_router.access.rate_limits import Headers
from infermesh_router.access.visit import Visit
from infermesh_router.kserve.tensors.datatypes import BYTES
from infermesh_router.kserve.tensors.values import InferAnswer, InferAsk, Output
from infermesh_router.kserve.text.answers import (
    GrpcEvents,
    RestEvents,
    TextDialect,
    streamed,
    text_elements,
    text_response,
)
from infermesh_router.kserve.text.convert import convert_either, convert_whole, text_message
from infermesh_router.kserve.text.schema import OUTPUT
from infermesh_router.openai.answerer import Answerer, Asked
from infermesh_router.openai.conversion import BodyConverter, Convert, Converted, Sent
from infermesh_runtime.errors import InfermeshError
from infermesh_runtime.rpc.context import RpcContext


class _Written(RpcContext):
    """A call's context for one answer of several, or for another message: what is written goes to a function."""

    def __init__(
        self,
        context: RpcContext,
        write: Callable[[bytes], Awaitable[None]],
        send_headers: Callable[[Headers], Awaitable[None]],
    ) -> None:
        super().__init__(context, context.request_id)
        self._outer = context
        self.body = context.body
        self._send_headers = send_headers

        async def write_data(message: HttpBody) -> None:
            await write(message.data)

        self.write = write_data

    def ending(self) -> InfermeshError | None:
        """What ended the outer call."""
        return self._outer.ending()

    async def send_initial_metadata(self, initial_metadata: Any) -> None:
        """Hands the answer's headers over."""
        await self._send_headers(tuple(initial_metadata))


class TextAsking:
    """Answers requests for a text."""

    def __init__(self, answerer: Answerer, converter: BodyConverter, access: Access) -> None:
        self._answerer = answerer
        self._converter = converter
        self._access = access

    async def answer_rest(self, convert: Convert, message: bytes, sent: Sent, context: RpcContext) -> None:
        """Writes the answer to a serialised HttpBody of /generate or /generate_stream."""
        since_s = time.perf_counter()
        with self._access.entered(context) as visit:
            converted = await self._converter.convert(convert, message, sent)
            del message
            dialect = TextDialect(converted.extra, RestEvents(converted.extra))
            await self._answerer.answer(_asked(converted, dialect, context, visit, since_s))

    async def infer(
        self, ask: InferAsk, context: RpcContext, visit: Visit, since_s: float
    ) -> tuple[InferAnswer, Headers]:
        """The answer to a request of ModelInfer or /infer, and its headers."""
        converted = await self._converter.convert(convert_whole, text_message(ask), Sent(model=ask.model))
        texts, headers = list[bytes](), list[tuple[str, str]]()

        async def take(data: bytes) -> None:
            texts.append(data)

        async def take_headers(sent: Headers) -> None:
            headers.extend(sent)

        dialect = TextDialect(converted.extra, GrpcEvents(converted.extra))
        await self._answerer.answer(_asked(converted, dialect, _Written(context, take, take_headers), visit, since_s))
        text = orjson.loads(texts[0])[OUTPUT]
        return InferAnswer(ask.model, (Output(OUTPUT, BYTES, (1,), text_elements(text)),)), tuple(headers)

    async def stream(
        self,
        ask: InferAsk,
        write: Callable[[bytes], Awaitable[None]],
        context: RpcContext,
        visit: Visit,
        since_s: float,
    ) -> None:
        """Writes the serialised messages that answer one request of ModelStreamInfer."""
        converted = await self._converter.convert(convert_either, text_message(ask), Sent(model=ask.model))
        form = converted.extra

        async def write_whole(data: bytes) -> None:
            await write(streamed(text_response(form, orjson.loads(data)[OUTPUT], is_final=not form.ends_empty)))
            if form.ends_empty:
                await write(streamed(text_response(form, None, is_final=True)))

        async def send_headers(headers: Headers) -> None:
            """Sends none: the call's headers went out before its first request."""

        written = _Written(context, write if converted.job.stream else write_whole, send_headers)
        dialect = TextDialect(form, GrpcEvents(form))
        await self._answerer.answer(_asked(converted, dialect, written, visit, since_s))


def _asked(converted: Converted, dialect: TextDialect, context: RpcContext, visit: Visit, since_s: float) -> Asked:
    return Asked(
        job=converted.job,
        dialect=dialect,
        ignored=converted.ignored,
        context=context,
        visit=visit,
        since_s=since_s,
    )

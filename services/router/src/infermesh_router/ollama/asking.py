"""Answers /api/chat and /api/generate: runs the job, or loads or unloads the model if there is nothing to answer."""

from collections.abc import Callable
from functools import partial

import orjson
from google.api.httpbody_pb2 import HttpBody

from infermesh.inference.v1 import inference_pb2
from infermesh_router.access.access import Access
from infermesh_router.ollama.answers import OllamaAnswer
from infermesh_router.ollama.convert import AskedOf
from infermesh_router.ollama.dialect import OllamaDialect
from infermesh_router.ollama.listing.loaded_models import LoadedModels
from infermesh_router.openai.answerer import JSON, Answerer, time_left_s
from infermesh_router.openai.conversion import BodyConverter, Convert
from infermesh_router.openai.job import Job
from infermesh_router.openai.models import ModelDirectory
from infermesh_router.openai.reception import Received, received
from infermesh_router.relay.dispatcher import Dispatcher
from infermesh_router.requests.kinds.tokens import read_tokenize
from infermesh_runtime.errors import FailedPrecondition, PermissionDenied
from infermesh_runtime.rpc.context import RpcContext

_KEEP_ALIVE = "keep_alive"


class Asking:
    """Answers the requests that are for a model."""

    def __init__(
        self,
        answerer: Answerer,
        dispatcher: Dispatcher,
        *,
        access: Access,
        converter: BodyConverter,
        loaded: LoadedModels,
        directory: ModelDirectory,
        make_report: Callable[[], inference_pb2.HealthReport],
    ) -> None:
        self._answerer = answerer
        self._dispatcher = dispatcher
        self._access = access
        self._converter = converter
        self._loaded = loaded
        self._directory = directory
        self._make_report = make_report

    async def answer(self, convert: Convert, request: bytes, context: RpcContext) -> None:
        """Writes the answer to the call. `keep_alive` takes effect when it has ended, however it did."""
        async with received(self._access, context, request, partial(self._converter.convert, convert)) as got:
            del request
            job, extra = got.converted.job, got.converted.extra
            if not job.calls:
                await self._load(got)
                return
            keep_s = self._keep_alive_s(extra, context)
            if keep_s is not None and self._loaded.is_pinned(job.model):
                keep_s = None
            ignored = [_KEEP_ALIVE] if keep_s is None and extra.keep_alive_s is not None else []
            dialect = OllamaDialect(OllamaAnswer(extra, since_s=got.since_s))
            try:
                await self._answerer.answer(got.asked(dialect, *ignored))
            finally:
                if keep_s is not None:
                    self._loaded.begin_keeping(job.model, keep_s)

    def _keep_alive_s(self, asked: AskedOf, context: RpcContext) -> float | None:
        """How long the client may keep the model loaded. None if it does not say, or has an API key: what stays loaded
        is the operator's to say then.
        """
        if asked.keep_alive_s is None or self._access.identify(context) is not None:
            return None
        return asked.keep_alive_s

    async def _load(self, got: Received) -> None:
        """Loads the model, as any request would, or unloads it."""
        job, asked = got.converted.job, got.converted.extra
        unloads = asked.keep_alive_s == 0
        if unloads:
            await self._unload(job, asked, got.context)
        else:
            await self._make_ready(got)
            if (keep_s := self._keep_alive_s(asked, got.context)) is not None:
                await self._loaded.keep(job.model, keep_s)
        answer = OllamaAnswer(asked, since_s=got.since_s).loaded("unload" if unloads else "load")
        await got.context.write(HttpBody(content_type=JSON, data=orjson.dumps(answer)))

    async def _make_ready(self, got: Received) -> None:
        """Waits until the model is ready, by asking it for the tokens of a text."""
        job = got.converted.job
        body = inference_pb2.TokenizeRequest(model=job.model, text=" ").SerializeToString()
        call = got.visit.admit(read_tokenize(body))
        await self._dispatcher.send(call, time_left_s(got.context, job), since_s=got.since_s)

    async def _unload(self, job: Job, asked: AskedOf, context: RpcContext) -> None:
        """Has the model unloaded once no request uses it. Raises ModelNotFound, and for a model that must stay."""
        self._directory.find(self._make_report(), job.model)
        if self._keep_alive_s(asked, context) is None:
            raise PermissionDenied(
                "Models are not unloaded for API keys. Operators unload them: `infermesh models unload NAME`.",
                reason="UNLOAD_NOT_ALLOWED",
                fields={_KEEP_ALIVE: "must not be 0 without a prompt"},
            )
        if self._loaded.is_pinned(job.model):
            raise FailedPrecondition(
                f"The model '{job.model}' is pinned, so it stays loaded. Operators unload it: `infermesh models unload "
                f"{job.model}`.",
                reason="MODEL_PINNED",
                fields={_KEEP_ALIVE: "has no effect on a pinned model"},
            )
        await self._loaded.keep(job.model, 0)

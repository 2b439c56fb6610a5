"""Answers /api/chat and /api/generate: runs the job, or loads or unloads the model if there is nothing to answer."""

import time
from collections.abc import Callable

import orjson
from google.api.httpbody_pb2 import HttpBody

from infermesh.inference.v1 import inference_pb2
from infermesh_router.access.access import Access
from infermesh_router.access.visit import Visit
from infermesh_router.ollama.answers import OllamaAnswer
from infermesh_router.ollama.convert import AskedOf
from infermesh_router.ollama.dialect import OllamaDialect
from infermesh_router.ollama.loaded_models import LoadedModels
from infermesh_router.openai.answerer import JSON, Answerer, Asked
from infermesh_router.openai.conversion import BodyConverter, Convert, Converted, Sent
from infermesh_router.openai.job import Job
from infermesh_router.openai.models import ModelDirectory
from infermesh_router.openai.packed_body import encoding_of
from infermesh_router.relay.dispatcher import Dispatcher
from infermesh_router.requests.call import read_tokenize
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
        since_s = time.perf_counter()
        with self._access.entered(context) as visit:
            sent = Sent(encoding=encoding_of(context), share=context.body)
            converted = await self._converter.convert(convert, request, sent)
            del request  # the job has its own copy of what is needed
            if not converted.job.calls:
                await self._load(converted, context, visit, since_s)
                return
            job, keep_s = converted.job, self._keep_alive_s(converted.extra, context)
            if keep_s is not None and self._loaded.is_pinned(job.model):
                keep_s = None
            is_ignored = keep_s is None and converted.extra.keep_alive_s is not None
            asked = Asked(
                job=job,
                dialect=OllamaDialect(OllamaAnswer(converted.extra, since_s=since_s)),
                ignored=converted.ignored + ((_KEEP_ALIVE,) if is_ignored else ()),
                context=context,
                visit=visit,
                since_s=since_s,
            )
            try:
                await self._answerer.answer(asked)
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

    async def _load(self, converted: Converted, context: RpcContext, visit: Visit, since_s: float) -> None:
        """Loads the model, as any request would, or unloads it."""
        asked: AskedOf = converted.extra
        unloads = asked.keep_alive_s == 0
        if unloads:
            await self._unload(converted.job, asked, context)
        else:
            await self._make_ready(converted.job, context, visit, since_s)
            if (keep_s := self._keep_alive_s(asked, context)) is not None:
                await self._loaded.keep(converted.job.model, keep_s)
        answer = OllamaAnswer(asked, since_s=since_s).loaded("unload" if unloads else "load")
        await context.write(HttpBody(content_type=JSON, data=orjson.dumps(answer)))

    async def _make_ready(self, job: Job, context: RpcContext, visit: Visit, since_s: float) -> None:
        """Waits until the model is ready, by asking it for the tokens of a text."""
        body = inference_pb2.TokenizeRequest(model=job.model, text=" ").SerializeToString()
        remaining = (seconds for seconds in (context.time_remaining(), job.deadline_s) if seconds is not None)
        await self._dispatcher.send(visit.admit(read_tokenize(body)), min(remaining, default=None), since_s=since_s)

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

"""Receives the requests of all dialects: lets each in, has its body converted, and makes it ready to be answered."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import unquote

from infermesh_router.access.access import Access
from infermesh_router.access.visit import Visit
from infermesh_router.openai.answerer import Asked
from infermesh_router.openai.answers.dialect import Dialect
from infermesh_router.openai.conversion import Converted, Sent
from infermesh_router.openai.packed_body import encoding_of
from infermesh_runtime.rpc.context import RpcContext

DEPLOYMENT_KEY = "x-infermesh-deployment"


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One request whose body is converted."""

    converted: Converted
    context: RpcContext
    visit: Visit
    since_s: float
    """When it arrived, as `time.perf_counter` counts."""

    def asked(self, dialect: Dialect, *more_ignored: str) -> Asked:
        """What the answerer is asked. `more_ignored`: fields of the body without an effect, beside the known ones."""
        return Asked(
            job=self.converted.job,
            dialect=dialect,
            ignored=self.converted.ignored + more_ignored,
            context=self.context,
            visit=self.visit,
            since_s=self.since_s,
        )


@asynccontextmanager
async def received(
    access: Access, context: RpcContext, message: bytes, convert: Callable[[bytes, Sent], Awaitable[Converted]]
) -> AsyncIterator[Received]:
    """Lets the caller in for as long as the request lasts. Callers drop their `message`: the job has its own copy."""
    since_s = time.perf_counter()
    with access.entered(context) as visit:
        converted = await convert(message, sent_by(context))
        del message
        yield Received(converted=converted, context=context, visit=visit, since_s=since_s)


def sent_by(context: RpcContext) -> Sent:
    """How the body of a call was sent."""
    return Sent(encoding=encoding_of(context), share=context.body, model=_deployment_of(context))


def _deployment_of(context: RpcContext) -> str:
    """The model that a path in Azure's form names, which Envoy puts into a header; "" for other paths."""
    named = (str(value) for key, value in context.invocation_metadata() if key == DEPLOYMENT_KEY)
    return unquote(next(named, ""))

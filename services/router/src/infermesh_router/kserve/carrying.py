"""Carries requests to infer from either form, gRPC or REST: to the model's tensors, or to its text."""

import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import closing
from typing import Any, NamedTuple

from infermesh_router.access.access import Access
from infermesh_router.access.rate_limits import Headers
from infermesh_router.kserve.desk import Desk
from infermesh_router.kserve.infer.inferring import Inferring
from infermesh_router.kserve.statistics import Statistics
from infermesh_router.kserve.tensors.values import InferAnswer, InferAsk
from infermesh_router.kserve.text.asking import TextAsking
from infermesh_router.kserve.text.convert import is_text
from infermesh_runtime.rpc.context import RpcContext


class Carried(NamedTuple):
    """What is needed to write an answer."""

    form: InferAsk
    """The request without its elements."""
    answer: InferAnswer
    headers: Headers


class Carrying:
    """Answers requests to infer."""

    def __init__(
        self, inferring: Inferring, texts: TextAsking, *, desk: Desk, access: Access, statistics: Statistics
    ) -> None:
        self._inferring = inferring
        self._texts = texts
        self._desk = desk
        self._access = access
        self._statistics = statistics

    async def infer(self, reading: Coroutine[Any, Any, InferAsk], context: RpcContext) -> Carried:
        """The answer to a request, which is read once the caller is let in."""
        since_s = time.perf_counter()
        with closing(reading), self._access.entered(context) as visit:
            ask = await reading
            with self._statistics.measured(ask.model):
                if self._is_for_text(ask, context):
                    return Carried(ask.bare(), *await self._texts.infer(ask, context, visit, since_s))
                begun = await self._inferring.begin(ask, context)
                del ask  # from now on the call alone holds the elements
                answer = await self._inferring.finish(begun, context, visit, since_s)
            return Carried(begun.form, answer, visit.headers)

    async def stream(
        self,
        reading: Coroutine[Any, Any, InferAsk],
        write: Callable[[bytes], Awaitable[None]],
        write_answer: Callable[[InferAsk, InferAnswer], Awaitable[None]],
        context: RpcContext,
    ) -> None:
        """Answers one request of a stream, which is read once the caller is let in.

        A text's messages go to `write`, the answer of tensors to `write_answer`.
        """
        since_s = time.perf_counter()
        with closing(reading), self._access.entered(context) as visit:
            ask = await reading
            with self._statistics.measured(ask.model):
                if self._is_for_text(ask, context):
                    await self._texts.stream(ask, write, context, visit, since_s)
                    return
                begun = await self._inferring.begin(ask, context)
                del ask  # from now on the call alone holds the elements
                answer = await self._inferring.finish(begun, context, visit, since_s)
                await write_answer(begun.form, answer)

    def _is_for_text(self, ask: InferAsk, context: RpcContext) -> bool:
        """A model that takes tensors may have an input of the same name."""
        return is_text(ask) and self._desk.generates(ask.model, context) is not False

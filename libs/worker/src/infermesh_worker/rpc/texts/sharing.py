"""Runs the texts of a request in shares of about one batch, so that requests of thousands let others in between."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from infermesh_runtime.tensors import Array
from infermesh_worker.engine_client.work import Work
from infermesh_worker.executors.text_batches import plan
from infermesh_worker.executors.text_executor import IDS, LENGTHS, TYPES
from infermesh_worker.executors.wire_tensors import flatten
from infermesh_worker.hosting.hosted_model import HostedModel
from infermesh_worker.rpc.texts.reading import TokenisedText

_AT_ONCE = 2
"""Shares of a request that wait or run at the same time: the next one is there when one ends."""
_THREAD_FROM_TEXTS = 2000
"""So many texts are divided in a thread, so that the event loop goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked of the texts."""

    output: str
    """Name of the tensor in the answers, which has a row for each text."""
    params: Mapping[str, Any]
    priority: int
    remaining_s: float | None
    """Time until the deadline; None: there is none."""


async def run_texts(
    hosted: HostedModel, texts: Sequence[TokenisedText], asked: Asked, give_up_place: Callable[[], None]
) -> Array:
    """The rows of all texts, in order. Raises InfermeshError.

    `give_up_place` is called when the first share is about to be open, which holds a place in the queue by itself.
    """
    deadline_s = None if asked.remaining_s is None else time.monotonic() + asked.remaining_s
    shares = await _shares([len(text.ids) for text in texts], hosted.client.require_facts().limits.max_size)
    found: list[Array] = []
    turns = asyncio.Semaphore(_AT_ONCE)

    async def run(indexes: Sequence[int]) -> None:
        async with turns:
            work = _work([texts[index] for index in indexes], asked, deadline_s)
            give_up_place()  # nothing is awaited before the call counts
            async with hosted.client.running(work) as call:
                answer = (await call.read()).tensors[asked.output]
                if not found:
                    found.append(np.empty((len(texts), *answer.shape[1:]), answer.dtype))
                found[0][indexes] = answer

    try:
        async with asyncio.TaskGroup() as group:
            for indexes in shares:
                group.create_task(run(indexes))
    except ExceptionGroup as errors:  # not except*, out of which Python 3.11.2 raises a group again
        raise _first(errors) from None
    return found[0]


async def _shares(lengths: Sequence[int], most_tokens: int) -> Sequence[list[int]]:
    """The texts of each share, by their indexes."""
    if len(lengths) < _THREAD_FROM_TEXTS:
        return list(plan(lengths, most_tokens))
    return await asyncio.to_thread(lambda: list(plan(lengths, most_tokens)))


def _work(texts: Sequence[TokenisedText], asked: Asked, deadline_s: float | None) -> Work:
    tensors = {
        IDS: np.concatenate([text.ids for text in texts]),
        LENGTHS: np.array([len(text.ids) for text in texts], np.int32),
    }
    if texts[0].types is not None:
        tensors[TYPES] = np.concatenate([text.types for text in texts if text.types is not None])
    flat = [flatten(name, array) for name, array in tensors.items()]
    return Work(params=asked.params, tensors=flat, priority=asked.priority, deadline_s=deadline_s)


def _first(errors: BaseExceptionGroup[Any]) -> BaseException:
    """One error of a group that may be nested."""
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first

"""What the calls about sound have in common: parts of an answer are written as the model emits them."""

import math
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_runtime.errors import Internal
from infermesh_worker.engine_client.work import Answer, Work
from infermesh_worker.hosting.hosted_model import HostedModel
from infermesh_worker.rpc.convert import DEVICE_KINDS
from infermesh_worker.rpc.prompts.prompt import invalid

MOST_NAME_CHARS = 256


def deadline(remaining_s: float | None) -> float | None:
    """The deadline by the monotonic clock, of a call with this much time left; None: it has none."""
    return None if remaining_s is None else time.monotonic() + remaining_s


def check_name(field: str, value: str) -> None:
    """Raises InvalidArgument for a name that is too long to be one."""
    if len(value) > MOST_NAME_CHARS:
        raise invalid(field, f"must have at most {MOST_NAME_CHARS} characters, not {len(value)}")


def check_range(field: str, value: float, low: float, high: float) -> None:
    """Raises InvalidArgument for a number out of range, or NaN."""
    if math.isnan(value) or not low <= value <= high:
        raise invalid(field, f"must be from {low:g} to {high:g}, not {value:g}")


def to_started(hosted: HostedModel, sample_rate: int = 0) -> pb.AudioStarted:
    """The first event of a stream. The router adds endpoint and reason."""
    info = hosted.client.require_ready()
    return pb.AudioStarted(model=hosted.opened.name, device=DEVICE_KINDS[info.device_kind], sample_rate=sample_rate)


@asynccontextmanager
async def answers(hosted: HostedModel, work: Work) -> AsyncIterator[AsyncIterator[Answer]]:
    """The parts of a model's answer, the last one with `last`. Leaving the block before cancels the rest.

    Raises InfermeshError.
    """
    async with hosted.client.running(work) as call:

        async def parts() -> AsyncGenerator[Answer]:
            while True:
                answer = await call.read()
                yield answer
                if answer.last:
                    return

        async with aclosing(parts()) as all_parts:
            yield all_parts


class Order:
    """Checks that a model numbers its parts one after the other, as a stream that moves is continued by number."""

    def __init__(self, first: int) -> None:
        self._next = first

    def take(self, index: int) -> int:
        """The index of the next part. Raises Internal for one that is missing or comes twice."""
        if index != self._next:
            raise Internal(f"The model emitted part {index} of its answer where part {self._next} was due.")
        self._next += 1
        return index

"""Answers jobs: runs them, and hands their events to the dialect of whoever asked, until the end or an error."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote

import grpc
from google.api.httpbody_pb2 import HttpBody

from infermesh.inference.v1 import inference_pb2
from infermesh_router.access.visit import Visit
from infermesh_router.fleet.reports.report import DEVICES
from infermesh_router.openai.answers.dialect import Dialect
from infermesh_router.openai.answers.sinks import SendHeaders
from infermesh_router.openai.answers.tail_writer import TailWriter
from infermesh_router.openai.errors import rename_field
from infermesh_router.openai.generations import Sink, run_generations
from infermesh_router.openai.job import Job
from infermesh_router.openai.sampling import sampling_header
from infermesh_router.policy.snapshot import DeviceKind
from infermesh_router.relay.dispatcher import Dispatcher
from infermesh_router.relay.streams.tail import Tail
from infermesh_router.requests.telling import Telling
from infermesh_runtime.errors import DeadlineExceeded, InfermeshError, Internal
from infermesh_runtime.rpc.context import RpcContext

_log = logging.getLogger(__name__)

JSON = "application/json"

_MAX_HEADER_CHARS = 1000
_LAST_EVENT_S = 0.25
"""How long before its deadline a stream ends, at the most, so that its last event arrives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request, ready to be answered."""

    job: Job
    dialect: Dialect
    ignored: tuple[str, ...]
    """The fields of its body that have no effect."""
    context: RpcContext
    visit: Visit
    since_s: float
    """When it arrived, as `time.perf_counter` counts."""


class Answerer:
    """Answers the requests of all dialects."""

    def __init__(self, dispatcher: Dispatcher, *, tell_after_s: float = 0.0) -> None:
        """`tell_after_s`: how long a stream waits before its client is told for what; 0: it is never told."""
        self._dispatcher = dispatcher
        self._tell_after_s = tell_after_s

    async def answer(self, asked: Asked) -> None:
        """Writes the answer to the call.

        Raises errors as long as they can be a status; later ones are written in the dialect's form.
        """
        asked.context.body.keep(sum(len(call.body) for call in asked.job.calls))
        try:
            await (self._stream(asked) if asked.job.stream else self._answer_whole(asked))
        except InfermeshError as error:
            raise asked.dialect.rename(error, asked.job) from error

    async def _answer_whole(self, asked: Asked) -> None:
        sink = asked.dialect.whole(asked.job, _header_sender(asked))
        await self._run(asked, sink, time_left_s(asked.context, asked.job))
        await asked.context.write(HttpBody(content_type=JSON, data=sink.body()))

    async def _stream(self, asked: Asked) -> None:
        """Raises errors until the headers are sent; after that it writes them as events, whatever ends the stream."""
        writer = TailWriter(asked.context)
        sink = asked.dialect.streamed(asked.job, _header_sender(asked), writer)
        telling = Telling(sink.tell, self._tell_after_s) if self._tell_after_s else None

        async def run() -> None:
            try:
                async with before_deadline(time_left_s(asked.context, asked.job)) as timeout_s:
                    await self._run(asked, sink, timeout_s, telling, tail=writer)
            finally:
                writer.free()

        try:
            await write_stream(run(), sink, asked.context, rename=lambda error: asked.dialect.rename(error, asked.job))
        except Exception:
            await writer.flush()
            raise
        await writer.flush()

    async def _run(
        self,
        asked: Asked,
        sink: Sink,
        timeout_s: float | None,
        telling: Telling | None = None,
        *,
        tail: Tail | None = None,
    ) -> None:
        await run_generations(
            self._dispatcher,
            asked.job,
            sink,
            visit=asked.visit,
            timeout_s=timeout_s,
            since_s=asked.since_s,
            telling=telling,
            ignored=asked.ignored,
            tail=tail,
        )


class Ending(Protocol):
    """What ends the events of an answer."""

    @property
    def begun(self) -> bool:
        """Whether something was sent, so that an error can no longer be a status."""
        ...

    async def end(self) -> None:
        """Ends an answer that is complete."""

    async def fail(self, error: InfermeshError) -> None:
        """Ends an answer that failed after it had begun."""


async def write_stream(
    writing: Awaitable[None],
    sink: Ending,
    context: RpcContext,
    *,
    rename: Callable[[InfermeshError], InfermeshError],
) -> None:
    """Waits until the events are written, and ends them, whatever ended the writing.

    Raises errors until the first event is sent. `rename` gives an error the names of the body's fields.
    """
    try:
        await writing
    except InfermeshError as error:
        await _fail(sink, rename(error))
    except asyncio.CancelledError:
        if (ending := context.ending()) is None:
            raise
        await _fail(sink, ending)
    except grpc.aio.InternalError:  # a write raises this when the client is gone
        raise
    except Exception:
        if not sink.begun:
            raise
        _log.exception("a stream failed")
        await sink.fail(Internal("Internal error."))
    else:
        await sink.end()


@asynccontextmanager
async def before_deadline(remaining_s: float | None) -> AsyncIterator[float | None]:
    """Gives the time that the block may take, so that an error after it can still be sent: at the deadline, gRPC cuts.

    Raises DeadlineExceeded when the block takes longer. `remaining_s`: until the deadline; None: there is none.
    """
    timeout_s = None if remaining_s is None else remaining_s - min(_LAST_EVENT_S, remaining_s / 10)
    try:
        async with asyncio.timeout(timeout_s):
            yield timeout_s
    except TimeoutError:
        raise DeadlineExceeded("The request's deadline passed before its answer was complete.") from None


async def _fail(sink: Ending, error: InfermeshError) -> None:
    """Writes the error as the stream's last event. Raises it if nothing was sent yet."""
    if not sink.begun:
        raise error
    _log.warning("a stream ended with an error: %s", error.message, extra={"reason": error.reason})
    await sink.fail(error)


def time_left_s(context: RpcContext, job: Job) -> float | None:
    """How long the answer may take, by the call's deadline and the body's; None stands for no limit."""
    given = [time_s for time_s in (context.time_remaining(), job.deadline_s) if time_s is not None]
    return min(given, default=None)


def ignored_headers(paths: Sequence[str]) -> list[tuple[str, str]]:
    """The header that names the fields of a body which have no effect; none without such fields."""
    shown = ",".join(quote(path, safe="[]") for path in dict.fromkeys(paths))
    return [("x-infermesh-ignored-fields", shown[:_MAX_HEADER_CHARS])] if shown else []


def _header_sender(asked: Asked) -> SendHeaders:
    """Sends headers: which endpoint answers and why, how long that took so far, ignored fields, and rate limits."""

    async def send_headers(started: inference_pb2.Started | None) -> None:
        headers = [*_started_headers(started), *asked.visit.headers] if started else [*asked.visit.headers]
        found = started.ignored_fields if started else ()
        paths = (*asked.ignored, *(rename_field(path, asked.job.field_names) for path in found))
        headers += ignored_headers(paths)
        await asked.context.send_initial_metadata(headers)

    return send_headers


def endpoint_headers(started: inference_pb2.Started | inference_pb2.AudioStarted) -> list[tuple[str, str]]:
    """The headers that say which endpoint answers, why, and how long the request was queued."""
    return [
        ("x-infermesh-endpoint", started.endpoint),
        ("x-infermesh-device", DEVICES.get(started.device, DeviceKind.UNKNOWN)),
        ("x-infermesh-reason", started.reason),
        ("x-infermesh-queued-ms", str(started.queued_ms)),
    ]


def _started_headers(started: inference_pb2.Started) -> list[tuple[str, str]]:
    headers = [*endpoint_headers(started), ("x-infermesh-overhead-ms", f"{started.overhead_ms:.1f}")]
    if started.HasField("in_use"):
        headers.append(("x-infermesh-sampling", sampling_header(started.in_use)))
    if started.loading_ms:
        headers.append(("x-infermesh-loading-ms", str(started.loading_ms)))
    return headers

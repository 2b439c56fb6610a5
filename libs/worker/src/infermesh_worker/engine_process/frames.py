"""The frames that the front and an engine process exchange, and their encoding.

A frame is its length as a 4-byte little-endian unsigned integer, followed by one msgpack value. Structs are encoded as
arrays, because a step report is written and read for every token of every stream.
"""

import struct
from collections.abc import Sequence
from typing import Any, Self

import msgspec

from infermesh_engine.requests.output import Delta, EngineLoad, Failed, Finished, Output, PromptLogprobs, TokenLogprob
from infermesh_engine.requests.request import GenerationRequest
from infermesh_engine.runners.runner import RunnerInfo
from infermesh_engine.sampling.grammars.cache import DEFAULT_CACHE_BYTES
from infermesh_engine.speculation.options import SpeculationOptions
from infermesh_runtime.errors import InfermeshError, from_code
from infermesh_worker.engine_process.run_frames import ModelFacts, ReleaseCommand, RunCommand, WireResult

MAX_FRAME_BYTES = 256 * 1024 * 1024
"""Longest frame accepted. A longer one means that the reader has lost the frame boundaries."""

_LENGTH = struct.Struct("<I")


class FormatLimits(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """How much compiling an output format may take, and how much memory compiled ones may hold."""

    timeout_s: float = 2.0
    memory_bytes: int = 512 << 20
    cache_bytes: int = DEFAULT_CACHE_BYTES


class StartCommand(msgspec.Struct, array_like=True, tag="start", frozen=True, kw_only=True):
    """Front to engine, the first frame: how to build the model and how to run it."""

    options: dict[str, Any]
    max_sequences: int
    max_batched_tokens: int
    prefix_caching: bool
    log_level: str = "info"
    formats: FormatLimits = FormatLimits()
    speculation: SpeculationOptions = SpeculationOptions()


class SubmitCommand(msgspec.Struct, array_like=True, tag="submit", frozen=True):
    """Front to engine: run this request."""

    request: GenerationRequest


class CancelCommand(msgspec.Struct, array_like=True, tag="cancel", frozen=True):
    """Front to engine: drop this request and free its blocks. Ignored when it is unknown or has ended."""

    request_id: str


class PingCommand(msgspec.Struct, array_like=True, tag="ping", frozen=True):
    """Front to engine: answer, between two steps, with a step report that has the load."""


class LimitKvCommand(msgspec.Struct, array_like=True, tag="limit_kv", frozen=True):
    """Front to engine: use so much of the KV cache from now on, and give the memory of the rest back."""

    kv_cache_bytes: int


class ShutdownCommand(msgspec.Struct, array_like=True, tag="shutdown", frozen=True):
    """Front to engine: free the device and exit 0."""


EngineCommand = (
    StartCommand
    | SubmitCommand
    | CancelCommand
    | PingCommand
    | LimitKvCommand
    | ShutdownCommand
    | RunCommand
    | ReleaseCommand
)


class LoadedReport(msgspec.Struct, array_like=True, tag="loaded", frozen=True):
    """Engine to front: the model is ready."""

    info: RunnerInfo
    load: EngineLoad
    memory_free_bytes: int
    memory_bytes: int = 0
    """Memory that the model holds, counting its whole KV cache."""
    facts: ModelFacts | None = None
    """None for a model that generates text."""


class KvLimitedReport(msgspec.Struct, array_like=True, tag="kv_limited", frozen=True):
    """Engine to front: the KV cache has changed its size, and memory that it no longer uses is free."""

    kv_cache_bytes: int


class RequestFailure(msgspec.Struct, array_like=True, frozen=True):
    """The error that ended a whole request, with everything that the client is told."""

    request_id: str
    code: int
    reason: str
    message: str
    metadata: dict[str, str] = {}
    fields: dict[str, str] = {}
    retry_after_s: float | None = None

    @classmethod
    def of(cls, request_id: str, error: InfermeshError) -> Self:
        """The failure of a request with this error."""
        metadata, fields = dict(error.metadata), dict(error.fields)
        return cls(request_id, int(error.code), error.reason, error.message, metadata, fields, error.retry_after_s)

    def error(self) -> InfermeshError:
        """The error that ended the request."""
        return from_code(
            self.code,
            self.message,
            reason=self.reason,
            metadata=self.metadata,
            fields=self.fields,
            retry_after_s=self.retry_after_s,
        )


class WireLogprob(msgspec.Struct, array_like=True, frozen=True):
    """A token's log probability and its alternatives; the encoded form of the engine's TokenLogprob."""

    token_id: int
    logprob: float
    token: bytes
    top: list["WireLogprob"] = []


WireDelta = tuple[str, int, str, list[int], list[WireLogprob]]
"""The encoded form of the engine's Delta: (request_id, choice, text, token_ids, logprobs).

A plain tuple, because this is the hot path.
"""


WirePrompt = tuple[str, list[WireLogprob], list[int]]
"""The encoded form of the engine's PromptLogprobs: (request_id, logprobs, ranks)."""


class StepReport(msgspec.Struct, array_like=True, tag="step", frozen=True):
    """Engine to front: everything that one engine step produced, for all requests."""

    deltas: list[WireDelta]
    finished: list[Finished] = []
    failed: list[RequestFailure] = []
    load: EngineLoad | None = None
    memory_free_bytes: int = 0
    prompts: list[WirePrompt] = []


class RunReport(msgspec.Struct, array_like=True, tag="ran", frozen=True):
    """Engine to front: answers of a model that does not generate text, and items that failed."""

    results: list[WireResult]
    failed: list[RequestFailure] = []
    load: EngineLoad | None = None
    memory_free_bytes: int = 0


class CrashReport(msgspec.Struct, array_like=True, tag="crashed", frozen=True):
    """Engine to front, the last frame: why the engine process ends."""

    kind: str
    """Name of the exception's class; empty for an InfermeshError, whose message is enough."""
    message: str
    permanent: bool = False
    """Whether retrying cannot succeed, for example because the model folder lacks the files that the worker needs."""
    code: int = 0
    """gRPC code of an InfermeshError; 0 for other exceptions."""
    reason: str = ""
    """Reason of an InfermeshError, as in ErrorInfo; empty for other exceptions."""


EngineReport = LoadedReport | StepReport | RunReport | KvLimitedReport | CrashReport


class FrameError(ValueError):
    """The peer sent bytes that are not a frame."""


class FrameReader:
    """Splits a stream of bytes into the payloads of its frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads that `data` completes. Raises FrameError on an impossible length."""
        buffer = self._buffer
        buffer += data
        payloads = []
        offset = 0
        while len(buffer) - offset >= 4:
            (size,) = _LENGTH.unpack_from(buffer, offset)
            if size > MAX_FRAME_BYTES:
                raise FrameError(f"a frame claims {size} bytes; at most {MAX_FRAME_BYTES} are accepted")
            if len(buffer) - offset - 4 < size:
                break
            payloads.append(bytes(buffer[offset + 4 : offset + 4 + size]))
            offset += 4 + size
        del buffer[:offset]
        return payloads


_encoder = msgspec.msgpack.Encoder()


def pack(frame: EngineCommand | EngineReport) -> bytes:
    """The bytes of one frame, including its length."""
    buffer = bytearray(4)
    _encoder.encode_into(frame, buffer, 4)
    _LENGTH.pack_into(buffer, 0, len(buffer) - 4)
    return bytes(buffer)


command_decoder = msgspec.msgpack.Decoder(EngineCommand)
"""Decodes payloads in the engine process."""
report_decoder = msgspec.msgpack.Decoder(EngineReport)
"""Decodes payloads in the front."""


def step_report(
    outputs: Sequence[Output], rejected: Sequence[RequestFailure], load: EngineLoad | None, memory_free_bytes: int
) -> StepReport:
    """The report of one step: its outputs, sorted by kind, and the requests rejected since the last step."""
    deltas: list[Any] = []
    finished: list[Finished] = []
    failed = list(rejected)
    prompts: list[WirePrompt] = []
    for output in outputs:
        if type(output) is Delta:
            logprobs = [wire_logprob(entry) for entry in output.logprobs] if output.logprobs else ()
            deltas.append((output.request_id, output.choice, output.text, output.token_ids, logprobs))
        elif type(output) is Finished:
            finished.append(output)
        elif type(output) is Failed:
            failed.append(RequestFailure.of(output.request_id, output.error))
        elif type(output) is PromptLogprobs:
            prompts.append((output.request_id, [*map(wire_logprob, output.logprobs)], [*output.ranks]))
    return StepReport(deltas, finished, failed, load, memory_free_bytes, prompts)


def wire_logprob(entry: TokenLogprob) -> WireLogprob:
    """The encoded form of a log probability."""
    top = [WireLogprob(alternative.token_id, alternative.logprob, alternative.token) for alternative in entry.top]
    return WireLogprob(entry.token_id, entry.logprob, entry.token, top)

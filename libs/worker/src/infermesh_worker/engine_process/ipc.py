"""Owns the frames between front and engine process and their bytes. Knows neither process and no gRPC.

A frame is its length as a 4-byte little-endian unsigned integer and then one msgpack value. The structs are arrays on
the wire, because a step frame is written and read for every token of every stream.
"""

import struct
from collections.abc import Sequence
from typing import Any, Self

import msgspec

from infermesh_engine.requests.output import Delta, EngineLoad, Failed, Finished, Output, TokenLogprob
from infermesh_engine.requests.request import GenerationRequest
from infermesh_engine.runners.runner import RunnerInfo
from infermesh_runtime.errors import InfermeshError, from_code

MAX_FRAME_BYTES = 256 * 1024 * 1024
"""Longest frame accepted; a longer one means that the stream of bytes is out of step."""

_LENGTH = struct.Struct("<I")


class Start(msgspec.Struct, array_like=True, tag="start", frozen=True, kw_only=True):
    """Front to engine, the first frame: what to build and how to run it."""

    options: dict[str, Any]
    max_sequences: int
    max_batched_tokens: int
    prefix_caching: bool
    log_level: str = "info"


class Submit(msgspec.Struct, array_like=True, tag="submit", frozen=True):
    """Front to engine: run this request."""

    request: GenerationRequest


class Cancel(msgspec.Struct, array_like=True, tag="cancel", frozen=True):
    """Front to engine: drop this request and free its blocks; nothing when it is unknown or has ended."""

    request_id: str


class Ping(msgspec.Struct, array_like=True, tag="ping", frozen=True):
    """Front to engine: answer with a step frame that holds the load, between two steps."""


class Shutdown(msgspec.Struct, array_like=True, tag="shutdown", frozen=True):
    """Front to engine: free the device and exit 0."""


Command = Start | Submit | Cancel | Ping | Shutdown


class Loaded(msgspec.Struct, array_like=True, tag="loaded", frozen=True):
    """Engine to front: the model is ready."""

    info: RunnerInfo
    load: EngineLoad
    memory_free_bytes: int
    memory_bytes: int = 0
    """Memory that the model holds, its KV cache as if all of it were in use."""


class Failure(msgspec.Struct, array_like=True, frozen=True):
    """The end of a whole request by an error, with all that the client is told."""

    request_id: str
    code: int
    reason: str
    message: str
    metadata: dict[str, str] = {}
    fields: dict[str, str] = {}
    retry_after_s: float | None = None

    @classmethod
    def of(cls, request_id: str, error: InfermeshError) -> Self:
        """The failure of a request by an error."""
        metadata, fields = dict(error.metadata), dict(error.fields)
        return cls(request_id, int(error.code), error.reason, error.message, metadata, fields, error.retry_after_s)

    def error(self) -> InfermeshError:
        """The error that the request ends with."""
        return from_code(
            self.code,
            self.message,
            reason=self.reason,
            metadata=self.metadata,
            fields=self.fields,
            retry_after_s=self.retry_after_s,
        )


class LogprobFrame(msgspec.Struct, array_like=True, frozen=True):
    """A token's log probability and its alternatives', as infermesh_engine.requests.output.TokenLogprob."""

    token_id: int
    logprob: float
    token: bytes
    top: list["LogprobFrame"] = []


DeltaFrame = tuple[str, int, str, list[int], list[LogprobFrame]]
"""(request_id, choice, text, token_ids, logprobs); a plain tuple, because it is the hot path."""


class Step(msgspec.Struct, array_like=True, tag="step", frozen=True):
    """Engine to front: everything one engine step produced, over all requests."""

    deltas: list[DeltaFrame]
    finished: list[Finished] = []
    failed: list[Failure] = []
    load: EngineLoad | None = None
    memory_free_bytes: int = 0


class Crashed(msgspec.Struct, array_like=True, tag="crashed", frozen=True):
    """Engine to front, the last frame: why the engine process ends."""

    kind: str
    """Name of the exception's class; empty for an InfermeshError, whose message says it all."""
    message: str
    permanent: bool = False
    """True when trying again does not help, as when the model's folder is not what the worker needs."""
    code: int = 0
    """Of an InfermeshError, for who asked for the model; 0 for other exceptions."""
    reason: str = ""
    """Of an InfermeshError, as in ErrorInfo."""


Report = Loaded | Step | Crashed


class FrameError(ValueError):
    """The peer sent bytes that are not frames."""


class FrameReader:
    """Cuts a stream of bytes into payloads."""

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
                raise FrameError(f"a frame of {size} bytes is announced; at most {MAX_FRAME_BYTES} are accepted")
            if len(buffer) - offset - 4 < size:
                break
            payloads.append(bytes(buffer[offset + 4 : offset + 4 + size]))
            offset += 4 + size
        del buffer[:offset]
        return payloads


_encoder = msgspec.msgpack.Encoder()


def pack(frame: Command | Report) -> bytes:
    """The bytes of one frame, its length included."""
    buffer = bytearray(4)
    _encoder.encode_into(frame, buffer, 4)
    _LENGTH.pack_into(buffer, 0, len(buffer) - 4)
    return bytes(buffer)


command_decoder = msgspec.msgpack.Decoder(Command)
"""Decodes payloads in the engine process."""
report_decoder = msgspec.msgpack.Decoder(Report)
"""Decodes payloads in the front."""


def step_frame(
    outputs: Sequence[Output], rejected: Sequence[Failure], load: EngineLoad | None, memory_free_bytes: int
) -> Step:
    """One step's outputs, sorted by kind, and the requests that were refused since the last step."""
    deltas: list[Any] = []
    finished: list[Finished] = []
    failed = list(rejected)
    for output in outputs:
        if type(output) is Delta:
            logprobs = [logprob_frame(entry) for entry in output.logprobs] if output.logprobs else ()
            deltas.append((output.request_id, output.choice, output.text, output.token_ids, logprobs))
        elif type(output) is Finished:
            finished.append(output)
        elif type(output) is Failed:
            failed.append(Failure.of(output.request_id, output.error))
    return Step(deltas, finished, failed, load, memory_free_bytes)


def logprob_frame(entry: TokenLogprob) -> LogprobFrame:
    """A log probability as it travels."""
    top = [LogprobFrame(alternative.token_id, alternative.logprob, alternative.token) for alternative in entry.top]
    return LogprobFrame(entry.token_id, entry.logprob, entry.token, top)

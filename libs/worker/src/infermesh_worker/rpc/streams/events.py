"""Serialises the events of a Generate stream, and the events of calls on a GenerateMany stream.

Those that come with every token are written byte by byte: that takes a seventh of the time that protobuf's messages do.
"""

from dataclasses import asdict
from functools import lru_cache

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_engine.requests.output import Finished, FinishReason
from infermesh_runtime.wire_fields import varint
from infermesh_worker.engine_process.frames import WireDelta
from infermesh_worker.rpc.prompts.told_prompt import to_logprob

_FINISH_REASONS = {
    FinishReason.STOP: pb.FINISH_REASON_STOP,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
    FinishReason.TOOL_CALLS: pb.FINISH_REASON_TOOL_CALLS,
    FinishReason.CANCELLED: pb.FINISH_REASON_CANCELLED,
}
_varint = lru_cache(1 << 14)(varint)
"""For lengths, and token ids, of which most are among a few."""


def started_response(started: pb.Started) -> bytes:
    """The GenerateResponse with `started`."""
    return pb.GenerateResponse(started=started).SerializeToString()


def delta_response(delta: WireDelta) -> bytes:
    """The GenerateResponse with a delta."""
    content = _delta(delta)
    return b"\x12%b%b" % (_varint(len(content)), content)


def finished_response(output: Finished) -> bytes:
    """The GenerateResponse with `finished`."""
    usage = pb.Usage(
        prompt_tokens=output.prompt_tokens,
        completion_tokens=output.completion_tokens,
        cached_tokens=output.cached_tokens,
        accepted_prediction_tokens=output.accepted_prediction_tokens,
        rejected_prediction_tokens=output.rejected_prediction_tokens,
    )
    reason = _FINISH_REASONS[output.finish_reason]
    timings = None if output.timings is None else pb.Timings(**asdict(output.timings))
    finished = pb.Finished(choice=output.choice, finish_reason=reason, stop=output.stop, usage=usage, timings=timings)
    return pb.GenerateResponse(finished=finished).SerializeToString()


def call_field(call: int) -> bytes:
    """The field `call` of every CallEvent of a call."""
    return b"\x08%b" % varint(call)


def response_event(call: bytes, response: bytes) -> bytes:
    """A GenerateManyResponse with one event: a response of the call with this `call_field`.

    Such messages one after the other are one message with all of their events.
    """
    size = _varint(len(response))
    return b"\x0a%b%b\x12%b%b" % (_varint(len(call) + 1 + len(size) + len(response)), call, size, response)


def delta_event(call: bytes, delta: WireDelta) -> bytes:
    """The `response_event` of a `delta_response`, made at once, since there is one for each token."""
    content = _delta(delta)
    size = _varint(len(content))
    outer = 1 + len(size) + len(content)
    outer_size = _varint(outer)
    whole = _varint(len(call) + 1 + len(outer_size) + outer)
    return b"\x0a%b%b\x12%b\x12%b%b" % (whole, call, outer_size, size, content)


def end_event(call: bytes, code: int, message: str, details: bytes) -> bytes:
    """A GenerateManyResponse with one event: the end of the call with this `call_field`."""
    end = pb.CallEvent(end=pb.CallEnd(code=code, message=message, details=details)).SerializeToString()
    return b"\x0a%b%b%b" % (_varint(len(call) + len(end)), call, end)


def _delta(delta: WireDelta) -> bytes:
    _, choice, text, token_ids, logprobs = delta
    if logprobs:
        message = pb.Delta(choice=choice, text=text, token_ids=token_ids, logprobs=map(to_logprob, logprobs))
        return message.SerializeToString()
    encoded = text.encode()
    tokens = _varint(token_ids[0]) if len(token_ids) == 1 else b"".join(map(_varint, token_ids))
    content = b"\x12%b%b\x1a%b%b" % (_varint(len(encoded)), encoded, _varint(len(tokens)), tokens)
    return b"\x08%b%b" % (_varint(choice), content) if choice else content

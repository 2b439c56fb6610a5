"""Frames: what goes in comes out, however the stream of bytes is split."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infermesh_engine.requests.output import Delta, EngineLoad, Failed, Finished, FinishReason, Output, TokenLogprob
from infermesh_engine.requests.request import (
    Continuation,
    GenerationRequest,
    OutputFormat,
    SamplingParams,
    StopConditions,
)
from infermesh_runtime.errors import ContextLengthExceeded, InvalidArgument
from infermesh_worker.engine_process.frames import (
    MAX_FRAME_BYTES,
    CancelCommand,
    EngineCommand,
    EngineReport,
    FrameError,
    FrameReader,
    RequestFailure,
    StartCommand,
    SubmitCommand,
    command_decoder,
    pack,
    report_decoder,
    step_report,
)

REQUEST = GenerationRequest(
    request_id="7",
    prompt_token_ids=(1, 2, 3),
    seed=2**64 - 1,
    sampling=SamplingParams(temperature=0.5, logit_bias={3: -1.5}),
    stop=StopConditions(strings=("é",), token_ids=(9,), max_tokens=4),
    output_format=OutputFormat(kind="regex", spec="a+"),
    logprobs=0,
    generated=(Continuation(choice=1, token_ids=(4, 5), finished=True),),
)


def payload(frame: EngineCommand | EngineReport) -> bytes:
    (only,) = FrameReader().feed(pack(frame))
    return only


def test_request_survives_the_way() -> None:
    assert command_decoder.decode(payload(SubmitCommand(REQUEST))).request == REQUEST


def test_start_survives_the_way() -> None:
    start = StartCommand(options={"a": [1, "b", None]}, max_sequences=1, max_batched_tokens=2, prefix_caching=False)
    assert command_decoder.decode(payload(start)) == start


def test_step_holds_every_output() -> None:
    entry = TokenLogprob(5, -0.5, b"\xff", (TokenLogprob(6, -1.5, b"a"),))
    finished = Finished("1", 0, FinishReason.STOP, stop="x", prompt_tokens=3)
    error = ContextLengthExceeded("too long", metadata={"prompt_tokens": "9"}, retry_after_s=1.5)
    outputs: list[Output] = [
        Delta("1", 0, "é", (5,), (entry,)),
        finished,
        Failed("2", InvalidArgument("no", fields={"format": "no"})),
    ]
    step = report_decoder.decode(
        payload(step_report(outputs, [RequestFailure.of("3", error)], EngineLoad(running=1), 77))
    )
    ((request_id, choice, text, token_ids, logprobs),) = step.deltas
    assert (request_id, choice, text, token_ids) == ("1", 0, "é", [5])
    assert (logprobs[0].token, logprobs[0].top[0].token_id) == (b"\xff", 6)
    assert step.finished == [finished]
    assert [failure.request_id for failure in step.failed] == ["3", "2"]
    assert step.failed[1].error().fields == {"format": "no"}
    again = step.failed[0].error()
    assert isinstance(again, ContextLengthExceeded)
    assert (again.message, again.metadata, again.retry_after_s) == ("too long", {"prompt_tokens": "9"}, 1.5)
    assert (step.load, step.memory_free_bytes) == (EngineLoad(running=1), 77)


@given(st.lists(st.text(max_size=40), max_size=8), st.data())
def test_frames_are_found_however_the_bytes_are_cut(request_ids: list[str], data: st.DataObject) -> None:
    stream = b"".join(pack(CancelCommand(request_id)) for request_id in request_ids)
    reader, found = FrameReader(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += reader.feed(stream[:size])
        stream = stream[size:]
    assert [command_decoder.decode(part).request_id for part in found] == request_ids


def test_impossible_length_is_refused() -> None:
    with pytest.raises(FrameError, match="claims 268435457 bytes"):
        FrameReader().feed((MAX_FRAME_BYTES + 1).to_bytes(4, "little"))

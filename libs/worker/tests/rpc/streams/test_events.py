"""What is written byte by byte is what protobuf would write."""

from hypothesis import given
from hypothesis import strategies as st

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_worker.engine_process.frames import WireDelta, WireLogprob
from infermesh_worker.rpc.streams.events import call_field, delta_event, delta_response, end_event, response_event

UINT32 = st.integers(0, 2**32 - 1)
UINT64 = st.integers(0, 2**64 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
LOGPROB = st.builds(WireLogprob, UINT32, st.floats(-30, 0, width=32), st.binary(max_size=4))
DELTA: st.SearchStrategy[WireDelta] = st.one_of(
    st.tuples(st.just("r"), UINT32, TEXT, st.lists(UINT32, max_size=200), st.just([])),
    st.lists(LOGPROB, max_size=3).flatmap(
        lambda entries: st.tuples(
            st.just("r"), UINT32, TEXT, st.just([entry.token_id for entry in entries]), st.just(entries)
        )
    ),
)


@given(DELTA, UINT64)
def test_a_delta_is_its_message(delta: WireDelta, call: int) -> None:
    _, choice, text, token_ids, logprobs = delta
    message = pb.Delta(choice=choice, text=text, token_ids=token_ids)
    for entry in logprobs:
        message.logprobs.add(token_id=entry.token_id, logprob=entry.logprob, token=entry.token)
    assert pb.GenerateResponse.FromString(delta_response(delta)) == pb.GenerateResponse(delta=message)
    event = pb.GenerateManyResponse.FromString(delta_event(call_field(call), delta)).events[0]
    assert event == pb.CallEvent(call=call, response=event.response)
    assert pb.GenerateResponse.FromString(event.response) == pb.GenerateResponse(delta=message)


@given(st.lists(st.tuples(UINT64, st.binary(max_size=300))), UINT64, st.integers(0, 16), TEXT, st.binary(max_size=200))
def test_events_one_after_the_other_are_a_frame(
    responses: list[tuple[int, bytes]], ended: int, code: int, message: str, details: bytes
) -> None:
    expected = pb.GenerateManyResponse(
        events=[pb.CallEvent(call=call, response=response) for call, response in responses]
    )
    expected.events.add(call=ended, end=pb.CallEnd(code=code, message=message, details=details))
    frame = b"".join(response_event(call_field(call), response) for call, response in responses)
    frame += end_event(call_field(ended), code, message, details)
    assert pb.GenerateManyResponse.FromString(frame) == expected

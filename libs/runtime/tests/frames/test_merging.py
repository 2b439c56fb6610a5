"""Merging deltas loses nothing: each choice has the same text, tokens, log probabilities and end as before."""

from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_runtime.frames.merging import MOST_MERGED_BYTES, merge_deltas

CHOICES = 3
logprobs = st.builds(
    pb.TokenLogprob,
    token_id=st.integers(0, 99),
    logprob=st.floats(-9, 0, width=32),
    token=st.binary(max_size=3),
    top=st.lists(st.builds(pb.TokenLogprob, token_id=st.integers(0, 99)), max_size=2),
)
deltas = st.builds(
    pb.Delta,
    choice=st.integers(0, CHOICES - 1),
    text=st.text(max_size=4),
    token_ids=st.lists(st.integers(0, 2**32 - 1), max_size=3),
    logprobs=st.lists(logprobs, max_size=2),
)
ends = st.builds(
    pb.Finished,
    choice=st.integers(0, CHOICES - 1),
    finish_reason=st.sampled_from([pb.FINISH_REASON_STOP, pb.FINISH_REASON_LENGTH]),
    usage=st.builds(pb.Usage, completion_tokens=st.integers(0, 99)),
)
events = st.one_of(
    st.builds(pb.GenerateResponse, delta=deltas),
    st.builds(pb.GenerateResponse, delta=deltas),
    st.builds(pb.GenerateResponse, finished=ends),
    st.builds(pb.GenerateResponse, started=st.builds(pb.Started, model=st.text(max_size=4))),
)
messages = st.one_of(events.map(pb.GenerateResponse.SerializeToString), st.just(b"\xff"))


def told(stream: Iterable[bytes]) -> list[object]:
    """What a reader learns of each choice, one after another, with consecutive deltas as one; other messages as is."""
    found: list[object] = []
    for choice in range(CHOICES):
        joined: pb.Delta | None = None
        for message in stream:
            content = pb.GenerateResponse() if message == b"\xff" else pb.GenerateResponse.FromString(message)
            if content.HasField("delta"):
                delta = content.delta
                if delta.choice == choice:
                    joined = joined or pb.Delta(choice=choice)
                    joined.text += delta.text
                    joined.token_ids.extend(delta.token_ids)
                    joined.logprobs.extend(delta.logprobs)
            elif not content.HasField("finished") or content.finished.choice == choice:
                found += [joined.SerializeToString(deterministic=True) if joined else None, message]
                joined = None
        found.append(joined.SerializeToString(deterministic=True) if joined else None)
    return found


@settings(max_examples=200, deadline=None)
@given(st.lists(messages, max_size=12), st.sampled_from([1, 8, 30, MOST_MERGED_BYTES]))
def test_merging_loses_nothing(stream: list[bytes], most_bytes: int) -> None:
    merged = merge_deltas(stream, most_bytes)
    assert told(merged) == told(stream)
    assert len(merged) <= len(stream)
    assert merge_deltas(merged, 1) == merged


def test_waiting_deltas_become_one_for_each_choice() -> None:
    stream = [
        pb.GenerateResponse(delta=pb.Delta(choice=choice, text=f"{number} ", token_ids=[number])).SerializeToString()
        for number in range(10)
        for choice in (0, 1)
    ]
    first, second = map(pb.GenerateResponse.FromString, merge_deltas(stream))
    assert list(first.delta.token_ids) == list(second.delta.token_ids) == list(range(10))
    assert (first.delta.choice, second.delta.choice) == (0, 1)
    assert first.delta.text == second.delta.text == "0 1 2 3 4 5 6 7 8 9 "


def test_a_merged_message_stays_small() -> None:
    stream = [pb.GenerateResponse(delta=pb.Delta(text="x" * 100, token_ids=[7])).SerializeToString()] * 1000
    merged = merge_deltas(stream)
    assert max(map(len, merged)) <= MOST_MERGED_BYTES + len(stream[0])
    assert len(merged) < 30


def test_fields_that_we_do_not_know_yet_are_kept() -> None:
    later = b"\x12\x05\xfa\x3f\x02hi"  # a delta with a string in field 1023
    assert pb.GenerateResponse.FromString(later).HasField("delta")
    (merged,) = merge_deltas([later, later])
    assert merged.count(b"hi") == 2

"""Merges the deltas of a Generate stream that wait for a slow reader, so that they take fewer messages."""

from collections.abc import Iterable

from google.protobuf.message import DecodeError

from infermesh.inference.v1 import inference_pb2 as pb

MOST_MERGED_BYTES = 4096
"""A message of this size is left as it is: merging more into it would save little, and parse it once more each time."""


def add_delta(into: pb.Delta, delta: pb.Delta) -> None:
    """Appends a delta to an earlier one of the same choice: text, token ids, logprobs, and what we do not know yet."""
    text = into.text + delta.text
    into.MergeFrom(delta)  # appends all that is repeated
    into.text = text


def merge_deltas(messages: Iterable[bytes], most_bytes: int = MOST_MERGED_BYTES) -> list[bytes]:
    """The same events in fewer messages: serialised GenerateResponses, in order.

    Each delta joins the earlier one of its choice, if nothing but deltas and ends of other choices came in between, and
    neither is as large as `most_bytes`. All other messages, unreadable ones too, keep their bytes and their place.
    """
    kept: list[bytes | pb.GenerateResponse] = []
    last: dict[int, tuple[int, pb.GenerateResponse, int]] = {}
    """Of each choice, its latest delta that more may join: its place in `kept`, the delta, and its size."""
    for message in messages:
        content = _parse(message) if len(message) < most_bytes else None
        event = content.WhichOneof("event") if content is not None else None
        if content is None or event not in ("delta", "finished"):
            last.clear()
            kept.append(message)
        elif event == "finished":
            last.pop(content.finished.choice, None)
            kept.append(message)
        else:
            choice = content.delta.choice
            place, earlier, size = last.get(choice) or (len(kept), None, 0)
            if earlier is None:
                kept.append(message)
                earlier = content
            else:
                add_delta(earlier.delta, content.delta)
                kept[place] = earlier
            size += len(message)
            if size < most_bytes:
                last[choice] = place, earlier, size
            else:
                last.pop(choice, None)
    return [each if isinstance(each, bytes) else each.SerializeToString() for each in kept]


def _parse(message: bytes) -> pb.GenerateResponse | None:
    try:
        return pb.GenerateResponse.FromString(message)
    except DecodeError:
        return None

"""Says in 16 bytes what a request asks for: the same for every client, seed, device and continuation."""

import asyncio
from collections.abc import Collection, Iterator, Mapping
from hashlib import blake2b

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.requests.call import EMBED, GENERATE, INFER, SCORE, SPEAK, TRANSCRIBE, Call
from infermesh_router.requests.kinds.sound import SOUND_FIELDS
from infermesh_runtime.wire_fields import fields

_Request = (
    pb.GenerateRequest | pb.EmbedRequest | pb.ScoreRequest | pb.InferRequest | pb.TranscribeRequest | pb.SpeakRequest
)

_WHO = frozenset(
    {"seed", "priority", "device", "session_id", "generated", "client_id", "delivered_segments", "delivered_pieces"}
)
"""Fields that say who asks, or how far an answer has come, but not what is asked for."""
_KINDS: Mapping[str, type[_Request]] = {
    GENERATE: pb.GenerateRequest,
    EMBED: pb.EmbedRequest,
    SCORE: pb.ScoreRequest,
    INFER: pb.InferRequest,
    TRANSCRIBE: pb.TranscribeRequest,
    SPEAK: pb.SpeakRequest,
}
_LARGE: Mapping[str, Collection[int]] = {
    INFER: (pb.InferRequest.DESCRIPTOR.fields_by_name["inputs"].number,),
    TRANSCRIBE: SOUND_FIELDS,
}
"""Fields that are neither parsed nor copied."""
_THREAD_FROM_BYTES = 1 << 20
"""Larger requests are read in a thread, so that the event loop goes on: a mebibyte takes about a millisecond."""


async def digest_of(call: Call) -> bytes:
    """The call's digest, worked out beside the event loop if that takes long."""
    if len(call.body) < _THREAD_FROM_BYTES:
        return digest(call)
    return await asyncio.to_thread(digest, call)


def digest(call: Call) -> bytes:
    """What a call asks for, in 16 bytes."""
    hashed = blake2b(digest_size=16, person=call.method[-16:].encode())
    for part in _asked(call):
        hashed.update(part)
    return hashed.digest()


def _asked(call: Call) -> Iterator[bytes | memoryview]:
    """The parts of the body that say what is asked for."""
    kind, large = _KINDS.get(call.method), _LARGE.get(call.method, ())
    if kind is None:
        yield call.body
    elif large:
        found = [(number, whole) for number, _, whole, _ in fields(memoryview(call.body))]
        yield _plain(kind.FromString(b"".join(whole for number, whole in found if number not in large)))
        yield from (whole for number, whole in found if number in large)
    else:
        yield _plain(kind.FromString(call.body))


def _plain(request: _Request) -> bytes:
    for name in _WHO.intersection(request.DESCRIPTOR.fields_by_name):
        request.ClearField(name)
    return request.SerializeToString(deterministic=True)

"""Says in 16 bytes what a request asks for: the same for every client, seed, device and continuation."""

import asyncio
from collections.abc import Iterator
from hashlib import blake2b

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.requests.call import EMBED, GENERATE, INFER, SCORE, Call
from infermesh_runtime.wire_fields import fields

_WHO = frozenset({"seed", "priority", "device", "session_id", "generated", "client_id"})
"""Fields that say who asks, or how far an answer has come, but not what is asked for."""
_KINDS: dict[str, type[pb.GenerateRequest | pb.EmbedRequest | pb.ScoreRequest]] = {
    GENERATE: pb.GenerateRequest,
    EMBED: pb.EmbedRequest,
    SCORE: pb.ScoreRequest,
}
_INPUTS = pb.InferRequest.DESCRIPTOR.fields_by_name["inputs"].number
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
    """The parts of the body that say what is asked for. Tensors are neither parsed nor copied."""
    if call.method == INFER:
        found = [(number, whole) for number, _, whole, _ in fields(memoryview(call.body))]
        others = b"".join(whole for number, whole in found if number != _INPUTS)
        yield _plain(pb.InferRequest.FromString(others))
        yield from (whole for number, whole in found if number == _INPUTS)
    elif (kind := _KINDS.get(call.method)) is not None:
        yield _plain(kind.FromString(call.body))
    else:
        yield call.body


def _plain(request: pb.GenerateRequest | pb.EmbedRequest | pb.ScoreRequest | pb.InferRequest) -> bytes:
    for name in _WHO.intersection(request.DESCRIPTOR.fields_by_name):
        request.ClearField(name)
    return request.SerializeToString(deterministic=True)

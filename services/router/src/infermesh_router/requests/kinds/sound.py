"""Reads requests about sound: what they want, but not the sound itself, however large."""

import secrets
from collections.abc import Collection

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.policy.snapshot import Wanted
from infermesh_router.requests.call import ANY_DEVICE, SPEAK, TRANSCRIBE, Call
from infermesh_router.requests.kinds.common import check_priority, device_of, parse_request, without_fields
from infermesh_runtime.errors import InvalidArgument

SOUND_FIELDS: Collection[int] = tuple(
    pb.TranscribeRequest.DESCRIPTOR.fields_by_name[name].number for name in ("audio", "samples")
)
"""The fields of a TranscribeRequest that hold the sound."""
MOST_FIELDS = 64
"""Most fields of a request about sound: it has no lists."""
MOST_BYTES = 1 << 20
"""Of all that is no sound. A worker takes less."""


def read_transcribe(body: bytes) -> Call:
    """Reads a serialised TranscribeRequest, and adds a seed if it has none. Raises InvalidArgument."""
    request = parse_request(pb.TranscribeRequest, without_sound(body))
    check_priority(request.priority)
    if not request.HasField("seed"):  # so that another endpoint goes on as this one would have
        body += pb.TranscribeRequest(seed=secrets.randbits(63)).SerializeToString()
    wanted = Wanted(model=request.model, device=device_of(request.device), priority=request.priority)
    return Call(method=TRANSCRIBE, body=body, wanted=wanted, any_device=ANY_DEVICE[pb.TranscribeRequest])


def read_speak(body: bytes) -> Call:
    """Reads a serialised SpeakRequest. Raises InvalidArgument."""
    request = parse_request(pb.SpeakRequest, _checked(body))
    check_priority(request.priority)
    wanted = Wanted(model=request.model, device=device_of(request.device), priority=request.priority)
    return Call(method=SPEAK, body=body, wanted=wanted, any_device=ANY_DEVICE[pb.SpeakRequest])


def without_sound(body: bytes) -> bytes:
    """A serialised TranscribeRequest without its sound. Raises InvalidArgument."""
    return _checked(without_fields(body, SOUND_FIELDS, MOST_FIELDS))


def _checked(light: bytes) -> bytes:
    if len(light) > MOST_BYTES:
        raise InvalidArgument(
            f"The request has {len(light)} bytes beside its sound; at most {MOST_BYTES} are allowed.",
            reason="REQUEST_TOO_LARGE",
        )
    return light

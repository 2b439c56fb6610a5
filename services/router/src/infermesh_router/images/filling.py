"""Puts fetched images into the calls that wait for them, in another process: the messages are large."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.images.reading import RemoteImage
from infermesh_router.requests.bounds import Bounds
from infermesh_router.requests.call import GENERATE, TOKENIZE, Call
from infermesh_router.requests.kinds.generate import read_generate
from infermesh_router.requests.kinds.tokens import read_tokenize
from infermesh_router.requests.parsing_pool import ParsingPool

_KINDS: dict[str, tuple[type[pb.GenerateRequest | pb.TokenizeRequest], Callable[[bytes, Bounds], Call]]] = {
    GENERATE: (pb.GenerateRequest, read_generate),
    TOKENIZE: (pb.TokenizeRequest, read_tokenize),
}


async def filled(
    pool: ParsingPool, call: Call, images: Sequence[RemoteImage], contents: Sequence[bytes], bounds: Bounds
) -> Call:
    """The call with the contents of its images. Raises InvalidArgument."""
    sizes = tuple(map(len, contents))
    packed = b"".join((call.body, *contents))
    made, (body,) = await pool.run(_fill, packed, call.method, tuple(images), sizes, bounds)
    return replace(made, body=body)


def _fill(
    packed: bytes, method: str, images: Sequence[RemoteImage], sizes: Sequence[int], bounds: Bounds
) -> tuple[Call, tuple[bytes]]:
    """The call without its body, and its body."""
    kind, read = _KINDS[method]
    at = len(packed) - sum(sizes)
    request = kind.FromString(packed[:at])
    for image, size in zip(images, sizes, strict=True):
        request.chat.messages[image.message].parts[image.part].image.data = packed[at : at + size]
        at += size
    call = read(request.SerializeToString(), bounds)
    return replace(call, body=b""), (call.body,)

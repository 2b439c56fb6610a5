"""Reads the native requests of clients: small ones at once, large ones in another process."""

from collections.abc import Callable
from dataclasses import replace

from google.protobuf.message import Message

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.requests.bounds import Bounds, is_light_protobuf
from infermesh_router.requests.call import Call
from infermesh_router.requests.kinds.generate import read_generate
from infermesh_router.requests.kinds.sound import read_speak, read_transcribe
from infermesh_router.requests.kinds.tensors import read_infer
from infermesh_router.requests.kinds.texts import read_embed, read_score
from infermesh_router.requests.kinds.tokens import read_detokenize, read_tokenize
from infermesh_router.requests.parsing_pool import ParsingPool

Read = Callable[[bytes, Bounds], Call]


class RequestReader:
    """Reads serialised requests within bounds, without holding up the event loop."""

    def __init__(self, pool: ParsingPool, bounds: Bounds) -> None:
        self._pool = pool
        self._bounds = bounds

    async def generate(self, body: bytes) -> Call:
        """Reads a GenerateRequest, and adds a seed if it has none. Raises InvalidArgument."""
        return await self._read(read_generate, pb.GenerateRequest, body)

    async def embed(self, body: bytes) -> Call:
        """Reads an EmbedRequest. Raises InvalidArgument."""
        return await self._read(read_embed, pb.EmbedRequest, body)

    async def score(self, body: bytes) -> Call:
        """Reads a ScoreRequest. Raises InvalidArgument."""
        return await self._read(read_score, pb.ScoreRequest, body)

    async def infer(self, body: bytes) -> Call:
        """Reads an InferRequest, whose tensors nobody here looks at, however large. Raises InvalidArgument."""
        return read_infer(body)

    async def transcribe(self, body: bytes) -> Call:
        """Reads a TranscribeRequest, whose sound nobody here looks at; adds a seed. Raises InvalidArgument."""
        return read_transcribe(body)

    async def speak(self, body: bytes) -> Call:
        """Reads a SpeakRequest. Raises InvalidArgument."""
        return read_speak(body)

    async def tokenize(self, body: bytes) -> Call:
        """Reads a TokenizeRequest. Raises InvalidArgument."""
        return await self._read(read_tokenize, pb.TokenizeRequest, body)

    async def detokenize(self, body: bytes) -> Call:
        """Reads a DetokenizeRequest. Raises InvalidArgument."""
        return await self._read(read_detokenize, pb.DetokenizeRequest, body)

    async def _read(self, read: Read, kind: type[Message], body: bytes) -> Call:
        if is_light_protobuf(body, kind):
            return read(body, self._bounds)
        call, (whole,) = await self._pool.run(_read_heavy, body, read, kind, self._bounds)
        return replace(call, body=whole)


def _read_heavy(body: bytes, read: Read, kind: type[Message], bounds: Bounds) -> tuple[Call, tuple[bytes]]:
    """The call without its body, and its body."""
    bounds.check_protobuf(body, kind)
    call = read(body, bounds)
    return replace(call, body=b""), (call.body,)

"""Takes bodies for a model out of serialised ModelBody messages: unpacked, and parted into JSON and binary tensors."""

from dataclasses import dataclass

from google.protobuf.message import DecodeError

from infermesh.kserve.v1 import kserve_pb2 as pb
from infermesh_router.kserve.tensors.wire import Bytes, malformed, set_apart
from infermesh_router.openai.bodies import BodyRules
from infermesh_router.openai.packed_body import encoding_of, read_body, unpack_body, unpacked_body_size
from infermesh_router.requests.parsing_pool import ParsingPool
from infermesh_router.requests.unpacking import unpack_small
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.rpc.context import RpcContext
from infermesh_runtime.rpc.limits.body_budget import SMALL_BYTES

JSON_BYTES_KEY = "inference-header-content-length"
"""The header that says how long the JSON is, where binary tensors stand behind it."""
_DATA_FIELD = 2


@dataclass(frozen=True, slots=True)
class Arrived:
    """A body for a model, as it was sent."""

    model: str
    version: str
    content: Bytes
    """The serialised HttpBody."""


@dataclass(frozen=True, slots=True)
class Parted:
    """A body in its parts."""

    json: bytes
    binary: Bytes


def read_model_body(message: bytes) -> Arrived:
    """The parts of a serialised ModelBody. Raises InvalidArgument."""
    head, contents = set_apart(message, pb.ModelBody.CONTENT_FIELD_NUMBER)
    try:
        named = pb.ModelBody.FromString(head)
    except DecodeError:  # the name is not UTF-8
        raise malformed() from None
    return Arrived(named.model, named.version, contents[-1] if contents else b"")


async def part(content: Bytes, context: RpcContext, rules: BodyRules, pool: ParsingPool) -> Parted:
    """The JSON of a body and the tensors behind it. Raises InvalidArgument."""
    body = memoryview(await _unpacked(content, context, rules, pool))
    if len(body) > rules.max_bytes:
        raise InvalidArgument(
            f"The body has {len(body)} bytes; at most {rules.max_bytes} are allowed.", reason="REQUEST_TOO_LARGE"
        )
    told = next((str(value) for key, value in context.invocation_metadata() if key == JSON_BYTES_KEY), None)
    if told is None:
        return Parted(bytes(body), b"")
    if not told.isascii() or not told.isdecimal() or len(told) > 18 or int(told) > len(body):
        problem = f"must be the length of the JSON in the body of {len(body)} bytes, not '{told[:40]}'"
        raise InvalidArgument(f"The header {JSON_BYTES_KEY} {problem}.", fields={JSON_BYTES_KEY: problem})
    return Parted(bytes(body[: int(told)]), body[int(told) :])


async def _unpacked(content: Bytes, context: RpcContext, rules: BodyRules, pool: ParsingPool) -> Bytes:
    """The body, which the client may have compressed. Large ones are unpacked elsewhere, once their size is known."""
    encoding = encoding_of(context)
    data = _data(content)
    if not encoding:
        return data
    if len(data) <= SMALL_BYTES:
        small = unpack_small(bytes(data), encoding, up_to_bytes=SMALL_BYTES)
        if small is not None:
            return small
    message = bytes(content)
    size_bytes, _ = await pool.run(unpacked_body_size, message, encoding, rules.max_bytes)
    context.body.arrived(size_bytes)
    _, (unpacked,) = await pool.run(_unpack, message, encoding, rules.max_bytes)
    return unpacked


def _unpack(message: bytes, encoding: str, max_bytes: int) -> tuple[None, list[bytes]]:
    return None, [read_body(unpack_body(message, encoding, max_bytes))]


def _data(content: Bytes) -> Bytes:
    """The data of a serialised HttpBody."""
    try:
        _, data = set_apart(content, _DATA_FIELD)
    except InvalidArgument:
        raise malformed() from None
    return data[-1] if data else b""

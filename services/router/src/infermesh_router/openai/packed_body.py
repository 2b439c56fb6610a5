"""Takes the body out of an HttpBody message, and unpacks one that the client compressed."""

from google.api.httpbody_pb2 import HttpBody
from google.protobuf.message import DecodeError

from infermesh_router.requests.unpacking import ENCODING_KEY, unpack, unpack_small, unpacked_size
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.rpc.context import RpcContext
from infermesh_runtime.rpc.limits.body_budget import SMALL_BYTES

_FRAMING_BYTES = 1024
"""More than HttpBody adds to a body."""


_OTHER_NAMES = {"x-gzip": "gzip", "identity": ""}


def encoding_of(context: RpcContext) -> str:
    """How the body of a call is compressed; "" if it is not."""
    sent = next((str(value) for key, value in context.invocation_metadata() if key == ENCODING_KEY), "")
    return _OTHER_NAMES.get(sent, sent)


def read_body(message: bytes) -> bytes:
    """The body in a serialised HttpBody. Raises InvalidArgument."""
    return bytes(read_message(message).data)


def read_message(message: bytes) -> HttpBody:
    """A serialised HttpBody. Raises InvalidArgument."""
    try:
        return HttpBody.FromString(message)
    except DecodeError as error:
        raise InvalidArgument("The request is not a valid protobuf message.", reason="MALFORMED_MESSAGE") from error


def unpack_body(message: bytes, encoding: str, max_bytes: int) -> bytes:
    """The message with its body unpacked. Raises InvalidArgument."""
    return _with_body(unpack(read_body(message), encoding, max_bytes=max_bytes))


def unpack_small_body(message: bytes, encoding: str) -> bytes | None:
    """The same for the event loop; None if that would take more than a few milliseconds."""
    if len(message) > SMALL_BYTES + _FRAMING_BYTES:
        return None
    unpacked = unpack_small(read_body(message), encoding, up_to_bytes=SMALL_BYTES)
    return None if unpacked is None else _with_body(unpacked)


def unpacked_body_size(message: bytes, encoding: str, max_bytes: int) -> tuple[int, tuple[()]]:
    """How many bytes the body becomes, in the form that the parsing pool returns. Raises InvalidArgument."""
    return unpacked_size(read_body(message), encoding, max_bytes=max_bytes), ()


def _with_body(body: bytes) -> bytes:
    return bytes(HttpBody(data=body).SerializeToString())

"""Reads the bodies of calls that only name a model, which are small, on the event loop."""

from infermesh_router.ollama.schema import NamedModel
from infermesh_router.openai.errors import invalid
from infermesh_router.openai.packed_body import read_body, unpack_small_body
from infermesh_router.openai.parse import parse_body
from infermesh_router.requests.bounds import is_light_json
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.rpc.limits.body_budget import SMALL_BYTES


def read_named_model(message: bytes, encoding: str) -> NamedModel:
    """The body in a serialised HttpBody. Unknown fields are ignored. Raises InvalidArgument."""
    unpacked = unpack_small_body(message, encoding) if encoding else message
    if unpacked is None or not is_light_json(unpacked):
        raise InvalidArgument(
            f"The body is too large: this call takes at most {SMALL_BYTES} bytes.", reason="REQUEST_TOO_LARGE"
        )
    parsed = parse_body(NamedModel, read_body(unpacked), ignore_unknown=True).request
    if not (parsed.model or parsed.name):
        raise invalid("model", "is required", reason="MISSING_REQUIRED_PARAMETER")
    return parsed

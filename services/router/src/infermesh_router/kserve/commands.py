"""Reads the small bodies of commands over REST: of the repository and of shared memory."""

from typing import TypeVar

from google.api.httpbody_pb2 import HttpBody
from pydantic import BaseModel, Field

from infermesh.kserve.v1 import kserve_pb2 as pb
from infermesh.open_inference.v2 import open_inference_pb2 as oip
from infermesh_router.openai.packed_body import encoding_of
from infermesh_router.openai.parse import parse_body
from infermesh_router.openai.schema.fields import Strict
from infermesh_router.requests.unpacking import unpack_small
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.rpc.context import RpcContext

ModelT = TypeVar("ModelT", bound=BaseModel)
_MAX_BYTES = 16 * 1024


class _Index(Strict):
    ready: bool | None = None


class _Region(Strict):
    key: str
    offset: int = Field(0, ge=0, lt=1 << 63)
    byte_size: int = Field(ge=0, lt=1 << 63)


def read_flags(content: HttpBody, name: str, context: RpcContext) -> bool:
    """A flag in a body that may be empty. Raises InvalidArgument."""
    body = _data(content, context)
    return bool(body and getattr(_parse(_Index, body), name))


def read_region(request: pb.RegionBody, context: RpcContext) -> oip.SystemSharedMemoryRegisterRequest:
    """The region to register. Raises InvalidArgument."""
    region = _parse(_Region, _data(request.content, context) or b"{}")
    return oip.SystemSharedMemoryRegisterRequest(
        name=request.region, key=region.key, offset=region.offset, byte_size=region.byte_size
    )


def read_load(request: pb.ModelBody) -> oip.RepositoryModelLoadRequest:
    """The model to load. What a body says beside it is refused where loading is allowed at all, over gRPC."""
    return oip.RepositoryModelLoadRequest(model_name=request.model)


def _parse(schema: type[ModelT], body: bytes) -> ModelT:
    return parse_body(schema, body, ignore_unknown=False).request


def _data(content: HttpBody, context: RpcContext) -> bytes:
    encoding = encoding_of(context)
    data = bytes(content.data)
    unpacked = unpack_small(data, encoding, up_to_bytes=_MAX_BYTES) if encoding else data
    if unpacked is None or len(unpacked) > _MAX_BYTES:
        raise InvalidArgument(f"The body has more than {_MAX_BYTES} bytes.", reason="REQUEST_TOO_LARGE")
    return unpacked

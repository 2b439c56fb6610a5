"""How routers side by side mark the calls that they make to each other, so that none is passed on again."""

from typing import Any

import orjson

from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.rpc.context import RpcContext

_MARK = "x-infermesh-sibling"
_VIEWER = "x-infermesh-viewer-bin"
_ENDPOINT = "x-infermesh-endpoint-bin"
Metadata = tuple[tuple[str, str | bytes], ...]


def sibling_metadata(**viewer: object) -> Metadata:
    """Marks a call as another router's. `viewer`: for whom it asks, if what it gets depends on that."""
    return ((_MARK, "1"), *(((_VIEWER, orjson.dumps(viewer)),) if viewer else ()))


def metadata_about(endpoint: str) -> Metadata:
    """Marks a call as another router's which is about one endpoint alone; "": about all."""
    return (*sibling_metadata(), *(((_ENDPOINT, endpoint.encode()),) if endpoint else ()))


def told_endpoint(context: RpcContext) -> str:
    """The endpoint that the other router's call is about alone; "": all."""
    for name, value in context.invocation_metadata():
        if name == _ENDPOINT and isinstance(value, bytes):
            return value.decode(errors="replace")
    return ""


def is_sibling(context: RpcContext) -> bool:
    """Whether another router calls, which wants what this one does and knows itself."""
    return any(name == _MARK for name, _ in context.invocation_metadata())


def told_viewer(context: RpcContext) -> dict[str, Any]:
    """For whom the other router asks. Raises InvalidArgument."""
    for name, value in context.invocation_metadata():
        if name == _VIEWER:
            told = orjson.loads(value)
            if isinstance(told, dict):
                return told
    raise InvalidArgument("Only routers of the same mesh ask for this here.", reason="NOT_A_ROUTER")

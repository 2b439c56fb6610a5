"""Describes MeshService for /openapi.json."""

from collections.abc import Mapping
from typing import Any

from infermesh.mesh.v1 import mesh_pb2 as pb
from infermesh_router.description.api import EVENTS, JSON, DescribedApi
from infermesh_router.openai.openapi import OPENAI_ERROR

_SECONDS = {"type": "number", "minimum": 0}
_SWITCH = {"type": "boolean"}
_TEXT = {"type": "string"}


def _body(**properties: Mapping[str, Any]) -> Mapping[str, Any]:
    return {JSON: {"schema": {"type": "object", "properties": properties}}}


MESH_API = DescribedApi(
    service=pb.DESCRIPTOR.services_by_name["MeshService"],
    bodies={},
    error=OPENAI_ERROR,
    answers={"WatchEvents": (EVENTS,), "GetPage": ("text/html", "text/plain", "*/*")},
    sent={
        "DrainEndpoint": _body(move_after_s=_SECONDS),
        "ResumeEndpoint": _body(),
        "LoadModel": _body(pinned=_SWITCH, keep_alive_s=_SECONDS, device=_TEXT),
        "UnloadModel": _body(force=_SWITCH),
        "StartImport": _body(source=_TEXT, name=_TEXT, endpoint=_TEXT, weights=_TEXT, force=_SWITCH),
    },
)

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


def _query(name: str, about: str, **schema: Any) -> Mapping[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": about, "schema": schema}


_SERVICE = pb.DESCRIPTOR.services_by_name["MeshService"]
_BYTES = frozenset({"WatchEvents", "GetPage"})
_EVENTS = ("Snapshot", "ChoiceEvent", "FailoverEvent", "RestartEvent", "StateEvent", "LostEvent")
_LAST_ID = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "description": "The id of the last event that the caller had; it gets those after it.",
    "schema": _TEXT,
}

MESH_API = DescribedApi(
    service=_SERVICE,
    bodies={},
    error=OPENAI_ERROR,
    answers={"WatchEvents": (EVENTS,), "GetPage": ("text/html", "text/plain", "*/*")},
    told={
        **{method.name: (method.output_type,) for method in _SERVICE.methods if method.name not in _BYTES},
        "WatchEvents": tuple(pb.DESCRIPTOR.message_types_by_name[name] for name in _EVENTS),
    },
    parameters={
        "WatchEvents": (_LAST_ID,),
        "ListReceipts": (
            _query("limit", "Most receipts to list.", type="integer", minimum=1, maximum=200, default=20),
        ),
        "RemoveModel": (_query("endpoint", "Address of the only endpoint to remove it from.", type="string"),),
    },
    may_be_empty=frozenset({"DrainEndpoint", "ResumeEndpoint", "LoadModel", "UnloadModel"}),
    sent={
        "DrainEndpoint": _body(move_after_s=_SECONDS),
        "ResumeEndpoint": _body(),
        "LoadModel": _body(pinned=_SWITCH, keep_alive_s=_SECONDS, device=_TEXT),
        "UnloadModel": _body(force=_SWITCH),
        "StartImport": _body(source=_TEXT, name=_TEXT, endpoint=_TEXT, weights=_TEXT, force=_SWITCH),
    },
)

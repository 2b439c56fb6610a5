"""Describes the REST half of the Open Inference Protocol for /openapi.json."""

from infermesh.kserve.v1 import kserve_pb2 as pb
from infermesh_router.description.api import EVENTS, JSON, DescribedApi
from infermesh_router.kserve.text.schema import GenerateBody

OCTETS = "application/octet-stream"

_OBJECT = {JSON: {"schema": {"type": "object"}}}

KSERVE_API = DescribedApi(
    service=pb.DESCRIPTOR.services_by_name["KServeService"],
    prefix="KServe",
    bodies={"Generate": (GenerateBody,), "GenerateStream": (GenerateBody,)},
    error={"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}},
    answers={"Infer": (JSON, OCTETS), "GenerateStream": (EVENTS,)},
    sent={
        "Infer": {**_OBJECT, OCTETS: {}},  # JSON, and with the binary extension, tensors behind it
        **dict.fromkeys(
            ("ListRepository", "LoadModel", "UnloadModel", "RegisterSharedMemory", "UnregisterSharedMemory"), _OBJECT
        ),
    },
)

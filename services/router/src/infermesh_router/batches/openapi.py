"""Describes files and batches for /openapi.json."""

from infermesh.openai.v1 import batches_pb2 as pb
from infermesh_router.batches.schema import BATCH_BODIES
from infermesh_router.description.api import DescribedApi
from infermesh_router.openai.openapi import OPENAI_ERROR

OCTETS = "application/octet-stream"
FORM = "multipart/form-data"
_UPLOAD = {
    "type": "object",
    "required": ["file", "purpose"],
    "properties": {"file": {"type": "string", "format": "binary"}, "purpose": {"const": "batch"}},
}

BATCH_API = DescribedApi(
    service=pb.DESCRIPTOR.services_by_name["BatchService"],
    bodies=BATCH_BODIES,
    error=OPENAI_ERROR,
    answers={"GetFileContent": (OCTETS,)},
    sent={"CreateFile": {FORM: {"schema": _UPLOAD}}},
)

"""Describes Ollama's API for /openapi.json."""

from infermesh.ollama.v1 import ollama_pb2 as pb
from infermesh_router.description.api import JSON, DescribedApi
from infermesh_router.ollama.answers import LINES
from infermesh_router.ollama.refused import ALWAYS_REFUSED
from infermesh_router.ollama.schema import ChatBody, GenerateBody, NamedModel

OLLAMA_API = DescribedApi(
    service=pb.DESCRIPTOR.services_by_name["OllamaService"],
    prefix="Ollama",
    bodies={"Chat": (ChatBody,), "Generate": (GenerateBody,), "ShowModel": (NamedModel,), "PullModel": (NamedModel,)},
    error={"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}},
    stream_type=LINES,
    answers={"PullModel": (JSON, LINES)},
    sent={"CreateBlob": {"application/octet-stream": {}}},
    refused=ALWAYS_REFUSED,
)

"""Converts bodies of /v1/responses as the router does, for tests."""

import json
from typing import Any

import pytest
from google.api.httpbody_pb2 import HttpBody

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.openai.bodies import BodyRules
from infermesh_router.openai.conversion import Converted
from infermesh_router.requests.bounds import Bounds
from infermesh_router.responses.convert import Past, convert_response
from infermesh_runtime.errors import InvalidArgument

RULES = BodyRules(ignore_unknown=True, max_bytes=1 << 20, bounds=Bounds(messages=100, parts=100, values=10_000))


def convert(body: dict[str, Any], past: Past | None = None) -> Converted:
    """The job of a body that has a model and a short input, if it says nothing else."""
    document = {"model": "m", "input": "hi"} | body
    message = HttpBody(data=json.dumps(document).encode()).SerializeToString()
    return convert_response(message, RULES, past=past)


def request_of(body: dict[str, Any], past: Past | None = None) -> pb.GenerateRequest:
    """What the worker is asked for a body."""
    (call,) = convert(body, past).job.calls
    return pb.GenerateRequest.FromString(call.body)


def refused(body: dict[str, Any]) -> InvalidArgument:
    """The error for a body."""
    with pytest.raises(InvalidArgument) as caught:
        convert(body)
    return caught.value

"""A priority is within bounds, whichever API it comes through."""

import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.openai.parse import parse_body
from infermesh_router.openai.schema.completion import CompletionRequest
from infermesh_router.requests.call import MAX_PRIORITY
from infermesh_router.requests.kinds.generate import read_generate
from infermesh_runtime.errors import InvalidArgument


@pytest.mark.parametrize("priority", [-MAX_PRIORITY, 0, MAX_PRIORITY])
def test_within_the_bounds(priority: int) -> None:
    request = pb.GenerateRequest(text="x", priority=priority)
    assert read_generate(request.SerializeToString()).wanted.priority == priority
    parse_body(CompletionRequest, b'{"model": "m", "prompt": "x", "priority": %d}' % priority, ignore_unknown=False)


@pytest.mark.parametrize("priority", [-MAX_PRIORITY - 1, MAX_PRIORITY + 1, -(2**31) + 1, 2**31 - 1])
def test_beyond_them(priority: int) -> None:
    with pytest.raises(InvalidArgument, match="priority: must be from -100 to 100"):
        read_generate(pb.GenerateRequest(text="x", priority=priority).SerializeToString())
    with pytest.raises(InvalidArgument):
        parse_body(CompletionRequest, b'{"model": "m", "prompt": "x", "priority": %d}' % priority, ignore_unknown=False)

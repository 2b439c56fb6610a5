"""Checks fields that requests about texts have in common."""

from typing import Any

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_worker.rpc.prompts.prompt import invalid
from infermesh_worker.rpc.tensors.infer import MAX_PRIORITY


def check_priority(priority: int) -> None:
    """Raises InvalidArgument for a priority out of range."""
    if abs(priority) > MAX_PRIORITY:
        raise invalid("priority", f"must be from {-MAX_PRIORITY} to {MAX_PRIORITY}, not {priority}")


def known(request: pb.EmbedRequest | pb.ScoreRequest, field: str, values: Any) -> Any:
    """The value of a field that is an enum. Raises InvalidArgument for a number that stands for nothing."""
    value = getattr(request, field)
    if value not in values.values():
        raise invalid(field, f"there is no value {value}; the values are {', '.join(values.keys())}")
    return value

"""Builds the InferRequest that both clients send, and reads the arrays of its answer."""

from collections.abc import Mapping, Sequence

from infermesh.inference.v1 import inference_pb2
from infermesh_runtime.tensors import Array, from_numpy, to_numpy


def build_infer_request(
    model: str, inputs: Mapping[str, Array], *, outputs: Sequence[str], device: str, priority: int
) -> inference_pb2.InferRequest:
    """The request. Raises InvalidArgument, which names the input, for an array that is no tensor."""
    tensors = [from_numpy(array, name=name) for name, array in inputs.items()]
    return inference_pb2.InferRequest(model=model, inputs=tensors, outputs=outputs, device=device, priority=priority)


def arrays_of(response: inference_pb2.InferResponse) -> dict[str, Array]:
    """The outputs by name, as read-only arrays."""
    return {tensor.name: to_numpy(tensor, field="outputs") for tensor in response.outputs}

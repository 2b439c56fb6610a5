"""Tensors are read from a request's bytes as protobuf reads them, but without a copy."""

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.tensor.v1.tensor_pb2 import DataType, Tensor
from infermesh_runtime.errors import InvalidArgument, ResourceExhausted
from infermesh_worker.executors.wire_tensors import flatten
from infermesh_worker.rpc.tensors.infer import check_size
from infermesh_worker.rpc.tensors.tensor_wire import MAX_INPUTS, read_request, write_response

TENSORS = st.builds(
    Tensor,
    name=st.text(max_size=8),
    dtype=st.sampled_from(DataType.values()),
    shape=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5),
    data=st.binary(max_size=50),
)
REQUESTS = st.builds(
    pb.InferRequest,
    model=st.text(max_size=8),
    inputs=st.lists(TENSORS, max_size=4),
    outputs=st.lists(st.text(max_size=4), max_size=3),
    device=st.text(max_size=4),
    priority=st.integers(-200, 200),
)


@given(REQUESTS)
def test_a_request_is_read_as_protobuf_reads_it(request_: pb.InferRequest) -> None:
    rest, inputs = read_request(request_.SerializeToString())
    for given_tensor in inputs:
        whole = rest.inputs.add()
        whole.CopyFrom(given_tensor.header)
        whole.data = bytes(given_tensor.data)
    expected = pb.InferRequest.FromString(request_.SerializeToString())
    for tensor in (*rest.inputs, *expected.inputs):
        tensor.data = tensor.data or b""  # an empty payload is a payload
    assert rest == expected


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    with suppress(InvalidArgument):
        read_request(body)


def test_the_data_of_a_request_is_not_copied() -> None:
    body = pb.InferRequest(inputs=[Tensor(name="x", data=bytes(range(200)))]).SerializeToString()
    (tensor,) = read_request(body)[1]
    assert np.shares_memory(np.frombuffer(tensor.data, np.uint8), np.frombuffer(body, np.uint8))


def test_a_request_of_countless_parts_is_refused() -> None:
    many = pb.InferRequest(inputs=[Tensor(name="x")] * (MAX_INPUTS + 1)).SerializeToString()
    wide = pb.InferRequest(inputs=[Tensor(name="x", shape=[1] * 100_000)]).SerializeToString()
    for body in (many, wide):
        with pytest.raises(InvalidArgument):
            read_request(body)


def test_a_response_is_what_protobuf_would_write() -> None:
    y = np.arange(6, dtype=np.float32).reshape(2, 3)
    empty = np.empty((0, 2), np.int64)
    body = write_response("m", [flatten("y", y), flatten("e", empty)])
    response = pb.InferResponse.FromString(body)
    assert response.model == "m"
    assert [(tensor.name, list(tensor.shape)) for tensor in response.outputs] == [("y", [2, 3]), ("e", [0, 2])]
    assert response.outputs[0].data == y.tobytes()
    assert response.outputs[1].dtype == DataType.DATA_TYPE_INT64


def test_outputs_that_no_message_can_hold_are_refused_by_size() -> None:
    with pytest.raises(ResourceExhausted, match="'y' 68000000"):
        check_size([flatten("y", np.zeros(17_000_000, np.float32))])
    assert check_size([flatten("y", np.zeros(2, np.float32))]) == 8

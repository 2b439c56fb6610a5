"""The router reads what an Infer request wants, and nothing of its tensors."""

import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.tensor.v1.tensor_pb2 import DataType, Tensor
from infermesh_router.requests.kinds.tensors import MAX_INFER_FIELDS, read_infer
from infermesh_runtime.errors import InvalidArgument

TENSOR = Tensor(name="x", dtype=DataType.DATA_TYPE_UINT8, shape=[8 << 20], data=bytes(8 << 20))


def test_what_it_wants_is_read_around_its_tensors() -> None:
    body = pb.InferRequest(model="m", inputs=[TENSOR], outputs=["y"], device="GPU", priority=7).SerializeToString()
    call = read_infer(body)
    assert (call.wanted.model, call.wanted.device, call.wanted.priority) == ("m", "gpu", 7)
    assert call.body == body
    assert pb.InferRequest.FromString(call.for_model("n").body).model == "n"


@pytest.mark.parametrize("priority", [101, -101])
def test_priorities_out_of_range_are_refused(priority: int) -> None:
    with pytest.raises(InvalidArgument, match="priority: must be from -100 to 100"):
        read_infer(pb.InferRequest(priority=priority).SerializeToString())


def test_what_is_no_request_is_refused() -> None:
    whole = pb.InferRequest(model="m", inputs=[TENSOR]).SerializeToString()
    for body in (whole[:-1], b"\xff" * 20, b"\x07"):
        with pytest.raises(InvalidArgument, match="not a valid protobuf"):
            read_infer(body)


def test_a_request_of_countless_fields_is_refused_quickly() -> None:
    with pytest.raises(InvalidArgument, match="more than"):
        read_infer(pb.InferRequest(outputs=["y"] * (MAX_INFER_FIELDS + 1)).SerializeToString())

"""Reads InferRequests: what they want, but not their tensors, however large."""

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.policy.snapshot import Wanted
from infermesh_router.requests.call import ANY_DEVICE, INFER, Call
from infermesh_router.requests.kinds.common import check_priority, device_of, parse_request, without_fields

MAX_INFER_FIELDS = 1024
"""Most fields of an InferRequest, its inputs included."""
_INPUTS = pb.InferRequest.DESCRIPTOR.fields_by_name["inputs"].number


def read_infer(body: bytes) -> Call:
    """Reads a serialised InferRequest, but not its tensors. Raises InvalidArgument."""
    request = parse_request(pb.InferRequest, without_fields(body, {_INPUTS}, MAX_INFER_FIELDS))
    check_priority(request.priority)
    wanted = Wanted(model=request.model, device=device_of(request.device), priority=request.priority)
    return Call(method=INFER, body=body, wanted=wanted, any_device=ANY_DEVICE[pb.InferRequest])

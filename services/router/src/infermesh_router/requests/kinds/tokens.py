"""Reads TokenizeRequests and DetokenizeRequests."""

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.policy.snapshot import Wanted
from infermesh_router.requests.bounds import Bounds
from infermesh_router.requests.call import ANY_DEVICE, DETOKENIZE, TOKENIZE, Call
from infermesh_router.requests.kinds.common import NO_BOUNDS, device_of, find_image, parse_request


def read_tokenize(body: bytes, bounds: Bounds = NO_BOUNDS) -> Call:
    """Reads a serialised TokenizeRequest. Raises InvalidArgument."""
    request = parse_request(pb.TokenizeRequest, body)
    bounds.check_messages(len(request.chat.messages), "chat.messages")
    chat = request.WhichOneof("prompt") == "chat"
    image = find_image(request.chat) if chat else ""
    wanted = Wanted(model=request.model, device=device_of(request.device), chat=chat, image=image, max_tokens=1)
    return Call(method=TOKENIZE, body=body, wanted=wanted, any_device=ANY_DEVICE[pb.TokenizeRequest])


def read_detokenize(body: bytes, bounds: Bounds = NO_BOUNDS) -> Call:  # noqa: ARG001 - the same signature for every kind
    """Reads a serialised DetokenizeRequest. Raises InvalidArgument."""
    request = parse_request(pb.DetokenizeRequest, body)
    wanted = Wanted(model=request.model, device=device_of(request.device), max_tokens=1)
    return Call(method=DETOKENIZE, body=body, wanted=wanted, any_device=ANY_DEVICE[pb.DetokenizeRequest])

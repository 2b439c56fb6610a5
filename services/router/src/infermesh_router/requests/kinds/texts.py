"""Reads EmbedRequests and ScoreRequests."""

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.policy.snapshot import Wanted
from infermesh_router.requests.bounds import Bounds
from infermesh_router.requests.call import ANY_DEVICE, EMBED, SCORE, Call
from infermesh_router.requests.kinds.common import NO_BOUNDS, check_priority, device_of, estimate_tokens, parse_request


def read_embed(body: bytes, bounds: Bounds = NO_BOUNDS) -> Call:  # noqa: ARG001 - the same signature for every kind
    """Reads a serialised EmbedRequest. Raises InvalidArgument."""
    request = parse_request(pb.EmbedRequest, body)
    check_priority(request.priority)
    tokens = estimate_tokens(request.texts) + sum(len(text.ids) for text in request.token_ids)
    wanted = Wanted(
        model=request.model, device=device_of(request.device), prompt_tokens=tokens, priority=request.priority
    )
    return Call(method=EMBED, body=body, wanted=wanted, any_device=ANY_DEVICE[pb.EmbedRequest])


def read_score(body: bytes, bounds: Bounds = NO_BOUNDS) -> Call:  # noqa: ARG001 - the same signature for every kind
    """Reads a serialised ScoreRequest. Raises InvalidArgument."""
    request = parse_request(pb.ScoreRequest, body)
    check_priority(request.priority)
    queries = estimate_tokens(request.queries) * (len(request.texts) if len(request.queries) == 1 else 1)
    wanted = Wanted(
        model=request.model,
        device=device_of(request.device),
        prompt_tokens=queries + estimate_tokens(request.texts),
        priority=request.priority,
    )
    return Call(method=SCORE, body=body, wanted=wanted, any_device=ANY_DEVICE[pb.ScoreRequest])

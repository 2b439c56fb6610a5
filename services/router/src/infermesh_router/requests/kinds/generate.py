"""Reads GenerateRequests: the hashes of their prompt's beginning, its size, and what they want."""

import secrets

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.policy.prefix.prefix_hash import IMAGE_TOKENS, hash_prompt
from infermesh_router.policy.snapshot import Wanted
from infermesh_router.requests.bounds import Bounds
from infermesh_router.requests.call import ANY_DEVICE, GENERATE, NO_LIMIT, Call
from infermesh_router.requests.kinds.common import (
    CHARACTERS_PER_TOKEN,
    NO_BOUNDS,
    check_priority,
    device_of,
    find_image,
    parse_request,
)
from infermesh_runtime.errors import InvalidArgument

_MAX_CHOICES = 128
"""The worker refuses requests for more; until then they must not count as more work than can be."""
_TOKENS_PER_MESSAGE = 4


def read_generate(body: bytes, bounds: Bounds = NO_BOUNDS) -> Call:
    """Reads a serialised GenerateRequest, and adds a seed if it has none. Raises InvalidArgument."""
    request = parse_request(pb.GenerateRequest, body)
    bounds.check_messages(len(request.chat.messages), "chat.messages")
    return _generate_call(request, body)


def from_generate(request: pb.GenerateRequest) -> Call:
    """The call of a request that the router itself made, which gets a seed if it has none. Raises InvalidArgument."""
    if not request.HasField("seed"):
        request.seed = secrets.randbits(64)
    return _generate_call(request, request.SerializeToString())


def _generate_call(request: pb.GenerateRequest, body: bytes) -> Call:
    check_priority(request.priority)
    if request.generated:
        _check_generated(request)
    if not request.HasField("seed"):
        body += pb.GenerateRequest(seed=secrets.randbits(64)).SerializeToString()
    chat = request.WhichOneof("prompt") == "chat"
    wanted = Wanted(
        model=request.model,
        device=device_of(request.device),
        prompt_tokens=_estimate_prompt_tokens(request),
        sequences=min(max(1, request.n), _MAX_CHOICES),
        blocks=hash_prompt(request),
        client=request.client_id,
        priority=request.priority,
        max_tokens=0 if request.stop.max_tokens == NO_LIMIT else request.stop.max_tokens,
        chat=chat,
        image=find_image(request.chat) if chat else "",
    )
    return Call(
        method=GENERATE,
        body=body,
        wanted=wanted,
        session_id=request.session_id,
        any_device=ANY_DEVICE[pb.GenerateRequest],
        asked=_asked(request),
    )


def _asked(request: pb.GenerateRequest) -> tuple[str, ...]:
    names = tuple(field.name for field, _ in request.sampling.ListFields())
    return (*names, "max_tokens") if request.stop.HasField("max_tokens") else names


def _check_generated(request: pb.GenerateRequest) -> None:
    """Raises InvalidArgument if nothing is left to run: such a stream ends at once, as one that was cut does."""
    n = request.n if request.HasField("n") else 1
    finished = {part.choice for part in request.generated if part.finished and part.choice < n}
    if 0 < n <= len(finished):
        problem = "has every choice finished, so there is nothing to run"
        raise InvalidArgument(f"generated {problem}", fields={"generated": problem})


def _estimate_prompt_tokens(request: pb.GenerateRequest) -> int:
    """The number of token ids, if the prompt is given as such; else a quarter of its characters."""
    kind = request.WhichOneof("prompt")
    if kind == "token_ids":
        stated = request.token_ids.shape[0] if request.token_ids.shape else 0
        return min(max(0, stated), len(request.token_ids.data))  # the worker checks that they match; an id has a byte
    if kind == "text":
        return len(request.text) // CHARACTERS_PER_TOKEN
    chat = request.chat
    told = sum(len(tool.name) + len(tool.description) + len(tool.parameters_json) for tool in chat.tools)
    messages = sum(_characters(m) // CHARACTERS_PER_TOKEN + _TOKENS_PER_MESSAGE for m in chat.messages)
    return messages + told // CHARACTERS_PER_TOKEN


def _characters(message: pb.ChatMessage) -> int:
    count = len(message.content) + sum(map(len, message.content_parts))
    for part in message.parts:
        count += IMAGE_TOKENS * CHARACTERS_PER_TOKEN if part.HasField("image") else len(part.text)
    return count

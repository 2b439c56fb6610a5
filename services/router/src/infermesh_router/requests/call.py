"""Reads a request: what it wants, how large it is, and the bytes to send on."""

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeVar

from google.protobuf.message import DecodeError

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.policy.fast_replace import FastReplace
from infermesh_router.policy.prefix.prefix_hash import IMAGE_TOKENS, hash_prompt, rehash_for_model
from infermesh_router.policy.snapshot import Wanted, replace_wanted
from infermesh_router.requests.bounds import Bounds
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.wire_fields import fields

GENERATE = "/infermesh.inference.v1.InferenceService/Generate"
EMBED = "/infermesh.inference.v1.InferenceService/Embed"
SCORE = "/infermesh.inference.v1.InferenceService/Score"
INFER = "/infermesh.inference.v1.InferenceService/Infer"
TRANSCRIBE = "/infermesh.inference.v1.InferenceService/Transcribe"
SPEAK = "/infermesh.inference.v1.InferenceService/Speak"

TOKENIZE = "/infermesh.inference.v1.InferenceService/Tokenize"
DETOKENIZE = "/infermesh.inference.v1.InferenceService/Detokenize"

RequestT = TypeVar(
    "RequestT",
    pb.GenerateRequest,
    pb.EmbedRequest,
    pb.ScoreRequest,
    pb.InferRequest,
    pb.TranscribeRequest,
    pb.SpeakRequest,
    pb.TokenizeRequest,
    pb.DetokenizeRequest,
)

# Concatenated messages merge, so appending a serialised field sets it without serialising the prompt again.
_KINDS: dict[
    str,
    type[
        pb.GenerateRequest
        | pb.EmbedRequest
        | pb.ScoreRequest
        | pb.InferRequest
        | pb.TranscribeRequest
        | pb.SpeakRequest
        | pb.TokenizeRequest
        | pb.DetokenizeRequest
    ],
] = {
    GENERATE: pb.GenerateRequest,
    EMBED: pb.EmbedRequest,
    SCORE: pb.ScoreRequest,
    INFER: pb.InferRequest,
    TRANSCRIBE: pb.TranscribeRequest,
    SPEAK: pb.SpeakRequest,
    TOKENIZE: pb.TokenizeRequest,
    DETOKENIZE: pb.DetokenizeRequest,
}
ANY_DEVICE = {kind: kind(device="auto").SerializeToString() for kind in _KINDS.values()}
NO_LIMIT = 2**32 - 1
"""As the maximum number of tokens: as many as fit in the context."""
MAX_PRIORITY = 100
"""Priorities are from minus this to this."""
MAX_INFER_FIELDS = 1024
"""Most fields of an InferRequest, its inputs included."""
_INPUTS = pb.InferRequest.DESCRIPTOR.fields_by_name["inputs"].number
_MAX_CHOICES = 128
"""The worker refuses requests for more; until then they must not count as more work than can be."""
_BOUNDS = Bounds()
_CHARACTERS_PER_TOKEN = 4
_DEVICES = frozenset({"auto", "gpu", "cpu", "xpu", "cuda"})
_TOKENS_PER_MESSAGE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request of any kind, ready to be sent to endpoints as often as needed."""

    method: str
    body: bytes
    wanted: Wanted
    session_id: str = ""
    any_device: bytes
    """A serialised field; appended to the body, it asks for any device."""
    asked: tuple[str, ...] = ()
    """The names of the sampling parameters that the request itself sets, and "max_tokens" if it does."""

    @property
    def kind(self) -> str:
        """The name of its call, for example "Generate"."""
        return self.method.rpartition("/")[2]

    def body_for(self, address: str) -> bytes:
        """The body for an endpoint. One that the request names by its address is asked for any device instead."""
        return self.body + self.any_device if self.wanted.device == address else self.body

    def for_model(self, model: str) -> "Call":
        """The same call to another model."""
        if model == self.wanted.model:
            return self
        body = self.body + _KINDS[self.method](model=model).SerializeToString()
        blocks = rehash_for_model(self.wanted.blocks, self.wanted.model, model)
        return replace(self, body=body, wanted=replace(self.wanted, model=model, blocks=blocks))

    def with_client(self, client: str, *, member: str = "") -> "Call":
        """The same call, counted as this client's in the fair queue; `member` divides the client's share."""
        return _replace_call(self, wanted=replace_wanted(self.wanted, client=client, member=member))

    def named(self, client: str) -> "Call":
        """The same call as `with_client`, and the endpoint is told too: it may be a router."""
        wanted = replace_wanted(self.wanted, client=client, member="")
        return _replace_call(self, body=self.body + _client_field(client), wanted=wanted)

    def on_device(self, device: str) -> "Call":
        """The same call, for another device. Only the router knows the names of several, such as "cpu,xpu"."""
        body = self.body if "," in device else self.body + _device_field(self.method, device)
        return _replace_call(self, body=body, wanted=replace_wanted(self.wanted, device=device))


_replace_call = FastReplace(Call)


@lru_cache(maxsize=16)
def _device_field(method: str, device: str) -> bytes:
    return _KINDS[method](device=device).SerializeToString()


@lru_cache(maxsize=1024)
def _client_field(client: str) -> bytes:
    return pb.GenerateRequest(client_id=client).SerializeToString()


def read_generate(body: bytes, bounds: Bounds = _BOUNDS) -> Call:
    """Reads a serialised GenerateRequest, and adds a seed if it has none. Raises InvalidArgument."""
    request = parse_request(pb.GenerateRequest, body)
    bounds.check_messages(len(request.chat.messages), "chat.messages")
    return _generate_call(request, body)


def from_generate(request: pb.GenerateRequest) -> Call:
    """The call of a request that the router itself made, which gets a seed if it has none. Raises InvalidArgument."""
    if not request.HasField("seed"):
        request.seed = secrets.randbits(64)
    return _generate_call(request, request.SerializeToString())


def read_embed(body: bytes, bounds: Bounds = _BOUNDS) -> Call:  # noqa: ARG001 - the same signature for every kind
    """Reads a serialised EmbedRequest. Raises InvalidArgument."""
    request = parse_request(pb.EmbedRequest, body)
    check_priority(request.priority)
    tokens = _estimate(request.texts) + sum(len(text.ids) for text in request.token_ids)
    wanted = Wanted(
        model=request.model, device=device_of(request.device), prompt_tokens=tokens, priority=request.priority
    )
    return Call(method=EMBED, body=body, wanted=wanted, any_device=ANY_DEVICE[pb.EmbedRequest])


def read_score(body: bytes, bounds: Bounds = _BOUNDS) -> Call:  # noqa: ARG001 - the same signature for every kind
    """Reads a serialised ScoreRequest. Raises InvalidArgument."""
    request = parse_request(pb.ScoreRequest, body)
    check_priority(request.priority)
    queries = _estimate(request.queries) * (len(request.texts) if len(request.queries) == 1 else 1)
    wanted = Wanted(
        model=request.model,
        device=device_of(request.device),
        prompt_tokens=queries + _estimate(request.texts),
        priority=request.priority,
    )
    return Call(method=SCORE, body=body, wanted=wanted, any_device=ANY_DEVICE[pb.ScoreRequest])


def read_infer(body: bytes) -> Call:
    """Reads a serialised InferRequest, but not its tensors. Raises InvalidArgument."""
    request = parse_request(pb.InferRequest, without_fields(body, {_INPUTS}, MAX_INFER_FIELDS))
    check_priority(request.priority)
    wanted = Wanted(model=request.model, device=device_of(request.device), priority=request.priority)
    return Call(method=INFER, body=body, wanted=wanted, any_device=ANY_DEVICE[pb.InferRequest])


def without_fields(body: bytes, left_out: Collection[int], most: int) -> bytes:
    """A serialised message of at most `most` fields without some of them, which are not copied.

    Raises InvalidArgument.
    """
    try:
        return b"".join(whole for number, _, whole, _ in fields(memoryview(body), most) if number not in left_out)
    except (ValueError, IndexError) as error:
        raise InvalidArgument(
            f"The request is not a valid protobuf message: {error}", reason="MALFORMED_MESSAGE"
        ) from error


def read_tokenize(body: bytes, bounds: Bounds = _BOUNDS) -> Call:
    """Reads a serialised TokenizeRequest. Raises InvalidArgument."""
    request = parse_request(pb.TokenizeRequest, body)
    bounds.check_messages(len(request.chat.messages), "chat.messages")
    chat = request.WhichOneof("prompt") == "chat"
    image = _find_image(request.chat) if chat else ""
    wanted = Wanted(model=request.model, device=device_of(request.device), chat=chat, image=image, max_tokens=1)
    return Call(method=TOKENIZE, body=body, wanted=wanted, any_device=ANY_DEVICE[pb.TokenizeRequest])


def read_detokenize(body: bytes, bounds: Bounds = _BOUNDS) -> Call:  # noqa: ARG001 - the same signature for every kind
    """Reads a serialised DetokenizeRequest. Raises InvalidArgument."""
    request = parse_request(pb.DetokenizeRequest, body)
    wanted = Wanted(model=request.model, device=device_of(request.device), max_tokens=1)
    return Call(method=DETOKENIZE, body=body, wanted=wanted, any_device=ANY_DEVICE[pb.DetokenizeRequest])


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
        image=_find_image(request.chat) if chat else "",
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


def _estimate(texts: Sequence[str]) -> int:
    """About how many tokens texts have."""
    return sum(map(len, texts)) // _CHARACTERS_PER_TOKEN


def check_priority(priority: int) -> None:
    """Raises InvalidArgument for a priority out of range."""
    if abs(priority) > MAX_PRIORITY:
        problem = f"must be from {-MAX_PRIORITY} to {MAX_PRIORITY}, not {priority}"
        raise InvalidArgument(f"priority: {problem}", fields={"priority": problem})


def _check_generated(request: pb.GenerateRequest) -> None:
    """Raises InvalidArgument if nothing is left to run: such a stream ends at once, as one that was cut does."""
    n = request.n if request.HasField("n") else 1
    finished = {part.choice for part in request.generated if part.finished and part.choice < n}
    if 0 < n <= len(finished):
        problem = "has every choice finished, so there is nothing to run"
        raise InvalidArgument(f"generated {problem}", fields={"generated": problem})


def device_of(name: str) -> str:
    """The device that a request names: a kind in any case, or an endpoint's address as it is."""
    kind = name.lower()
    return kind if kind in _DEVICES else name


def _estimate_prompt_tokens(request: pb.GenerateRequest) -> int:
    """The number of token ids, if the prompt is given as such; else a quarter of its characters."""
    kind = request.WhichOneof("prompt")
    if kind == "token_ids":
        stated = request.token_ids.shape[0] if request.token_ids.shape else 0
        return min(max(0, stated), len(request.token_ids.data))  # the worker checks that they match; an id has a byte
    if kind == "text":
        return len(request.text) // _CHARACTERS_PER_TOKEN
    chat = request.chat
    told = sum(len(tool.name) + len(tool.description) + len(tool.parameters_json) for tool in chat.tools)
    messages = sum(_characters(m) // _CHARACTERS_PER_TOKEN + _TOKENS_PER_MESSAGE for m in chat.messages)
    return messages + told // _CHARACTERS_PER_TOKEN


def _characters(message: pb.ChatMessage) -> int:
    count = len(message.content) + sum(map(len, message.content_parts))
    for part in message.parts:
        count += IMAGE_TOKENS * _CHARACTERS_PER_TOKEN if part.HasField("image") else len(part.text)
    return count


def _find_image(chat: pb.ChatPrompt) -> str:
    """Where the first image of a conversation is; "" if it has none."""
    for index, message in enumerate(chat.messages):
        for number, part in enumerate(message.parts):
            if part.HasField("image"):
                return f"chat.messages[{index}].parts[{number}]"
    return ""


def parse_request(kind: type[RequestT], body: bytes) -> RequestT:
    """The request that a message says. Raises InvalidArgument."""
    try:
        return kind.FromString(body)
    except DecodeError as error:
        raise InvalidArgument("The request is not a valid protobuf message.", reason="MALFORMED_MESSAGE") from error

"""A request of any kind as the router holds it: what it wants, and the bytes to send on."""

from dataclasses import dataclass, replace
from functools import lru_cache

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.policy.fast_replace import FastReplace
from infermesh_router.policy.prefix.prefix_hash import rehash_for_model
from infermesh_router.policy.snapshot import Wanted, replace_wanted

GENERATE = "/infermesh.inference.v1.InferenceService/Generate"
EMBED = "/infermesh.inference.v1.InferenceService/Embed"
SCORE = "/infermesh.inference.v1.InferenceService/Score"
INFER = "/infermesh.inference.v1.InferenceService/Infer"
TRANSCRIBE = "/infermesh.inference.v1.InferenceService/Transcribe"
SPEAK = "/infermesh.inference.v1.InferenceService/Speak"

TOKENIZE = "/infermesh.inference.v1.InferenceService/Tokenize"
DETOKENIZE = "/infermesh.inference.v1.InferenceService/Detokenize"

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

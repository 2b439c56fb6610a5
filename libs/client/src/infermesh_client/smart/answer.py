"""What `smart_chat` returns: the answer, the device and why it was chosen, times, and the calls that were made."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from infermesh.inference.v1 import inference_pb2
from infermesh_client.request import ChatMessage

_DEVICES: dict[int, str] = {
    inference_pb2.DEVICE_KIND_CPU: "cpu",
    inference_pb2.DEVICE_KIND_XPU: "xpu",
    inference_pb2.DEVICE_KIND_CUDA: "cuda",
}


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """A call of a function that the model asked for."""

    name: str
    arguments: str
    """JSON text, as the model wrote it."""
    result: str
    """What the model was told: the result, or an error."""
    failed: bool
    took_s: float


@dataclass(frozen=True, slots=True)
class Timings:
    """How long an answer took, as the caller saw it, and where the time went."""

    total_s: float
    """Everything, calls of functions included, in seconds."""
    ttft_s: float
    """From the last request to its first text, in seconds; 0 if there was none."""
    tokens_per_s: float
    """Of the last request, after its first token; 0 if it had one token or none."""
    queued_ms: int
    """In the router's queue, loading included; of the last request, as everything below."""
    loading_ms: int
    """In which the model was being loaded."""
    overhead_ms: float
    """In the router itself."""
    prompt_ms: float
    """In which the device read the prompt; 0 if it is not measured."""
    completion_ms: float
    """In which the device wrote the answer; 0 if it is not measured."""


@dataclass(frozen=True, slots=True)
class SmartAnswer:
    """An answer, and how it came to be."""

    text: str
    reasoning: str
    model: str
    device: str
    """Kind of the device that answered: cpu, xpu or cuda."""
    endpoint: str
    """Its address (host:port); empty if a worker was asked directly."""
    reason: str
    """Why the router chose it."""
    finish_reason: str
    """stop, length, tool_calls or cancelled."""
    timings: Timings
    prompt_tokens: int = 0
    completion_tokens: int = 0
    """Of all rounds together, as `prompt_tokens`."""
    failovers: Sequence[inference_pb2.Failover] = ()
    """Moves of the last request's stream to another endpoint."""
    calls: Sequence[FunctionCall] = ()
    """In the order in which they were made."""
    messages: Sequence[ChatMessage] = field(default=(), repr=False)
    """The conversation, with the calls, their results and this answer: what to send with the next question."""


def device_kind(kind: int) -> str:
    """cpu, xpu or cuda; "" for one that is not known."""
    return _DEVICES.get(kind, "")

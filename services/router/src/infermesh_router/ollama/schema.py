"""What bodies of Ollama's API may contain: every field is honoured, named as ignored, or refused by name."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from infermesh_router.ollama.durations import read_keep_alive
from infermesh_router.openai.schema.fields import MAX_LOGPROBS, Penalty, Ratio, Stop, Strict, Unsupported, only
from infermesh_router.openai.schema.shared import MAX_DEADLINE_MS
from infermesh_router.openai.schema.tools import Tool

Hints = Mapping[str, tuple[object, ...]]
"""Fields that are accepted without an effect, and the values that change nothing with Ollama either."""


def _to_int(value: object) -> object:
    """5.0 → 5: Ollama takes both, and some clients know only one type of number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_to_int), Field(ge=-(2**63), lt=2**63)]
KeepAlive = Annotated[float, Field(allow_inf_nan=True), BeforeValidator(read_keep_alive, float | str)]


def _format_tag(value: object) -> str:
    return "<schema>" if isinstance(value, dict) else "<string>"


Format = Annotated[
    Annotated[Literal["", "json"], Tag("<string>")] | Annotated[dict[str, Any], Tag("<schema>")],
    Discriminator(_format_tag),
]


def _think_tag(value: object) -> str:
    return "<level>" if isinstance(value, str) else "<switch>"


Think = Annotated[
    Annotated[bool, Tag("<switch>")] | Annotated[Literal["low", "medium", "high", "max"], Tag("<level>")],
    Discriminator(_think_tag),
]


class Options(Strict):
    """How to sample. Those of Ollama's that are about its own engine have no effect."""

    HINTS: ClassVar[Hints] = {
        **dict.fromkeys(("num_ctx", "num_keep", "num_batch", "num_gpu", "main_gpu", "num_thread", "numa"), ()),
        **dict.fromkeys(("low_vram", "f16_kv", "use_mmap", "use_mlock", "vocab_only", "logits_all"), ()),
        **dict.fromkeys(("embedding_only", "penalize_newline", "repeat_last_n", "draft_num_predict"), ()),
        **dict.fromkeys(("typical_p", "tfs_z"), (1,)),
        **dict.fromkeys(("mirostat", "mirostat_tau", "mirostat_eta"), (0,)),
    }

    seed: Whole | None = None
    """Negative: a new one each time."""
    num_predict: Whole | None = None
    """0 and negative: no limit."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_k: Annotated[Whole, Field(le=2**31 - 1)] | None = None
    """0 and negative: all tokens."""
    top_p: Ratio | None = None
    min_p: Ratio | None = None
    repeat_penalty: Annotated[float, Field(ge=0, le=2)] | None = None
    """0, like 1, changes nothing."""
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    stop: Stop | None = None

    num_ctx: Any = None
    num_keep: Any = None
    num_batch: Any = None
    num_gpu: Any = None
    main_gpu: Any = None
    num_thread: Any = None
    numa: Any = None
    low_vram: Any = None
    f16_kv: Any = None
    use_mmap: Any = None
    use_mlock: Any = None
    vocab_only: Any = None
    logits_all: Any = None
    embedding_only: Any = None
    penalize_newline: Any = None
    repeat_last_n: Any = None
    draft_num_predict: Any = None
    typical_p: Any = None
    tfs_z: Any = None
    mirostat: Any = None
    mirostat_tau: Any = None
    mirostat_eta: Any = None


class AskBody(Strict):
    """The fields that chats and prompts share."""

    HINTS: ClassVar[Hints] = {"truncate": (False,), "shift": (False,)}

    model: Annotated[str, Field(min_length=1)]
    stream: bool | None = None
    """Unless it is false, the answer is a stream."""
    options: Options | None = None
    format: Format | None = None
    """"json", or a JSON schema."""
    keep_alive: KeepAlive | None = None
    """How long the model stays loaded after this request; 0: not at all."""
    think: Think | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    truncate: Any = None
    """Has no effect: a prompt that is too long is refused, not cut."""
    shift: Any = None

    # our own extensions, as in /v1/chat/completions
    device: str | None = None
    session_id: str | None = None
    deadline_ms: Annotated[int, Field(ge=1, le=MAX_DEADLINE_MS)] | None = None


class CalledFunction(Strict):
    """The function of a call."""

    name: Annotated[str, Field(min_length=1)]
    arguments: dict[str, Any]
    index: Any = None
    """Our answers have it, and clients send them back."""


class ToolCall(Strict):
    """A call that the assistant made."""

    function: CalledFunction
    id: str | None = None
    type: Any = None


def _in_small_letters(value: object) -> object:
    """ "User" → "user", as with Ollama."""
    return value.lower() if isinstance(value, str) else value


class Message(Strict):
    """One message of a conversation."""

    role: Annotated[Literal["system", "user", "assistant", "tool"], BeforeValidator(_in_small_letters)]
    content: str | None = None
    thinking: str | None = None
    images: list[str] | None = None
    """Image files in base64."""
    tool_calls: list[ToolCall] | None = None
    tool_name: str | None = None
    """In a "tool" message, the function whose result it is."""
    tool_call_id: str | None = None


class OfferedTool(Tool):
    """A tool as OpenAI has it, but its type may be left out."""

    type: Annotated[Literal["function"], only("function")] = "function"


class ChatBody(AskBody):
    """The body of /api/chat."""

    messages: list[Message] | None = None
    """None: the model is loaded, or unloaded if `keep_alive` is 0."""
    tools: list[OfferedTool] | None = None


def _refused(instead: str) -> BeforeValidator:
    """Refuses a field unless it is empty, and says what to use instead."""

    def check(value: object) -> None:
        if value not in (None, [], ""):
            raise PydanticCustomError("unsupported", "is not supported by this server; {instead}", {"instead": instead})

    return BeforeValidator(check)


ContextNumber = Annotated[int, Field(ge=0, lt=2**31)]


class Said(Strict):
    """A message of a conversation that is kept in `context`."""

    role: Literal["system", "user", "assistant"]
    content: str


class GenerateBody(AskBody):
    """The body of /api/generate."""

    prompt: str | None = None
    """None: the model is loaded, or unloaded if `keep_alive` is 0."""
    system: str | None = None
    suffix: str | None = None
    """The text after the gap that a model for code fills in."""
    raw: bool | None = None
    """The prompt is continued as it is, without a chat template."""
    images: list[str] | None = None
    """Image files in base64."""
    context: Annotated[list[ContextNumber], Field(fail_fast=True)] | None = None
    """What was said before, as the answer to an earlier prompt told it. Deprecated with Ollama, too."""
    template: Annotated[None, _refused("render the prompt yourself and set 'raw'")] = None
    width: Unsupported = None
    height: Unsupported = None
    steps: Unsupported = None


class NamedModel(Strict):
    """The body of a call that names a model; other fields say nothing that matters here."""

    model: str | None = None
    name: str | None = None
    """The older name of `model`."""
    stream: bool | None = None

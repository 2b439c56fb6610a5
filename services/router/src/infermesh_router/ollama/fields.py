"""Ollama's names for the fields of a request, for errors, and the fields of a body that have no effect."""

from collections.abc import Iterator

from infermesh_router.ollama.schema import AskBody, Hints, Options
from infermesh_router.openai.schema.fields import Strict

_COMMON = {
    "temperature": "options.temperature",
    "top_k": "options.top_k",
    "top_p": "options.top_p",
    "min_p": "options.min_p",
    "presence_penalty": "options.presence_penalty",
    "frequency_penalty": "options.frequency_penalty",
}

OPENAI_NAMES = {
    **_COMMON,
    "repetition_penalty": "options.repeat_penalty",
    "max_tokens": "options.num_predict",
    "seed": "options.seed",
    "stop": "options.stop",
    "json_schema": "format",
    "response_format": "format",
    "enable_thinking": "think",
    "reasoning_effort": "think",
}
"""Field of OpenAI's body → Ollama's."""

_NATIVE_NAMES = {
    **{f"sampling.{name}": path for name, path in _COMMON.items()},
    "sampling.repetition_penalty": "options.repeat_penalty",
    "stop.max_tokens": "options.num_predict",
    "stop.strings": "options.stop",
    "seed": "options.seed",
    "format": "format",
    "logprobs": "top_logprobs",
    "chat.enable_thinking": "think",
    "chat.reasoning_effort": "think",
    "prompt_options.suffix": "suffix",
}

CHAT_NAMES = {**_NATIVE_NAMES, **dict.fromkeys(("prompt", "text", "token_ids"), "messages")}
"""Field path of GenerateRequest → path in a body of /api/chat. Those that are missing have the names of OpenAI's."""
GENERATE_NAMES = {**_NATIVE_NAMES, **dict.fromkeys(("chat", "prompt", "text", "token_ids"), "prompt")}
"""The same for a body of /api/generate."""


def list_hints(body: AskBody) -> tuple[str, ...]:
    """The paths of fields that were set to something that has no effect here."""
    found = list(_hints(body, body.HINTS))
    if body.options is not None:
        found += (f"options.{name}" for name in _hints(body.options, Options.HINTS))
    return tuple(found)


def _hints(value: Strict, neutral: Hints) -> Iterator[str]:
    for name, values in neutral.items():
        given = getattr(value, name)
        if given is not None and given not in values:
            yield name

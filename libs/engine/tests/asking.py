"""What tests ask an engine, and its answers as they are compared with those of another one."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from infermesh_engine.requests.request import GenerationRequest, StopConditions

Bench = Callable[..., Any]
EOS = 256


def request(name: str = "r", prompt: tuple[int, ...] = (1, 2, 3), **fields: Any) -> GenerationRequest:
    """A request of 20 tokens, which no end of text cuts short."""
    stop = StopConditions(max_tokens=fields.pop("max_tokens", 20), ignore_eos=True)
    return GenerationRequest(request_id=name, prompt_token_ids=prompt, **{"seed": 7, "stop": stop, **fields})


def long(start: int, tokens: int) -> tuple[int, ...]:
    """A prompt of so many tokens."""
    return tuple((start + 7 * i) % 256 for i in range(tokens))


def plain(choices: Mapping[Any, Any]) -> dict[Any, Any]:
    """All that a client gets of choices, but for how many tokens were cached."""
    return {key: (c.token_ids, c.text, c.logprobs, replace(c.finished, cached_tokens=0)) for key, c in choices.items()}

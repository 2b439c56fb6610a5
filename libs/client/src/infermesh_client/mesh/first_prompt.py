"""Asks a new mesh one question through its REST API, and times the answer."""

import json
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from infermesh_runtime.errors import Unavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerTiming:
    """How fast an answer arrived."""

    tokens: int
    """Tokens in the answer."""
    ttft_s: float
    """Seconds from sending the request to the first text."""
    tokens_per_s: float
    """Measured after the first token; 0 when there was only one."""


def ask(
    url: str,
    model: str,
    prompt: str,
    *,
    chat: bool,
    max_tokens: int,
    write: Callable[[str], None],
    api_key: str = "",
    trust: ssl.SSLContext | bool = True,
) -> AnswerTiming:
    """Asks `prompt` at the base URL `url` and streams the answer to `write`. Raises Unavailable when that fails.

    Without `chat` the model, a base model, continues the prompt as a text. `api_key` is needed where the mesh has keys.
    `trust` says which certificates of the server to accept, if it has one; True: the system's CAs.
    """
    path = "chat/completions" if chat else "completions"
    body = {
        "model": model,
        **({"messages": [{"role": "user", "content": prompt}]} if chat else {"prompt": prompt}),
        "max_tokens": max_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
    begun_s = time.monotonic()
    try:
        with (
            httpx.Client(trust_env=False, timeout=60, verify=trust) as client,
            client.stream("POST", f"{url}/v1/{path}", json=body, headers=headers) as response,
        ):
            if response.is_error:
                raise Unavailable(f"the first prompt failed: {response.status_code} {response.read().decode()}")
            return _read(response, begun_s, write)
    except httpx.HTTPError as error:
        raise Unavailable(f"the first prompt failed: {error}") from error


def _read(response: httpx.Response, begun_s: float, write: Callable[[str], None]) -> AnswerTiming:
    first_s, last_s, tokens = 0.0, 0.0, 0
    for line in response.iter_lines():
        data = line.removeprefix("data: ")
        if data in (line, "[DONE]"):
            continue
        event = json.loads(data)
        if "error" in event:
            raise Unavailable(f"the first prompt failed: {event['error'].get('message', event['error'])}")
        text = "".join(map(_text, event.get("choices", ())))
        if text:
            last_s = time.monotonic()
            first_s = first_s or last_s
            write(text)
        tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
    if not first_s:
        raise Unavailable(
            "the first prompt failed: the answer was empty; "
            "the log of the worker is in the folder log of INFERMESH_HOME (default: ~/.infermesh)"
        )
    rate = (tokens - 1) / (last_s - first_s) if tokens > 1 and last_s > first_s else 0.0
    return AnswerTiming(tokens=tokens, ttft_s=first_s - begun_s, tokens_per_s=rate)


def _text(choice: dict[str, Any]) -> str:
    """The new text of a choice, of a chat or of a completion."""
    return choice.get("delta", {}).get("content") or choice.get("text") or ""

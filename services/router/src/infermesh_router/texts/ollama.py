"""Converts bodies of Ollama's /api/embed and /api/embeddings, and writes their answers."""

import asyncio
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.ollama.listing.names import without_tag
from infermesh_router.openai.bodies import BodyRules, check_document, take_body
from infermesh_router.openai.conversion import AskedCall
from infermesh_router.openai.errors import invalid
from infermesh_router.openai.parse import parse_body, parse_json
from infermesh_router.requests.kinds.texts import read_embed
from infermesh_router.texts.answers import numbers, rows_of
from infermesh_router.texts.schema import OllamaEmbedBody, OllamaEmbeddingsBody, list_hints

_ROWS_AT_ONCE = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class OllamaEmbedAnswer:
    """How the answer is written."""

    model: str
    is_old: bool
    """Whether it is that of /api/embeddings: one vector."""
    is_single: bool
    is_empty: bool = False
    """Whether there is nothing to embed."""
    field: str = "input"
    """The field of the body that has the texts."""


def convert_ollama(message: bytes, rules: BodyRules, model: str = "") -> AskedCall:
    """Converts a body of either call; the older one has a `prompt`. Raises InvalidArgument."""
    body = take_body(message, rules)
    return _old(body, rules, model) if "prompt" in parse_json(body) else _new(body, rules, model)


async def ollama_embeddings(response: pb.EmbedResponse, answer: OllamaEmbedAnswer, since_s: float) -> bytes:
    """The body. `since_s`: when the request came, by time.perf_counter."""
    if answer.is_empty:
        return orjson.dumps({"model": answer.model, "embeddings": []})
    rows = rows_of(response)
    if answer.is_old:
        return b'{"embedding":%b}' % numbers(rows[0])
    written: list[bytes] = []
    for index, row in enumerate(rows):
        written.append(numbers(row))
        if index % _ROWS_AT_ONCE == _ROWS_AT_ONCE - 1:
            await asyncio.sleep(0)  # others get their turn
    rest = {
        "model": answer.model,
        "total_duration": int((time.perf_counter() - since_s) * 1e9),
        "load_duration": 0,
        "prompt_eval_count": response.usage.prompt_tokens,
    }
    return orjson.dumps(rest)[:-1] + b',"embeddings":[' + b",".join(written) + b"]}"


def _new(body: bytes, rules: BodyRules, model: str) -> AskedCall:
    check = partial(check_document, model=model)
    parsed = parse_body(OllamaEmbedBody, body, ignore_unknown=rules.ignore_unknown, check=check)
    given = parsed.request
    texts = [given.input] if isinstance(given.input, str) else given.input
    if (empty := next((index for index, text in enumerate(texts) if not text), None)) is not None:
        raise invalid("input" if isinstance(given.input, str) else f"input[{empty}]", "must not be empty")
    request = _request(given.model, given.device, texts)
    request.truncation = pb.TRUNCATION_NONE if given.truncate is False else pb.TRUNCATION_END
    request.normalize = True  # as Ollama does, whatever the model
    if given.dimensions is not None:
        request.dimensions = given.dimensions
    answer = OllamaEmbedAnswer(
        model=given.model, is_old=False, is_single=isinstance(given.input, str), is_empty=not texts
    )
    ignored = (*parsed.ignored, *list_hints(given, given.HINTS))
    return AskedCall(read_embed(request.SerializeToString(), rules.bounds), ignored, answer)


def _old(body: bytes, rules: BodyRules, model: str) -> AskedCall:
    check = partial(check_document, model=model)
    parsed = parse_body(OllamaEmbeddingsBody, body, ignore_unknown=rules.ignore_unknown, check=check)
    given = parsed.request
    request = _request(given.model, given.device, [given.prompt])
    request.truncation = pb.TRUNCATION_END
    answer = OllamaEmbedAnswer(model=given.model, is_old=True, is_single=True, field="prompt")
    ignored = (*parsed.ignored, *list_hints(given, given.HINTS))
    return AskedCall(read_embed(request.SerializeToString(), rules.bounds), ignored, answer)


def _request(model: str, device: str | None, texts: Any) -> pb.EmbedRequest:
    return pb.EmbedRequest(model=without_tag(model), device=device or "", texts=texts)

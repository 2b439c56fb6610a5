"""Writes the answers of /v1/embeddings, /v1/rerank and /v1/score as JSON."""

import asyncio
import base64
import time
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.texts.convert import EmbeddingAnswer, RerankAnswer, ScoreAnswer
from infermesh_runtime.errors import Internal
from infermesh_runtime.tensors import Array, to_numpy

_NUMBERS_AT_ONCE = 1 << 15
"""After so many numbers others get their turn: they take a few milliseconds as JSON."""
_RANKS = {"embeddings": 2, "scores": 1}


async def embeddings(response: pb.EmbedResponse, answer: EmbeddingAnswer) -> bytes:
    """The body of /v1/embeddings, in OpenAI's shape."""
    rows = rows_of(response)
    parts = [b'{"object":"list","data":[']
    written = 0
    for index, row in enumerate(rows):
        content = base64_of(row) if answer.is_base64 else numbers(row)
        comma = b"," if index else b""
        parts.append(b'%b{"object":"embedding","index":%d,"embedding":%b}' % (comma, index, content))
        written += row.size
        if written >= _NUMBERS_AT_ONCE:
            written = 0
            await asyncio.sleep(0)
    tokens = response.usage.prompt_tokens
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    tail = orjson.dumps({"model": answer.model, "usage": usage})
    parts.append(b"]," + tail[1:])
    return b"".join(parts)


def rerank(response: pb.ScoreResponse, answer: RerankAnswer) -> bytes:
    """The body of /v1/rerank: what Cohere's, Jina's and vLLM's have, with the best document first."""
    scores = scores_of(response)
    best = np.argsort(-scores, kind="stable")[: answer.top_n]
    tokens = response.usage.prompt_tokens
    return orjson.dumps(
        {
            "id": str(uuid.uuid4()),
            "object": "list",
            "model": answer.model,
            "results": list(_results(scores, best, answer)),
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
        }
    )


def score(response: pb.ScoreResponse, answer: ScoreAnswer) -> bytes:
    """The body of /v1/score, in vLLM's shape."""
    tokens = response.usage.prompt_tokens
    data = [
        {"index": index, "object": "score", "score": float(value)} for index, value in enumerate(scores_of(response))
    ]
    return orjson.dumps(
        {
            "id": f"score-{uuid.uuid4().hex}",
            "object": "list",
            "created": int(time.time()),
            "model": answer.model,
            "data": data,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0},
        }
    )


def rows_of(response: pb.EmbedResponse) -> Array:
    """The vectors, FP32 [texts, dimensions]."""
    return _read(response.embeddings, "embeddings")


def scores_of(response: pb.ScoreResponse) -> Array:
    """The scores, FP32 [texts]."""
    return _read(response.scores, "scores")


def numbers(row: Array) -> bytes:
    """A vector as a JSON array."""
    return orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY)


def base64_of(row: Array) -> bytes:
    """A vector as a JSON string: its float32 numbers, little-endian, in base64."""
    return b'"' + base64.b64encode(row.astype("<f4").tobytes()) + b'"'


def _results(scores: Array, best: Array, answer: RerankAnswer) -> Iterator[dict[str, Any]]:
    for index in best.tolist():
        found: dict[str, Any] = {"index": index, "relevance_score": float(scores[index])}
        if answer.documents:
            found["document"] = {"text": answer.documents[index]}
        yield found


def _read(tensor: Any, name: str) -> Array:
    found = to_numpy(tensor, field=name)
    if found.ndim != _RANKS[name] or found.dtype != np.float32:
        raise Internal(f"An endpoint answered with {name} of the shape {list(found.shape)} and type {found.dtype}.")
    return np.ascontiguousarray(found)

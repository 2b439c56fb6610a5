"""Answers Embed: reads the texts, runs them on the model, and returns their vectors."""

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_runtime.manifest.model_kind import EMBED
from infermesh_runtime.manifest.text_encoder import DOCUMENT, QUERY, EncoderFacts
from infermesh_runtime.tensors import from_numpy
from infermesh_worker.executors.text_executor import DIMENSIONS, EMBEDDINGS, NORMALIZE, POOLING
from infermesh_worker.models.opened_model import OpenedModel
from infermesh_worker.rpc.convert import check_device
from infermesh_worker.rpc.prompts.prompt import THREAD_FROM_BYTES, invalid
from infermesh_worker.rpc.texts.checks import check_priority, known
from infermesh_worker.rpc.texts.reading import Limits, TokenisedText, check_texts, read_texts, read_token_ids
from infermesh_worker.rpc.texts.sharing import Asked, run_texts
from infermesh_worker.worker import Worker

_POOLINGS = {pb.POOLING_MEAN: "mean", pb.POOLING_CLS: "cls", pb.POOLING_LAST: "last"}
_PROMPTS = {pb.TEXT_KIND_QUERY: (QUERY,), pb.TEXT_KIND_DOCUMENT: (DOCUMENT, "passage")}
"""Names that models give the prompts of each kind of text."""


async def embed(worker: Worker, request: pb.EmbedRequest, remaining_s: float | None) -> pb.EmbedResponse:
    """The vectors of a request's texts. `remaining_s`: time until its deadline; None: it has none."""
    with worker.use(request.model, EMBED) as hosted:
        info, model = hosted.client.require_ready(), hosted.opened
        check_device(request.device, info)
        facts = model.encoder or EncoderFacts()
        asked = _asked(request, facts, remaining_s)
        limits = Limits(
            context_length=info.context_length,
            vocab_size=info.vocab_size,
            truncation=known(request, "truncation", pb.Truncation),
        )
        prompt = _prompt(request, facts)
        with ExitStack() as place:
            place.enter_context(worker.models.place(hosted, 1))
            is_large = request.ByteSize() >= THREAD_FROM_BYTES
            texts = (
                await asyncio.to_thread(_read, request, model, prompt, limits)
                if is_large
                else _read(request, model, prompt, limits)
            )
            vectors = await run_texts(hosted, texts, asked, place.close)
    tokens = sum(len(text.ids) for text in texts)
    return pb.EmbedResponse(model=model.name, embeddings=from_numpy(vectors), usage=pb.Usage(prompt_tokens=tokens))


def _read(request: pb.EmbedRequest, model: OpenedModel, prompt: str, limits: Limits) -> Sequence[TokenisedText]:
    if request.token_ids and request.texts:
        raise invalid("token_ids", "must be empty when texts are given")
    if request.token_ids:
        return read_token_ids(request.token_ids, limits)
    check_texts(request.texts, "texts")
    return read_texts(model, request.texts, prompt, limits)


def _asked(request: pb.EmbedRequest, facts: EncoderFacts, remaining_s: float | None) -> Asked:
    check_priority(request.priority)
    if request.HasField("dimensions") and not 1 <= request.dimensions <= facts.dimensions:
        raise invalid("dimensions", f"must be from 1 to {facts.dimensions}, not {request.dimensions}")
    params = {
        POOLING: _POOLINGS.get(known(request, "pooling", pb.Pooling), facts.pooling),
        DIMENSIONS: request.dimensions or facts.dimensions,
        NORMALIZE: request.normalize if request.HasField("normalize") else facts.normalize,
    }
    return Asked(output=EMBEDDINGS, params=params, priority=request.priority, remaining_s=remaining_s)


def _prompt(request: pb.EmbedRequest, facts: EncoderFacts) -> str:
    """What is put before each text. Raises InvalidArgument for a name that the model does not have."""
    kind = known(request, "kind", pb.TextKind)
    if request.prompt_name:
        if request.prompt_name not in facts.prompts:
            there = f"the model has {', '.join(facts.prompts)}" if facts.prompts else "the model has no prompts"
            raise invalid("prompt_name", f"there is no prompt {request.prompt_name!r}; {there}")
        return facts.prompts[request.prompt_name]
    for name in _PROMPTS.get(kind, ()):
        if name in facts.prompts:
            return facts.prompts[name]
    return facts.prompts.get(facts.default_prompt, "") if kind == pb.TEXT_KIND_UNSPECIFIED else ""

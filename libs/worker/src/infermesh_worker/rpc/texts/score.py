"""Answers Score: reads queries with their texts, runs them on the model, and returns a score for each text."""

import asyncio
from contextlib import ExitStack

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_runtime.manifest.model_kind import RERANK
from infermesh_runtime.tensors import from_numpy
from infermesh_worker.executors.text_executor import RAW, SCORES
from infermesh_worker.rpc.convert import check_device
from infermesh_worker.rpc.prompts.prompt import THREAD_FROM_BYTES, invalid
from infermesh_worker.rpc.texts.checks import check_priority, known
from infermesh_worker.rpc.texts.reading import Limits, check_texts, read_pairs
from infermesh_worker.rpc.texts.sharing import Asked, run_texts
from infermesh_worker.worker import Worker


async def score(worker: Worker, request: pb.ScoreRequest, remaining_s: float | None) -> pb.ScoreResponse:
    """The scores of a request's texts. `remaining_s`: time until its deadline; None: it has none."""
    with worker.use(request.model, RERANK) as hosted:
        info, model = hosted.client.require_ready(), hosted.opened
        check_device(request.device, info)
        check_priority(request.priority)
        limits = Limits(
            context_length=info.context_length,
            vocab_size=info.vocab_size,
            truncation=known(request, "truncation", pb.Truncation),
        )
        pairs = _pairs(request)
        asked = Asked(output=SCORES, params={RAW: request.raw}, priority=request.priority, remaining_s=remaining_s)
        with ExitStack() as place:
            place.enter_context(worker.models.place(hosted, 1))
            is_large = request.ByteSize() >= THREAD_FROM_BYTES
            texts = (
                await asyncio.to_thread(read_pairs, model, pairs, limits)
                if is_large
                else read_pairs(model, pairs, limits)
            )
            scores = await run_texts(hosted, texts, asked, place.close)
    tokens = sum(len(text.ids) for text in texts)
    return pb.ScoreResponse(model=model.name, scores=from_numpy(scores), usage=pb.Usage(prompt_tokens=tokens))


def _pairs(request: pb.ScoreRequest) -> list[tuple[str, str]]:
    check_texts(request.queries, "queries")
    check_texts(request.texts, "texts")
    if len(request.queries) not in {1, len(request.texts)}:
        raise invalid(
            "queries", f"must be one, or one for each of the {len(request.texts)} texts, not {len(request.queries)}"
        )
    queries = request.queries if len(request.queries) > 1 else [request.queries[0]] * len(request.texts)
    return list(zip(queries, request.texts, strict=True))

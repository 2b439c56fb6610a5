"""Tries an imported model: a few greedy answers, the round trip of its chat template, and how a turn ends.

Runs in a process of its own at the end of an import, which compares the tokens with those of the source's weights.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from infermesh_engine.engine import Engine, EngineConfig
from infermesh_engine.requests.output import Delta, Failed
from infermesh_engine.requests.request import GenerationRequest, SamplingParams, StopConditions
from infermesh_runtime.chat_templates.control_tokens import Rendered
from infermesh_runtime.errors import FailedPrecondition, InvalidArgument
from infermesh_worker.engine_process.built_model import BuiltModel
from infermesh_worker.models.bounded_template import BoundedTemplate
from infermesh_worker.models.model_folder import ModelFolder
from infermesh_worker.models.opened_model import OpenedModel
from infermesh_worker.models.template_process import pack_conversation

Build = Callable[[Mapping[str, Any]], BuiltModel]
QUESTIONS = (
    "What is the capital of France?",
    "Write a short poem about the sea.",
    "def fibonacci(n):",
    "List three colours.",
    "Once upon a time, in a village by the river,",
)
_ANSWER = "Certainly!"
_KV_CACHE_BYTES = 256 << 20


def try_model(
    build: Build, folder: Path, options: Mapping[str, Any], *, tokens: int, progress: Callable[[str, float], None]
) -> dict[str, Any]:
    """Answers QUESTIONS with at most `tokens` greedy tokens each.

    Returns {"prompts", "outputs"}: token ids, one list for each question; "template_kept": whether the rendered chat
    comes back from its tokens unchanged, None for a base model; and "end_of_turn": the token after an answer, "" if the
    template ends turns with none at which the model stops. Raises InfermeshError.
    """
    opened = OpenedModel.from_folder(ModelFolder.open(folder), {})
    try:
        texts, answered = asyncio.run(_render(opened.chat_template))
    finally:
        opened.close()
    tokenizer, chat = opened.tokenizer, answered is not None
    prompts = [opened.encode(text, add_special_tokens=not chat) for text in texts]
    model = build({**options, "folder": str(folder), "kv_cache_bytes": _KV_CACHE_BYTES, "max_sequences": len(prompts)})
    try:
        outputs = _answers(model, prompts, tokens, progress)
    finally:
        model.runner.close()
    return {
        "prompts": prompts,
        "outputs": outputs,
        "template_kept": _kept(tokenizer, [text.text for text in texts]) if chat else None,
        "end_of_turn": _end_of_turn(tokenizer, answered.text, model.eos_token_ids) if answered is not None else "",
    }


async def _render(template: BoundedTemplate | None) -> tuple[Sequence[Rendered], Rendered | None]:
    """The questions as prompts, and a chat that ends with an answer; the bare questions and None for a base model."""
    if template is None:
        return [Rendered((question,)) for question in QUESTIONS], None
    texts = [await template.render(pack_conversation([_message("user", question)])) for question in QUESTIONS]
    chat = [_message("user", QUESTIONS[0]), _message("assistant", _ANSWER)]
    try:
        answered = await template.render(pack_conversation(chat, add_generation_prompt=False))
    except (InvalidArgument, FailedPrecondition):  # it takes no answers: how they end is not known
        answered = Rendered(("",))
    return texts, answered


def _message(role: str, content: str) -> Mapping[str, str]:
    return {"role": role, "content": content}


def _answers(
    model: BuiltModel, prompts: Sequence[Sequence[int]], tokens: int, progress: Callable[[str, float], None]
) -> list[list[int]]:
    engine = Engine(model.runner, model.tokenizer, model.eos_token_ids, EngineConfig(max_sequences=len(prompts)))
    for number, prompt in enumerate(prompts):
        engine.submit(
            GenerationRequest(
                request_id=str(number),
                prompt_token_ids=tuple(prompt),
                stop=StopConditions(max_tokens=tokens),
                sampling=SamplingParams(temperature=0.0),
                seed=0,
            )
        )
    outputs: list[list[int]] = [[] for _ in prompts]
    while engine.has_work:
        for output in engine.step():
            if isinstance(output, Delta):
                outputs[int(output.request_id)] += output.token_ids
            elif isinstance(output, Failed):
                raise output.error
        progress("trying the model", sum(map(len, outputs)) / (tokens * len(prompts)))
    return outputs


def _kept(tokenizer: Tokenizer, texts: Sequence[str]) -> bool:
    """Whether the texts come back from their tokens."""
    ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    return [tokenizer.decode(each, skip_special_tokens=False) for each in ids] == list(texts)


def _end_of_turn(tokenizer: Tokenizer, answered: str, eos_token_ids: frozenset[int]) -> str:
    """The first token after the answer if the model stops at it, else ""."""
    _, found, after = answered.rpartition(_ANSWER)
    ids = tokenizer.encode(after.lstrip(), add_special_tokens=False).ids if found else []
    return str(tokenizer.id_to_token(ids[0])) if ids and ids[0] in eos_token_ids else ""

"""Tries an imported model: a few greedy answers, the round trip of its chat template, and whether a turn ends.

Runs in a process of its own at the end of an import, which compares the tokens with those of the source's weights.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from infermesh_engine.engine import Engine, EngineConfig
from infermesh_engine.requests.output import Delta, Failed, Finished, FinishReason, Output
from infermesh_engine.requests.request import GenerationRequest, SamplingParams, StopConditions
from infermesh_runtime.chat_templates.control_tokens import Rendered
from infermesh_runtime.errors import FailedPrecondition, InvalidArgument
from infermesh_worker.engine_process.built_model import BuiltModel
from infermesh_worker.models.model_folder import ModelFolder
from infermesh_worker.models.opened_model import OpenedModel
from infermesh_worker.models.templates.bounded_template import BoundedTemplate
from infermesh_worker.models.templates.template_process import pack_conversation

Build = Callable[[Mapping[str, Any]], BuiltModel]
QUESTIONS = (
    "What is the capital of France?",
    "Write a short poem about the sea.",
    "def fibonacci(n):",
    "List three colours.",
    "Once upon a time, in a village by the river,",
)
_SHORT_QUESTION = "What is the capital of France? Answer with one word."
_ANSWER = "Certainly!"
TURN_TOKENS = 64
"""Within so many tokens, most models have ended the answer to the short question."""
_KV_CACHE_BYTES = 256 << 20


@dataclass(slots=True)
class _Answer:
    """What a model has answered so far."""

    token_ids: list[int] = field(default_factory=list)
    text: str = ""
    stopped: bool = False
    """Whether it ended by itself."""

    def add(self, output: Output) -> None:
        """Takes one output. Raises InfermeshError if it is one."""
        match output:
            case Failed():
                raise output.error
            case Delta():
                self.token_ids += output.token_ids
                self.text += output.text
            case Finished():
                self.stopped = output.finish_reason is FinishReason.STOP


def try_model(
    build: Build, folder: Path, options: Mapping[str, Any], *, tokens: int, progress: Callable[[str, float], None]
) -> dict[str, Any]:
    """Answers QUESTIONS with at most `tokens` greedy tokens each, and of a chat model a short one as long as it takes.

    Returns {"prompts", "outputs"}: token ids, one list for each question; "template_kept": whether the rendered chat
    comes back from its tokens unchanged, None for a base model; "end_of_turn": the token after an answer, "" if the
    template ends turns with none at which the model stops; and "turn": the short answer's {"prompt", "output"}, whether
    it "ended" by itself, and the "marker" that the model went on after, if it did; None for a base model. Raises
    InfermeshError.
    """
    opened = OpenedModel.from_folder(ModelFolder.open(folder), {})
    try:
        texts, answered = asyncio.run(_render(opened.chat_template))
    finally:
        opened.close()
    tokenizer, chat = opened.tokenizer, answered is not None
    prompts = [opened.encode(text, add_special_tokens=not chat) for text in texts]
    limits = [tokens] * len(QUESTIONS) + [TURN_TOKENS] * chat
    model = build({**options, "folder": str(folder), "kv_cache_bytes": _KV_CACHE_BYTES, "max_sequences": len(prompts)})
    try:
        answers = _answers(model, prompts, limits, progress)
    finally:
        model.runner.close()
    closing = _closing_token(tokenizer, answered.text) if answered is not None else None
    asked = len(QUESTIONS)
    return {
        "prompts": prompts[:asked],
        "outputs": [answer.token_ids for answer in answers[:asked]],
        "template_kept": _kept(tokenizer, [text.text for text in texts]) if chat else None,
        "end_of_turn": str(tokenizer.id_to_token(closing)) if closing in model.eos_token_ids else "",
        "turn": _turn(tokenizer, prompts[asked], answers[asked], closing) if chat else None,
    }


async def _render(template: BoundedTemplate | None) -> tuple[Sequence[Rendered], Rendered | None]:
    """The questions and the short one as prompts, and a chat that ends with an answer.

    For a base model, the bare questions and None.
    """
    if template is None:
        return [Rendered((question,)) for question in QUESTIONS], None
    questions = (*QUESTIONS, _SHORT_QUESTION)
    texts = [await template.render(pack_conversation([_message("user", question)])) for question in questions]
    chat = [_message("user", QUESTIONS[0]), _message("assistant", _ANSWER)]
    try:
        answered = await template.render(pack_conversation(chat, add_generation_prompt=False))
    except (InvalidArgument, FailedPrecondition):  # it takes no answers: how they end is not known
        answered = Rendered(("",))
    return texts, answered


def _message(role: str, content: str) -> Mapping[str, str]:
    return {"role": role, "content": content}


def _answers(
    model: BuiltModel,
    prompts: Sequence[Sequence[int]],
    limits: Sequence[int],
    progress: Callable[[str, float], None],
) -> list[_Answer]:
    engine = Engine(model.runner, model.tokenizer, model.eos_token_ids, EngineConfig(max_sequences=len(prompts)))
    for number, (prompt, limit) in enumerate(zip(prompts, limits, strict=True)):
        engine.submit(
            GenerationRequest(
                request_id=str(number),
                prompt_token_ids=tuple(prompt),
                stop=StopConditions(max_tokens=limit),
                sampling=SamplingParams(temperature=0.0),
                seed=0,
            )
        )
    answers = [_Answer() for _ in prompts]
    while engine.has_work:
        for output in engine.step():
            answers[int(output.request_id)].add(output)
        progress("trying the model", sum(len(answer.token_ids) for answer in answers) / sum(limits))
    progress("trying the model", 1.0)
    return answers


def _turn(tokenizer: Tokenizer, prompt: Sequence[int], answer: _Answer, closing: int | None) -> dict[str, Any]:
    """How the short answer ended; see try_model."""
    before = answer.token_ids[:-1] if answer.stopped else answer.token_ids
    marker = str(tokenizer.id_to_token(closing)) if closing is not None else ""
    passed = closing in before or (bool(marker) and marker in answer.text)
    return {
        "prompt": prompt,
        "output": answer.token_ids,
        "ended": answer.stopped,
        "marker": marker if passed else "",
    }


def _kept(tokenizer: Tokenizer, texts: Sequence[str]) -> bool:
    """Whether the texts come back from their tokens."""
    ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    return [tokenizer.decode(each, skip_special_tokens=False) for each in ids] == list(texts)


def _closing_token(tokenizer: Tokenizer, answered: str) -> int | None:
    """The first token that the template puts after the answer; None if it puts none."""
    _, found, after = answered.rpartition(_ANSWER)
    ids = tokenizer.encode(after.lstrip(), add_special_tokens=False).ids if found else []
    return ids[0] if ids else None

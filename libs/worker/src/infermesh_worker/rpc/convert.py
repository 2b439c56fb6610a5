"""Converts requests of Generate to engine values.

Errors name the fields of the message ("sampling.temperature").
"""

import secrets
from collections.abc import Sequence
from dataclasses import replace

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_engine.requests import request as engine
from infermesh_engine.requests.validate import validate
from infermesh_engine.runners.runner import RunnerInfo
from infermesh_runtime.errors import DeviceNotAvailable
from infermesh_worker.models.bad_words import spell_bad_words
from infermesh_worker.models.fill_in_middle import gap_ends
from infermesh_worker.models.opened_model import OpenedModel
from infermesh_worker.rpc.answer_style import answer_format, answer_style, check_choice, shown_marks
from infermesh_worker.rpc.defaults import in_use, with_defaults
from infermesh_worker.rpc.prompts import prompt
from infermesh_worker.rpc.prompts.prediction import read_prediction

_MAX_BAD_WORDS = 1024

DEVICE_KINDS = {
    "cpu": pb.DEVICE_KIND_CPU,
    "xpu": pb.DEVICE_KIND_XPU,
    "cuda": pb.DEVICE_KIND_CUDA,
}
_ACCEPTED_DEVICES = {"cpu": {"", "auto", "cpu"}, "xpu": {"", "auto", "gpu", "xpu"}, "cuda": {"", "auto", "gpu", "cuda"}}


def count_sequences(request: pb.GenerateRequest) -> int:
    """How many sequences the request runs: its choices without those that have ended already."""
    return max(1, (request.n or 1) - sum(part.finished for part in request.generated))


async def to_generation(
    request: pb.GenerateRequest, *, request_id: str, model: OpenedModel, info: RunnerInfo, open_objects: bool = False
) -> engine.GenerationRequest:
    """The validated engine request, with its prompt tokenised, and a random seed if the request has none.

    `open_objects`: what holds for the objects of JSON schemas if the request does not say.

    Raises DeviceNotAvailable, ContextLengthExceeded and InvalidArgument.
    """
    check_device(request.device, info)
    check_choice(request)
    sampling, max_tokens = with_defaults(request.sampling, request.stop, model.generation)
    asked = await prompt.read_prompt(request, model, vocab_size=info.vocab_size, context_length=info.context_length)
    token_ids = asked.token_ids
    style = await answer_style(request, model, token_ids)
    own_format = _output_format(request.format, open_objects) if request.HasField("format") else None
    generation = engine.GenerationRequest(
        request_id=request_id,
        prompt_token_ids=token_ids,
        images=asked.images,
        seed=request.seed if request.HasField("seed") else secrets.randbits(64),
        sampling=_sampling(sampling, model),
        stop=_stop(request, max_tokens, model, info.vocab_size),
        output_format=await answer_format(request, style, model, own_format),
        logprobs=request.logprobs.top if request.HasField("logprobs") else None,
        prompt_logprobs=request.prompt_options.logprobs if request.prompt_options.HasField("logprobs") else None,
        text=engine.TextOptions(
            keep_special_tokens=request.text_options.keep_special_tokens,
            shown_token_ids=shown_marks(request, style, model),
            keep_stop=request.text_options.keep_stop,
        ),
        cache_salt=request.cache_salt,
        n=request.n if request.HasField("n") else 1,
        priority=request.priority,
        prediction=await read_prediction(request, model, info),
        generated=tuple(
            engine.Continuation(choice=part.choice, token_ids=tuple(part.token_ids), finished=part.finished)
            for part in request.generated
        ),
    )
    validate(generation, vocab_size=info.vocab_size, context_length=info.context_length)
    return generation if info.checks_drafts else replace(generation, prediction=())


def to_started(generation: engine.GenerationRequest, model: OpenedModel, info: RunnerInfo) -> pb.Started:
    """The `started` event of a request. The router adds endpoint and reason."""
    return pb.Started(
        model=model.name,
        device=DEVICE_KINDS[info.device_kind],
        prompt_tokens=len(generation.prompt_token_ids),
        seed=generation.seed,
        in_use=in_use(generation),
    )


def check_device(device: str, info: RunnerInfo) -> None:
    """Raises DeviceNotAvailable when the request asks for a device that this worker does not have."""
    if device.lower() not in _ACCEPTED_DEVICES[info.device_kind]:
        problem = (
            f"device {device!r} is not available here: this worker runs on {info.device_kind} ({info.device_name})"
        )
        raise DeviceNotAvailable(problem, metadata={"devices": info.device_kind}, fields={"device": problem})


def _sampling(message: pb.SamplingParams, model: OpenedModel) -> engine.SamplingParams:
    names = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty")
    given = {name: getattr(message, name) for name in names if message.HasField(name)}
    return engine.SamplingParams(
        **given,
        logit_bias=dict(message.logit_bias),
        allowed_token_ids=tuple(message.allowed_token_ids),
        bad_words=spell_bad_words(model.tokenizer, _check_words(message.bad_words)),
    )


def _check_words(words: Sequence[str]) -> Sequence[str]:
    if len(words) > _MAX_BAD_WORDS:
        raise prompt.invalid("sampling.bad_words", f"must be at most {_MAX_BAD_WORDS} texts, got {len(words)}")
    for index, word in enumerate(words):
        if not word.strip():
            raise prompt.invalid(f"sampling.bad_words[{index}]", "must not be empty")
    return words


def _stop(
    request: pb.GenerateRequest, max_tokens: int | None, model: OpenedModel, vocab_size: int
) -> engine.StopConditions:
    message = request.stop
    ends = gap_ends(model) if request.prompt_options.suffix else ()
    # special tokens have no text in an output, so a string that names one can only match the token
    named = [token_id for string in message.strings if (token_id := model.special_ids.get(string, -1)) >= 0]
    return engine.StopConditions(
        strings=tuple(message.strings),
        token_ids=(*message.token_ids, *(token_id for token_id in (*named, *ends) if token_id < vocab_size)),
        max_tokens=max_tokens,
        min_tokens=message.min_tokens,
        ignore_eos=message.ignore_eos,
    )


def _output_format(message: pb.OutputFormat, open_objects: bool) -> engine.OutputFormat:
    match message.WhichOneof("constraint"):
        case "json_schema":
            is_open = message.open_objects if message.HasField("open_objects") else open_objects
            return engine.OutputFormat(kind="json_schema", spec=message.json_schema, open_objects=is_open)
        case ("regex" | "grammar") as kind:
            return engine.OutputFormat(kind=kind, spec=getattr(message, kind))
        case _:
            raise prompt.invalid("format", "must set one of json_schema, regex and grammar")

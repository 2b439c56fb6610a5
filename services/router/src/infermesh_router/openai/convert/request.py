"""Converts the fields that chat and text completions share, and puts a job together."""

import re
import secrets
from collections.abc import Mapping, Sequence

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.images.reading import RemoteImage
from infermesh_router.openai.convert.formats import output_format
from infermesh_router.openai.errors import invalid
from infermesh_router.openai.job import Job, Shape
from infermesh_router.openai.schema.fields import UINT32_MAX, UNLIMITED
from infermesh_router.openai.schema.shared import SamplingRequest
from infermesh_router.requests.kinds.generate import from_generate
from infermesh_runtime.answer_parsing.parts import Tools

_TOKEN_ID = re.compile(r"0|[1-9][0-9]{0,9}")
_UINT64 = 2**64


def start_request(request: SamplingRequest, limit: int | None) -> tuple[pb.GenerateRequest, dict[str, str]]:
    """Everything except the prompt and the log probabilities; and its field paths that have other names in the body."""
    wanted = output_format(request)
    made = pb.GenerateRequest(
        model=request.model,
        sampling=_sampling(request),
        stop=_stop(request, limit),
        format=wanted[1] if wanted is not None else None,
        n=request.n,
        seed=None if request.seed is None else request.seed % _UINT64,
        priority=-(request.priority or 0),
        device=request.device or "",
        session_id=request.session_id or request.prompt_cache_key or "",
        client_id=request.safety_identifier or request.user or "",
        cache_salt=request.cache_salt or "",
    )
    _set_options(made, request)
    return made, {"format": wanted[0] if wanted is not None else "response_format"}


def make_job(
    prefix: str,
    request: SamplingRequest,
    prompts: tuple[pb.GenerateRequest, ...],
    shape: Shape,
    *,
    logprobs: bool,
    names: Mapping[str, str],
    remote_images: Sequence[RemoteImage] = (),
    generated: int | None = None,
    prompt_only: bool = False,
    tools: Tools | None = None,
    functions: bool = False,
    single_call: bool = False,
) -> Job:
    """The job of a request. `generated`: choices of each prompt, if more than are returned."""
    options, n = request.stream_options, request.n or 1
    if options is not None and not request.stream:
        raise invalid("stream_options", "needs 'stream' to be true")
    if options is not None and options.continuous_usage_stats and not options.include_usage:
        raise invalid("stream_options.continuous_usage_stats", "needs 'include_usage' to be true")
    if request.prompt_logprobs is not None and request.stream:
        raise invalid("prompt_logprobs", "is not available in a stream")
    return Job(
        id=f"{prefix}-{secrets.token_hex(16)}",
        model=request.model,
        calls=tuple(from_generate(prompt) for prompt in prompts),
        remote_images=tuple(remote_images),
        choices_per_prompt=generated or n,
        returned_per_prompt=n,
        shape=shape,
        stream=bool(request.stream),
        include_usage=bool(options and options.include_usage),
        running_usage=bool(options and options.continuous_usage_stats),
        logprobs=logprobs,
        prompt_logprobs=request.prompt_logprobs,
        token_ids=bool(request.return_token_ids),
        prompt_only=prompt_only,
        deadline_s=None if request.deadline_ms is None else request.deadline_ms / 1000,
        field_names=names,
        tools=tools or {},
        functions=functions,
        single_call=single_call,
    )


def _set_options(made: pb.GenerateRequest, request: SamplingRequest) -> None:
    prompt, text = made.prompt_options, made.text_options
    if request.add_special_tokens is not None:
        prompt.add_special_tokens = request.add_special_tokens
    if request.truncate_prompt_tokens is not None:
        if request.truncate_prompt_tokens == 0:
            raise invalid("truncate_prompt_tokens", "must be at least 1, or -1 for as many as there is room for")
        prompt.truncate_tokens = max(0, request.truncate_prompt_tokens)
    if request.return_token_ids:
        prompt.return_token_ids = True
    if request.prompt_logprobs is not None:
        prompt.logprobs = request.prompt_logprobs
    if request.skip_special_tokens is False:
        text.keep_special_tokens = True
    if request.include_stop_str_in_output:
        text.keep_stop = True


def _sampling(request: SamplingRequest) -> pb.SamplingParams:
    return pb.SamplingParams(
        temperature=request.temperature,
        top_k=1 if request.top_p == 0 else None if request.top_k is None else max(0, request.top_k),
        top_p=request.top_p or None,
        min_p=request.min_p,
        repetition_penalty=request.repetition_penalty,
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
        logit_bias={_token_id(key): bias for key, bias in (request.logit_bias or {}).items()},
        allowed_token_ids=request.allowed_token_ids,
        bad_words=request.bad_words,
    )


def _token_id(key: str) -> int:
    if not _TOKEN_ID.fullmatch(key) or int(key) > UINT32_MAX:
        raise invalid("logit_bias", f"has the key {key[:40]!r}, which is not a token id")
    return int(key)


def _stop(request: SamplingRequest, limit: int | None) -> pb.StopConditions:
    return pb.StopConditions(
        strings=[request.stop] if isinstance(request.stop, str) else request.stop,
        token_ids=request.stop_token_ids,
        max_tokens=UINT32_MAX if limit == UNLIMITED else limit,
        min_tokens=request.min_tokens or 0,
        ignore_eos=bool(request.ignore_eos),
    )

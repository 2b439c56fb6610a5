"""Converts bodies of /v1/completions to jobs."""

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.tensor.v1 import tensor_pb2
from infermesh_router.openai.answers.completions import CompletionShape
from infermesh_router.openai.convert.request import make_job, start_request
from infermesh_router.openai.errors import invalid
from infermesh_router.openai.job import Job
from infermesh_router.openai.schema.completion import CompletionRequest

DEFAULT_COMPLETION_TOKENS = 16
"""OpenAI's default for /v1/completions."""


def completion_job(request: CompletionRequest) -> Job:
    """Converts a completion request. Raises InvalidArgument for fields that contradict each other."""
    _check(request)
    limit = DEFAULT_COMPLETION_TOKENS if request.max_tokens is None else request.max_tokens or 1
    base, names = start_request(request, limit)
    n = request.n or 1
    best_of = request.best_of or n
    if best_of > n:
        base.n = best_of
    if request.logprobs is not None or best_of > n:
        base.logprobs.top = request.logprobs or 0
    if request.echo:
        base.prompt_options.return_text = True
        if request.logprobs is not None:
            base.prompt_options.logprobs = max(request.logprobs, request.prompt_logprobs or 0)
    if request.suffix:
        base.prompt_options.suffix = request.suffix
    prompts = tuple(_with_prompt(base, prompt) for prompt in _list_prompts(request.prompt))
    names |= {"logprobs.top": "logprobs", "n": "best_of" if best_of > n else "n"}
    return make_job(
        "cmpl",
        request,
        prompts,
        CompletionShape(echo=bool(request.echo), top=request.logprobs),
        logprobs=request.logprobs is not None,
        names=names,
        generated=best_of,
        prompt_only=request.max_tokens == 0,
    )


def _check(request: CompletionRequest) -> None:
    n = request.n or 1
    if request.best_of is not None and request.best_of < n:
        raise invalid("best_of", f"must be at least 'n', which is {n}")
    if request.best_of is not None and request.best_of > n and request.stream:
        raise invalid("best_of", "must equal 'n' in a stream: the best choices are known only at the end")
    if request.max_tokens == 0 and not request.echo:
        raise invalid("max_tokens", "must be at least 1 unless 'echo' is true")
    if request.suffix and request.echo:
        raise invalid("echo", "must not be true beside a 'suffix'")
    if request.suffix and isinstance(request.prompt, list) and not isinstance(request.prompt[0], str):
        raise invalid("suffix", "needs the 'prompt' to be text, not token ids")


def _list_prompts(prompt: str | list[str] | list[int] | list[list[int]]) -> list[str | list[int]]:
    if isinstance(prompt, str):
        return [prompt]
    if isinstance(prompt[0], int):
        return [[token for token in prompt if isinstance(token, int)]]
    return [part for part in prompt if isinstance(part, str | list)]


def _with_prompt(base: pb.GenerateRequest, prompt: str | list[int]) -> pb.GenerateRequest:
    request = pb.GenerateRequest()
    request.CopyFrom(base)
    if isinstance(prompt, str):
        request.text = prompt
    else:
        data = b"".join(token.to_bytes(8, "little") for token in prompt)
        request.token_ids.CopyFrom(tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_INT64, shape=[len(prompt)], data=data))
    return request

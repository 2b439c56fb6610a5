"""What `started` tells of a prompt: its token ids, its text, and their log probabilities."""

from collections.abc import Sequence

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_engine.requests.request import GenerationRequest
from infermesh_worker.engine_process.frames import WireLogprob
from infermesh_worker.models.opened_model import OpenedModel
from infermesh_worker.rpc.answer_style import answer_style
from infermesh_worker.rpc.prompts.prompt import offers_tools
from infermesh_worker.rpc.template_hints import ignored_fields


def tell_prompt(
    started: pb.Started, request: pb.GenerateRequest, generation: GenerationRequest, model: OpenedModel
) -> None:
    """Fills in what the request asks to be told, and which of its fields have no effect."""
    started.ignored_fields.extend(ignored_fields(request, model))
    if not request.HasField("prompt_options"):
        return
    options, token_ids = request.prompt_options, generation.prompt_token_ids
    if options.return_token_ids:
        started.prompt_token_ids.extend(token_ids)
    if options.return_text:
        is_whole = request.WhichOneof("prompt") == "text" and not options.HasField("truncate_tokens")
        keep_special = request.text_options.keep_special_tokens
        started.prompt_text = (
            request.text if is_whole else model.tokenizer.decode(token_ids, skip_special_tokens=not keep_special)
        )


async def tell_style(
    started: pb.Started, request: pb.GenerateRequest, generation: GenerationRequest, model: OpenedModel
) -> None:
    """Fills in how the answer to a conversation is written, and says if calls in it cannot be told from text."""
    style = await answer_style(request, model, generation.prompt_token_ids)
    if style is None:
        return
    started.answer_style.CopyFrom(
        pb.AnswerStyle(
            tool_format=style.tool_format, reasoning=style.reasoning, reasoning_opened=style.reasoning_opened
        )
    )
    if offers_tools(request.chat) and not style.tool_format:
        started.ignored_fields.append("chat.tool_choice")


def tell_prompt_logprobs(started: pb.Started, entries: Sequence[WireLogprob], ranks: Sequence[int]) -> None:
    """Fills in the log probabilities of the prompt's tokens."""
    for entry, rank in zip(entries, ranks, strict=True):
        message = to_logprob(entry)
        message.rank = rank
        started.prompt_logprobs.append(message)


def to_logprob(frame: WireLogprob) -> pb.TokenLogprob:
    """The message of a log probability."""
    return pb.TokenLogprob(
        token_id=frame.token_id, logprob=frame.logprob, token=frame.token, top=map(to_logprob, frame.top)
    )

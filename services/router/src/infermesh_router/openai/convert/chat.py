"""Converts bodies of /v1/chat/completions to jobs."""

from infermesh_router.images.reading import ImageReader
from infermesh_router.images.rules import ImageRules
from infermesh_router.openai.answers.chat import ChatShape
from infermesh_router.openai.convert.formats import output_format
from infermesh_router.openai.convert.messages import fill_chat
from infermesh_router.openai.convert.request import make_job, start_request
from infermesh_router.openai.convert.tools import fill_tools, read_offer
from infermesh_router.openai.errors import invalid
from infermesh_router.openai.job import Job
from infermesh_router.openai.schema.chat import ChatRequest


def chat_job(request: ChatRequest, images: ImageReader | None = None) -> Job:
    """Converts a chat request. Raises InvalidArgument for fields that contradict each other.

    `images` reads its images; without it they have the default bounds, and the names of OpenAI's bodies.
    """
    images = images or ImageReader(ImageRules())
    limit, wanted = _pick_limit(request), output_format(request)
    offer = read_offer(request, format_field=wanted[0] if wanted else "")
    if request.top_logprobs and not request.logprobs:
        raise invalid("top_logprobs", "needs 'logprobs' to be true")
    prompt, names = start_request(request, limit)
    if request.logprobs:
        prompt.logprobs.top = request.top_logprobs or 0
    fill_chat(prompt.chat, request, images)
    fill_tools(prompt.chat, offer, request)
    prompt.text_options.show_marks = True
    if request.prediction is not None and request.prediction.text:
        prompt.prediction.text = request.prediction.text
    names["stop.max_tokens"] = "max_tokens" if request.max_tokens else "max_completion_tokens"
    names["logprobs"] = "top_logprobs"
    names["prediction"] = "prediction"
    names |= dict.fromkeys(("prompt", "text", "token_ids"), "messages")
    if offer.is_forced:
        names["format"] = "tools"
    if offer.legacy:
        names |= {"chat.tools": "functions", "chat.tool_choice": "function_call"}
    return make_job(
        "chatcmpl",
        request,
        (prompt,),
        ChatShape(),
        logprobs=bool(request.logprobs),
        names={**images.names, **names},
        remote_images=images.remote,
        tools=offer.tools,
        functions=offer.legacy,
        single_call=offer.legacy or request.parallel_tool_calls is False,
    )


def _pick_limit(request: ChatRequest) -> int | None:
    old, new = request.max_tokens, request.max_completion_tokens
    if old is not None and new is not None and old != new:
        raise invalid("max_tokens", "and 'max_completion_tokens' must not differ; set one")
    return old if new is None else new

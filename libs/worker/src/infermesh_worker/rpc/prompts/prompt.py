"""Turns a request's prompt (text, token ids or chat) into token ids."""

import asyncio
import json
from dataclasses import dataclass
from functools import partial
from typing import Any

from infermesh.inference.v1.inference_pb2 import (
    TOOL_CHOICE_MODE_NONE,
    ChatMessage,
    ChatPrompt,
    GenerateRequest,
    Tool,
    ToolCall,
)
from infermesh.tensor.v1.tensor_pb2 import DataType, Tensor
from infermesh_engine.requests.image import PromptImage
from infermesh_engine.requests.validate import context_exceeded
from infermesh_runtime.chat_templates.control_tokens import Rendered
from infermesh_runtime.chat_templates.environment import reserved_variables
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.tensors import to_numpy
from infermesh_worker.images.reader import MeasuredImage
from infermesh_worker.models.fill_in_middle import encode_gap
from infermesh_worker.models.opened_model import OpenedModel
from infermesh_worker.models.templates.bounded_template import BoundedTemplate
from infermesh_worker.models.templates.template_process import pack_conversation
from infermesh_worker.rpc.prompts.chat_images import content_parts, measure_images, show_images
from infermesh_worker.rpc.template_hints import hinted_variables, takes_reasoning

ROLES = ("system", "developer", "user", "assistant", "tool")

THREAD_FROM_BYTES = 4096
"""Size from which prompts are converted and tokenised in a thread, so that other streams are not held up."""

_MOST_CUT = 16
"""How many contexts a prompt may be long if all but its end is cut off."""
_ID_TYPES = (DataType.DATA_TYPE_INT32, DataType.DATA_TYPE_INT64)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is given: token ids, and the images among them."""

    token_ids: tuple[int, ...]
    images: tuple[PromptImage, ...] = ()


async def tokenize(
    request: GenerateRequest, model: OpenedModel, *, vocab_size: int, context_length: int
) -> tuple[int, ...]:
    """The token ids of `read_prompt`."""
    return (await read_prompt(request, model, vocab_size=vocab_size, context_length=context_length)).token_ids


async def read_prompt(request: GenerateRequest, model: OpenedModel, *, vocab_size: int, context_length: int) -> Prompt:
    """The prompt's token ids and images. What is large is done in a thread, so that other streams are not held up.

    Raises InvalidArgument that names the field, FailedPrecondition for a chat without a chat template, and
    ContextLengthExceeded for a text that is certainly too long; `validate` checks the exact length later.
    """
    options, kind = request.prompt_options, request.WhichOneof("prompt")
    if options.suffix and kind != "text":
        raise invalid("prompt_options.suffix", "needs the prompt to be a text")
    is_cut = options.HasField("truncate_tokens")
    longest = _MOST_CUT * context_length if is_cut else context_length
    images: tuple[PromptImage, ...] = ()
    match kind:
        case "text" if options.suffix:
            check_size(len(request.text) + len(options.suffix), model, context_length)
            token_ids = await asyncio.to_thread(encode_gap, model, request.text, options.suffix)
        case "text":
            adds = options.add_special_tokens if options.HasField("add_special_tokens") else True
            token_ids = await encode(model, Rendered((request.text,)), longest, add_special_tokens=adds)
        case "chat":
            token_ids, images = await _read_chat(request, model, context_length, longest)
        case "token_ids":
            token_ids = _read_ids(request.token_ids, vocab_size, longest)
        case _:
            raise invalid("prompt", "must set one of text, token_ids and chat")
    if not is_cut:
        return Prompt(token_ids, images)
    kept = _cut(token_ids, request, context_length)
    if images and kept != token_ids:
        raise invalid("prompt_options.truncate_tokens", "cannot cut a conversation with images; shorten it")
    return Prompt(kept, images)


async def _read_chat(
    request: GenerateRequest, model: OpenedModel, context_length: int, longest: int
) -> tuple[tuple[int, ...], tuple[PromptImage, ...]]:
    text, measured = await render_seen(request.chat, model, context_length)
    token_ids = await encode(model, text, longest, add_special_tokens=request.prompt_options.add_special_tokens)
    if not measured or model.images is None:
        return token_ids, ()
    if request.prompt_options.HasField("logprobs"):
        raise invalid("prompt_options.logprobs", "cannot be given for a conversation with images")
    return token_ids, model.images.place(token_ids, measured)


def _cut(token_ids: tuple[int, ...], request: GenerateRequest, context_length: int) -> tuple[int, ...]:
    """The last tokens of a prompt, as many as the request wants, or as leave room for its answer."""
    wanted = request.prompt_options.truncate_tokens
    if wanted == 0:
        wanted = max(1, context_length - max(1, min(request.stop.max_tokens, context_length)))
    return token_ids[-wanted:]


def offers_tools(chat: ChatPrompt) -> bool:
    """Whether the model is told of tools."""
    return bool(chat.tools) and chat.tool_choice.mode != TOOL_CHOICE_MODE_NONE


async def render_seen(
    chat: ChatPrompt, model: OpenedModel, context_length: int
) -> tuple[Rendered, list[MeasuredImage]]:
    """The text of a conversation with the tokens of its images, and the images."""
    measured = await measure_images(chat, model)
    return show_images(await render_chat(chat, model, context_length), measured, model), measured


async def render_chat(chat: ChatPrompt, model: OpenedModel, context_length: int) -> Rendered:
    """The text of a conversation, rendered by the model's chat template."""
    template = model.require_chat_template()
    if not chat.messages:
        raise invalid("chat.messages", "at least one message is required")
    if len(chat.messages) > context_length:  # before anything looks at each of a million messages
        raise context_exceeded(len(chat.messages), context_length, exact=False)
    if offers_tools(chat) and not template.takes_tools:
        raise invalid("chat.tools", f"the chat template of model {model.name!r} does not support tools")
    is_large = chat.ByteSize() >= THREAD_FROM_BYTES
    conversation = await asyncio.to_thread(_pack_chat, chat, template) if is_large else _pack_chat(chat, template)
    return await template.render(conversation)


def _pack_chat(chat: ChatPrompt, template: BoundedTemplate) -> bytes:
    variables = _parse_object(chat.template_kwargs_json, "chat.template_kwargs_json")
    if reserved := reserved_variables(variables):
        raise invalid(
            "chat.template_kwargs_json",
            f"must not contain {', '.join(map(json.dumps, reserved))}: the template gets that from the rest of the "
            "request or from the model",
        )
    continues = chat.continue_final_message
    if continues and chat.add_generation_prompt:
        raise invalid("chat.continue_final_message", "and add_generation_prompt must not both be true")
    if continues and chat.messages[-1].role != "assistant":
        raise invalid("chat.continue_final_message", "needs the last message to be the assistant's")
    shows_reasoning = takes_reasoning(template)
    return pack_conversation(
        [
            _message(message, f"chat.messages[{index}]", shows_reasoning=shows_reasoning)
            for index, message in enumerate(chat.messages)
        ],
        tools=[_tool(tool, f"chat.tools[{index}]") for index, tool in enumerate(chat.tools)] * offers_tools(chat),
        add_generation_prompt=chat.add_generation_prompt if chat.HasField("add_generation_prompt") else not continues,
        continue_final=continues,
        variables=hinted_variables(chat, template, variables),
    )


def invalid(field: str, problem: str) -> InvalidArgument:
    """An error about one field of the request."""
    return InvalidArgument(f"{field}: {problem}", fields={field: problem})


async def encode(
    model: OpenedModel, text: Rendered, context_length: int, *, add_special_tokens: bool
) -> tuple[int, ...]:
    """The token ids of a text. Raises ContextLengthExceeded if it is certainly too long."""
    size = sum(map(len, text.pieces))
    check_size(size, model, context_length)
    encode = partial(model.encode, text, add_special_tokens=add_special_tokens)
    return await asyncio.to_thread(encode) if size >= THREAD_FROM_BYTES or len(text.pieces) > 1 else encode()


def check_size(size: int, model: OpenedModel, context_length: int) -> None:
    """Raises ContextLengthExceeded for so many characters that they cannot fit.

    Tokenising them would take a second per megabyte.
    """
    least = size // model.longest_token_chars
    if least >= context_length:
        raise context_exceeded(least, context_length, exact=False)


def _read_ids(tensor: Tensor, vocab_size: int, context_length: int) -> tuple[int, ...]:
    array = to_numpy(tensor, field="token_ids")
    if tensor.dtype not in _ID_TYPES:
        raise invalid("token_ids", f"must be INT32 or INT64, not {DataType.Name(tensor.dtype)}")
    if array.ndim != 1:
        raise invalid("token_ids", f"must have the shape [tokens], not {list(array.shape)}")
    if len(array) >= context_length:  # before a list is made of millions of them
        raise context_exceeded(len(array), context_length)
    wrong = (array < 0) | (array >= vocab_size)
    if wrong.any():
        index = int(wrong.argmax())
        raise invalid("token_ids", f"element {index} is {array[index]}, but ids must be from 0 to {vocab_size - 1}")
    return tuple(array.tolist())


def _message(message: ChatMessage, field: str, *, shows_reasoning: bool) -> dict[str, Any]:
    if message.role not in ROLES:
        raise invalid(f"{field}.role", f"must be one of {', '.join(ROLES)}, not {message.role!r}")
    if message.content and message.content_parts:
        raise invalid(f"{field}.content_parts", "must be empty when content is set")
    values: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.content_parts:
        values["parts"] = list(message.content_parts)
    if message.parts:
        values["parts"] = content_parts(message, field)
    if message.reasoning_content and shows_reasoning:
        values["reasoning_content"] = message.reasoning_content
    if message.name:
        values["name"] = message.name
    if message.tool_call_id:
        values["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        values["tool_calls"] = [_tool_call(call) for call in message.tool_calls]
    return values


def _tool_call(call: ToolCall) -> dict[str, Any]:
    """Arguments that are no object, as those of a call that a limit cut off, are the text that the model wrote."""
    arguments: dict[str, Any] | str
    try:
        arguments = _parse_object(call.arguments_json, "arguments_json")
    except InvalidArgument:
        arguments = call.arguments_json
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _tool(tool: Tool, field: str) -> dict[str, Any]:
    if not tool.name:
        raise invalid(f"{field}.name", "is required")
    parameters = _parse_object(tool.parameters_json, f"{field}.parameters_json")
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": parameters or {"type": "object", "properties": {}},
    }
    return {"type": "function", "function": function}


def _parse_object(text: str, field: str) -> dict[str, Any]:
    if not text:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise invalid(field, f"is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise invalid(field, "must be a JSON object")
    return value

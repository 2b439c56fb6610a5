"""Converts the messages of a conversation, and what its template is told, to a ChatPrompt."""

from collections.abc import Iterable, Iterator

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.images.reading import ImageReader
from infermesh_router.openai.convert.formats import dump
from infermesh_router.openai.errors import invalid
from infermesh_router.openai.schema.messages import Conversation, ImagePart, Message, Part, TextPart


def fill_chat(chat: pb.ChatPrompt, request: Conversation, images: ImageReader) -> None:
    """Fills in the conversation. Raises InvalidArgument for messages that contradict themselves, and for bad images."""
    for index, message in enumerate(request.messages):
        made = _message(message, f"messages[{index}]")
        if not isinstance(message.content, str | None) and any(isinstance(part, ImagePart) for part in message.content):
            made.ClearField("content")
            made.ClearField("content_parts")
            made.parts.extend(_parts(message.content, index, images))
        chat.messages.append(made)
    if request.add_generation_prompt is not None:
        chat.add_generation_prompt = request.add_generation_prompt
    if request.chat_template_kwargs:
        chat.template_kwargs_json = dump(request.chat_template_kwargs, "chat_template_kwargs")
    if request.continue_final_message:
        if request.add_generation_prompt:
            raise invalid("continue_final_message", "and 'add_generation_prompt' must not both be true")
        chat.continue_final_message = True
    chat.reasoning_effort = request.reasoning_effort or ""
    chat.verbosity = request.verbosity or ""
    if request.enable_thinking is not None:
        chat.enable_thinking = request.enable_thinking


def _message(message: Message, path: str) -> pb.ChatMessage:
    if message.content is None and message.role != "assistant":
        raise invalid(f"{path}.content", "is required", reason="MISSING_REQUIRED_PARAMETER")
    if message.role == "tool" and message.tool_call_id is None:
        raise invalid(f"{path}.tool_call_id", "is required", reason="MISSING_REQUIRED_PARAMETER")
    if message.role != "tool" and message.tool_call_id is not None:
        raise invalid(f"{path}.tool_call_id", "is allowed only in a message with role 'tool'")
    if message.role == "function" and not message.name:
        raise invalid(f"{path}.name", "is required", reason="MISSING_REQUIRED_PARAMETER")
    for name in ("tool_calls", "function_call"):
        if message.role != "assistant" and getattr(message, name):
            raise invalid(f"{path}.{name}", "is allowed only in a message with role 'assistant'")
    calls = [
        pb.ToolCall(id=call.id, name=call.function.name, arguments_json=call.function.arguments)
        for call in message.tool_calls or ()
    ]
    if (call := message.function_call) is not None:
        calls.append(pb.ToolCall(id=_legacy_id(call.name), name=call.name, arguments_json=call.arguments))
    texts, is_result = _texts(message), message.role == "function"
    return pb.ChatMessage(
        role="tool" if is_result else message.role,
        content=texts[0] if len(texts) == 1 else "",
        content_parts=texts if len(texts) > 1 else (),
        name=message.name or "",
        tool_calls=calls,
        tool_call_id=_legacy_id(message.name or "") if is_result else message.tool_call_id or "",
        reasoning_content=message.reasoning_content or message.reasoning or "",
    )


def _parts(content: Iterable[Part], index: int, images: ImageReader) -> Iterator[pb.ContentPart]:
    """The parts of the message at that index. Empty texts are left out: they say nothing beside an image."""
    made = 0
    for number, part in enumerate(content):
        if isinstance(part, ImagePart):
            path = f"messages[{index}].content[{number}].image_url"
            given = part.image_url
            yield pb.ContentPart(image=images.read(given.url, given.detail, at=(index, made), path=path))
        elif isinstance(part, TextPart) and part.text:
            yield pb.ContentPart(text=part.text)
        else:
            continue
        made += 1


def _legacy_id(name: str) -> str:
    """The id of a call that came without one: a result names the function only, so its name makes the id."""
    return f"call_{name}"


def _texts(message: Message) -> list[str]:
    content = message.content or ""
    return [content] if isinstance(content, str) else [part.text for part in content if isinstance(part, TextPart)]

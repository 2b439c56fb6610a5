"""Turns input items into the messages of a chat. Calls and reasoning join the assistant's message they belong to."""

from collections.abc import Iterable, Sequence
from typing import Any

from infermesh_router.openai.errors import invalid
from infermesh_router.responses.items import (
    Content,
    FunctionCallItem,
    FunctionCallOutputItem,
    ImagePart,
    Item,
    MessageItem,
    Part,
    ReasoningItem,
    RefusalPart,
    TextPart,
)

Message = dict[str, Any]
"""A message as `ChatRequest` takes it."""


def chat_messages(items: Iterable[Item], instructions: str | None) -> list[Message]:
    """The messages of the items, after the instructions. Raises InvalidArgument if there is none."""
    turns = _Turns()
    for item in items:
        turns.add(item)
    messages = turns.end()
    if not messages:
        raise invalid("input", "must contain at least one item", reason="MISSING_REQUIRED_PARAMETER")
    return [{"role": "system", "content": instructions}, *messages] if instructions else messages


class _Turns:
    """Collects the messages. One turn of the assistant is reasoning, then text, then calls."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._turn: Message | None = None
        """The assistant's message that the next item may belong to."""

    def add(self, item: Item) -> None:
        match item:
            case MessageItem(role="assistant", content=content):
                self._say(content)
            case MessageItem(role=role, content=content):
                self._close()
                self._messages.append({"role": role, "content": _chat_content(content)})
            case ReasoningItem():
                self._think(item)
            case FunctionCallItem():
                self._call(item)
            case FunctionCallOutputItem(call_id=call_id, output=output):
                self._close()
                self._messages.append({"role": "tool", "tool_call_id": call_id, "content": _chat_content(output)})

    def end(self) -> list[Message]:
        self._close()
        return self._messages

    def _think(self, item: ReasoningItem) -> None:
        thought = "".join(part.text for part in item.content or item.summary or ())
        if not thought:
            return
        turn = self._before_text()
        turn["reasoning_content"] = turn.get("reasoning_content", "") + thought

    def _say(self, content: Content) -> None:
        self._before_text()["content"] = _chat_content(content)

    def _call(self, item: FunctionCallItem) -> None:
        function = {"name": item.name, "arguments": item.arguments}
        call = {"id": item.call_id, "type": "function", "function": function}
        turn = self._open() if self._turn is None else self._turn
        turn.setdefault("tool_calls", []).append(call)

    def _before_text(self) -> Message:
        """The assistant's message that has neither text nor calls yet."""
        turn = self._turn
        return self._open() if turn is None or "content" in turn or "tool_calls" in turn else turn

    def _open(self) -> Message:
        self._close()
        self._turn = {"role": "assistant"}
        return self._turn

    def _close(self) -> None:
        if self._turn is not None:
            self._messages.append(self._turn)
            self._turn = None


def _chat_content(content: Content) -> str | list[dict[str, Any]]:
    """A content in a chat's form. One part is the same as its text."""
    if isinstance(content, str):
        return content
    if any(isinstance(part, ImagePart) for part in content):
        return [_chat_part(part) for part in content]
    texts = [_text(part) for part in content]
    if len(texts) <= 1:
        return "".join(texts)
    return [{"type": "text", "text": text} for text in texts]


def _chat_part(part: Part) -> dict[str, Any]:
    if not isinstance(part, ImagePart):
        return {"type": "text", "text": _text(part)}
    detail = "high" if part.detail == "original" else part.detail
    return {"type": "image_url", "image_url": {"url": part.image_url, "detail": detail}}


def _text(part: Part) -> str:
    if isinstance(part, TextPart):
        return part.text
    return part.refusal if isinstance(part, RefusalPart) else ""


def image_paths(items: Sequence[Item], before: int) -> list[str]:
    """Where each image of the items is in the body, in order. `before`: how many items come from earlier responses.

    Raises InvalidArgument for an image without a URL.
    """
    paths = []
    for index, item in enumerate(items):
        name = "output" if isinstance(item, FunctionCallOutputItem) else "content"
        content = getattr(item, name, None) if isinstance(item, MessageItem | FunctionCallOutputItem) else None
        for number, part in enumerate(content if isinstance(content, list) else ()):
            if isinstance(part, ImagePart):
                own = f"input[{index - before}].{name}[{number}].image_url"
                if part.image_url is None:
                    raise invalid(own, "is required", reason="MISSING_REQUIRED_PARAMETER")
                paths.append("previous_response_id" if index < before else own)
    return paths


def shown_items(items: Sequence[Item]) -> list[dict[str, Any]]:
    """The items as the router keeps and lists them, without their ids where they have none."""
    return [_shown(item) for item in items]


def _shown(item: Item) -> dict[str, Any]:
    shown = item.model_dump(exclude_none=True)
    if isinstance(item, MessageItem):
        kind = "output_text" if item.role == "assistant" else "input_text"
        extra: dict[str, Any] = {"annotations": []} if item.role == "assistant" else {}
        parts = shown["content"]
        if isinstance(parts, str):
            shown["content"] = [{"type": kind, "text": parts, **extra}]
        else:
            shown["content"] = [{**extra, **part, "type": kind} if "text" in part else part for part in parts]
    if isinstance(item, ReasoningItem):
        shown.setdefault("summary", [])
        return {**shown, "type": "reasoning"}
    return {"status": "completed", **shown, "type": item.type or "message"}

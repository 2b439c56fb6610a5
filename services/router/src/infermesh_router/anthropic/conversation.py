"""Translates Anthropic's messages to those of a chat: results of tools and the system prompt become messages."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from infermesh_router.anthropic.blocks import (
    Block,
    ImageBlock,
    Message,
    RedactedThinkingBlock,
    TextBlock,
    Texts,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from infermesh_router.openai.convert.formats import dump
from infermesh_router.openai.errors import invalid


@dataclass(slots=True)
class Conversation:
    """The messages of a chat, as its schema takes them."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    """Where each of them is in the body."""
    images: list[str] = field(default_factory=list)
    """Where each of their images is in the body, in order."""
    ignored: set[str] = field(default_factory=set)
    """Blocks without an effect. "[]" stands for any index."""
    is_open: bool = False
    """Whether the answer continues the last message."""

    def add(self, path: str, role: str, parts: Sequence["Part"], **fields: Any) -> None:
        """Appends a message. Its text is in parts only if there are several, as templates may treat parts otherwise."""
        self.messages.append({"role": role, "content": _content(parts), **fields})
        self.paths.append(path)
        self.images += (part.path for part in parts if isinstance(part, Picture))


@dataclass(frozen=True, slots=True)
class Picture:
    """An image of a message."""

    path: str
    """Where it is in the body."""
    url: str


Part = str | Picture


def read_conversation(system: Texts | None, messages: list[Message]) -> Conversation:
    """Translates a conversation. Raises InvalidArgument for blocks that do not belong where they are."""
    made = Conversation()
    if system:
        made.add("system", "system", _texts(system))
    for path, role, blocks in _turns(messages):
        if role == "assistant":
            _add_answer(made, path, blocks)
        else:
            _add_question(made, path, role, blocks)
    if messages[-1].role == "assistant":
        _open_last(made)
    return made


def _turns(messages: list[Message]) -> Iterator[tuple[str, str, list["Placed"]]]:
    """Path, role and blocks of each turn: Anthropic joins messages of the same role that follow each other."""
    path, role, blocks = "", "", list[Placed]()
    for index, message in enumerate(messages):
        if message.role != role:
            if role:
                yield path, role, blocks
            path, role, blocks = f"messages[{index}]", message.role, []
        content = message.content
        given = [TextBlock(type="text", text=content)] if isinstance(content, str) else content
        blocks += ((f"messages[{index}].content[{number}]", block) for number, block in enumerate(given))
    yield path, role, blocks


Placed = tuple[str, Block]
"""A block, and where it is in the body."""


def _add_question(made: Conversation, path: str, role: str, blocks: list[Placed]) -> None:
    """Adds a turn of the user or the system: what it shows as one message, and each result of a tool as its own."""
    parts: list[Part] = []
    for place, block in blocks:
        if isinstance(block, TextBlock):
            parts.append(block.text)
        elif isinstance(block, ImageBlock):
            parts.append(Picture(f"{place}.source", block.url))
        elif isinstance(block, ToolResultBlock) and role == "user":
            if parts:
                made.add(path, role, parts)
                parts = []
            made.add(path, "tool", _result_parts(place, block), tool_call_id=block.tool_use_id)
        else:
            raise _misplaced(path, block, role)
    if parts or not blocks:
        made.add(path, role, parts)


def _add_answer(made: Conversation, path: str, blocks: list[Placed]) -> None:
    """Adds a turn of the assistant."""
    texts, thoughts, calls = list[str](), list[str](), list[dict[str, Any]]()
    for _, block in blocks:
        match block:
            case TextBlock():
                texts.append(block.text)
            case ThinkingBlock():
                thoughts.append(block.thinking)
            case ToolUseBlock():
                function = {"name": block.name, "arguments": dump(block.input, f"{path}.content")}
                calls.append({"id": block.id, "type": "function", "function": function})
            case RedactedThinkingBlock():
                made.ignored.add("messages[].content[].redacted_thinking")
            case _:
                raise _misplaced(path, block, "assistant")
    more: dict[str, Any] = {}
    if thoughts:
        more["reasoning_content"] = "\n".join(thoughts)
    if calls:
        more["tool_calls"] = calls
    made.add(path, "assistant", texts, **more)


def _open_last(made: Conversation) -> None:
    """Leaves a last message of the assistant open; an empty one is the beginning of an answer, and is left out."""
    last, path = made.messages[-1], made.paths[-1]
    if "tool_calls" in last:
        raise invalid(path, "ends with a 'tool_use', which must be followed by its 'tool_result'")
    if last["content"] or "reasoning_content" in last:
        made.is_open = True
        return
    made.messages.pop()
    made.paths.pop()
    if not made.messages:
        raise invalid(path, "must not be the only message and empty")


def _result_parts(place: str, result: ToolResultBlock) -> list[Part]:
    """What the model is shown of a tool's result; chat templates know no failed results, so the text says it."""
    content = result.content or ""
    blocks = [] if isinstance(content, str) else content
    parts: list[Part] = [
        Picture(f"{place}.content[{number}].source", block.url) if isinstance(block, ImageBlock) else block.text
        for number, block in enumerate(blocks)
        if isinstance(block, ImageBlock | TextBlock)
    ]
    text = content if isinstance(content, str) else "\n".join(part for part in parts if isinstance(part, str))
    failed = bool(result.is_error) and not text.lower().startswith("error")
    if any(isinstance(part, Picture) for part in parts):
        return ["Error:", *parts] if failed else parts
    return [f"Error: {text}" if failed else text]


def _texts(content: Texts) -> list[str]:
    return [content] if isinstance(content, str) else [block.text for block in content if isinstance(block, TextBlock)]


def _content(parts: Sequence[Part]) -> str | list[dict[str, Any]]:
    if len(parts) < 2 and not any(isinstance(part, Picture) for part in parts):
        return "".join(part for part in parts if isinstance(part, str))
    return [
        {"type": "image_url", "image_url": {"url": part.url}}
        if isinstance(part, Picture)
        else {"type": "text", "text": part}
        for part in parts
    ]


def _misplaced(path: str, block: Block, role: str) -> Exception:
    return invalid(path, f"has a block of type '{block.type}', which is not allowed in a message with role '{role}'")

"""Translates Anthropic's messages to those of a chat: results of tools and the system prompt become messages."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from infermesh_router.anthropic.blocks import (
    Block,
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
    ignored: set[str] = field(default_factory=set)
    """Blocks without an effect. "[]" stands for any index."""
    is_open: bool = False
    """Whether the answer continues the last message."""

    def add(self, path: str, role: str, texts: list[str], **fields: Any) -> None:
        """Appends a message. Its text is in parts only if there are several, as templates may treat parts otherwise."""
        self.messages.append({"role": role, "content": _content(texts), **fields})
        self.paths.append(path)


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


def _turns(messages: list[Message]) -> Iterator[tuple[str, str, list[Block]]]:
    """Path, role and blocks of each turn: Anthropic joins messages of the same role that follow each other."""
    path, role, blocks = "", "", list[Block]()
    for index, message in enumerate(messages):
        if message.role != role:
            if role:
                yield path, role, blocks
            path, role, blocks = f"messages[{index}]", message.role, []
        content = message.content
        blocks += [TextBlock(type="text", text=content)] if isinstance(content, str) else content
    yield path, role, blocks


def _add_question(made: Conversation, path: str, role: str, blocks: list[Block]) -> None:
    """Adds a turn of the user or the system: its texts as one message, and each result of a tool as its own."""
    texts: list[str] = []
    for block in blocks:
        if isinstance(block, TextBlock):
            texts.append(block.text)
        elif isinstance(block, ToolResultBlock) and role == "user":
            if texts:
                made.add(path, role, texts)
                texts = []
            made.add(path, "tool", [_result_text(block)], tool_call_id=block.tool_use_id)
        else:
            raise _misplaced(path, block, role)
    if texts or not blocks:
        made.add(path, role, texts)


def _add_answer(made: Conversation, path: str, blocks: list[Block]) -> None:
    """Adds a turn of the assistant."""
    texts, thoughts, calls = list[str](), list[str](), list[dict[str, Any]]()
    for block in blocks:
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


def _result_text(result: ToolResultBlock) -> str:
    """What the model is told of a tool's result; chat templates know no failed results, so the text says it."""
    text = "\n".join(_texts(result.content or ""))
    return f"Error: {text}" if result.is_error and not text.lower().startswith("error") else text


def _texts(content: Texts) -> list[str]:
    return [content] if isinstance(content, str) else [block.text for block in content if isinstance(block, TextBlock)]


def _content(texts: list[str]) -> str | list[dict[str, Any]]:
    return "".join(texts) if len(texts) < 2 else [{"type": "text", "text": text} for text in texts]


def _misplaced(path: str, block: Block, role: str) -> Exception:
    return invalid(path, f"has a block of type '{block.type}', which is not allowed in a message with role '{role}'")

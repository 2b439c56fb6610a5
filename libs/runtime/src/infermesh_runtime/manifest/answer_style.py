"""How a model writes tool calls and reasoning, by the names of the formats that parsers know."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AnswerStyle:
    """The style of all answers of one model."""

    tool_format: str = ""
    """A name in `answer_parsing.formats.table.FORMATS`; empty if it makes no calls that we know."""
    reasoning: str = ""
    """A name in `chat_templates.reasoning_marks.REASONING_MARKS`; empty if it writes none."""

"""Makes the parser for a model's style: its reasoning first, then its format of tool calls."""

from infermesh_runtime.answer_parsing.formats.table import FORMATS, Format
from infermesh_runtime.answer_parsing.parts import AnswerParser, OutputStyle, Part, Tools
from infermesh_runtime.answer_parsing.reader import Wait
from infermesh_runtime.answer_parsing.reasoning import read_reasoning
from infermesh_runtime.answer_parsing.turn import Turn
from infermesh_runtime.chat_templates.reasoning_marks import REASONING_MARKS


def new_parser(style: OutputStyle, tools: Tools) -> AnswerParser:
    """A parser of one answer. Raises KeyError when the style names a format or marks that do not exist."""
    return _Parser(style, tools)


def known_style(tool_format: str, reasoning: str, *, reasoning_opened: bool, offers_tools: bool) -> OutputStyle:
    """The style of the answer to a request, as far as parsers know it: what they do not know counts as text.

    A model that is offered no tools makes no calls, so its format counts only if it says more than what is a call.
    """
    form = FORMATS.get(tool_format)
    return OutputStyle(
        tool_format=tool_format if form is not None and (offers_tools or form.channels) else "",
        reasoning=reasoning if reasoning in REASONING_MARKS else "",
        reasoning_opened=reasoning_opened and reasoning in REASONING_MARKS,
    )


def marks_of(style: OutputStyle) -> frozenset[str]:
    """The marks of a style. Those that are special tokens of the model must be in the text that the parser gets."""
    reasoning = REASONING_MARKS.get(style.reasoning)
    thought = (*reasoning.begins, *reasoning.ends) if reasoning else ()
    return frozenset((*FORMATS[style.tool_format].marks, *thought))


class _Parser:
    def __init__(self, style: OutputStyle, tools: Tools) -> None:
        self._turn = Turn(tools)
        self._steps = _parse(self._turn, style, FORMATS[style.tool_format])
        next(self._steps)

    def feed(self, text: str) -> list[Part]:
        """See `AnswerParser`."""
        self._turn.reader.add(text)
        next(self._steps)
        return self._turn.answer.take()

    def end(self, truncated: bool) -> list[Part]:
        """See `AnswerParser`."""
        self._turn.reader.ended = True
        self._turn.reader.truncated = truncated
        for _waiting in self._steps:
            pass
        self._turn.answer.finish()
        return self._turn.answer.take()


def _parse(turn: Turn, style: OutputStyle, form: Format) -> Wait[None]:
    yield
    if style.reasoning:
        yield from read_reasoning(
            turn.reader,
            turn.answer,
            REASONING_MARKS[style.reasoning],
            opened=style.reasoning_opened,
            also_ends=form.ends_reasoning,
        )
    yield from form.body(turn)

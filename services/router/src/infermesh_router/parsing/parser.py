"""Makes the parser for a model's style: its reasoning first, then its format of tool calls."""

from infermesh_router.parsing.formats.table import FORMATS, Format
from infermesh_router.parsing.parts import AnswerParser, OutputStyle, Part, Tools
from infermesh_router.parsing.reader import Wait
from infermesh_router.parsing.reasoning import MARKERS, read_reasoning
from infermesh_router.parsing.turn import Turn


def new_parser(style: OutputStyle, tools: Tools) -> AnswerParser:
    """A parser of one answer. Raises KeyError when the style names a format or markers that there are not."""
    return _Parser(style, tools)


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
            MARKERS[style.reasoning],
            opened=style.reasoning_opened,
            also_ends=form.ends_reasoning,
        )
    yield from form.body(turn)

"""Parses calls that are JSON objects: after a mark (Hermes, Granite, Phi), or bare (Llama 3, Qwen 2.5 Coder)."""

from dataclasses import dataclass

from infermesh_runtime.answer_parsing.formats.call_objects import read_calls
from infermesh_runtime.answer_parsing.reader import Wait
from infermesh_runtime.answer_parsing.turn import Turn

_FENCE = "```"
_LANGUAGES = ("json", "tool_call", "tool_code", "xml")


@dataclass(frozen=True, slots=True)
class MarkedJson:
    """Where a family writes its calls."""

    begins: tuple[str, ...]
    """Marks after which calls come."""
    ends: tuple[str, ...] = ()
    """Marks that may follow them."""
    bare: bool = False
    """Whether an object that calls one of the tools is a call without a mark, at the beginning of a line or fenced."""
    bare_array: bool = False
    """Whether an array of such objects is one, too."""
    doubted: tuple[str, ...] = ()
    """Those of `begins` that models write around other things too, so that only calls of a known tool count."""

    @property
    def marks(self) -> tuple[str, ...]:
        """All marks."""
        return (*self.begins, *self.ends)

    def body(self, turn: Turn) -> Wait[None]:
        """Parses an answer."""
        bare = (("{", _FENCE) if self.bare else ()) + (("[",) if self.bare_array else ())
        while mark := (yield from turn.reader.until((*self.begins, *bare), turn.answer.text)):
            if mark in bare:
                yield from self._read_bare(turn, mark)
            else:
                yield from self._read_marked(turn, mark)

    def _read_marked(self, turn: Turn, mark: str) -> Wait[None]:
        reader = turn.reader
        opening = mark[-1] if mark[-1] in "[{" else ""  # "functools[" is a mark because "functools" is a word
        reader.put_back(opening)
        reader.start_record()
        yield from reader.spaces()
        found = yield from read_calls(turn, only_known=mark in self.doubted)
        taken = reader.stop_record()
        if not found:
            turn.give_back(mark.removesuffix(opening) + taken, marked=mark not in self.doubted)
            return
        yield from self._skip_end(turn, self.ends)

    def _read_bare(self, turn: Turn, mark: str) -> Wait[None]:
        reader, fenced = turn.reader, mark == _FENCE
        if not (turn.answer.at_line_start and turn.tools):
            turn.answer.text(mark)
            return
        reader.put_back("" if fenced else mark)
        reader.start_record()
        if fenced:
            yield from reader.literal(*_LANGUAGES)
            yield from reader.spaces()
        found = False
        if (yield from reader.character()) in ("{", "["):
            found = yield from read_calls(turn, only_known=True)
        taken = reader.stop_record()
        if not found:
            turn.give_back((mark if fenced else "") + taken, marked=False)
        else:
            yield from self._skip_end(turn, (_FENCE,) if fenced else self.ends)

    def _skip_end(self, turn: Turn, ends: tuple[str, ...]) -> Wait[None]:
        spaces = yield from turn.reader.spaces()
        if not ends or not (yield from turn.reader.literal(*ends)):
            turn.answer.text(spaces)

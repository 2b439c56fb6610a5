"""Collects the parts of an answer: joins neighbours, numbers calls, and trims the white space around what it parts."""

from infermesh_runtime.answer_parsing.json_values import is_json
from infermesh_runtime.answer_parsing.parts import CallArguments, CallBegins, CallEnds, Part, Reasoning, Text


class Answer:
    """The answer so far. White space between reasoning, text and calls belongs to the format, not to the answer.

    Text keeps the white space inside it, also where a call stood in the middle of it.
    """

    def __init__(self) -> None:
        self.calls = 0
        self._parts: list[Part] = []
        self._held = ""
        self._has_text = False
        self._reasoned = False
        self._thought_held = ""
        self._arguments: list[str] = []
        self._last = "\n"

    @property
    def at_line_start(self) -> bool:
        """Whether text that comes now begins a line."""
        return self._last == "\n"

    def text(self, text: str) -> None:
        """The content goes on."""
        if not text:
            return
        self._last = text[-1]
        content = self._held + text
        if not self._has_text and (self.calls or self._reasoned):
            content = content.lstrip()
        kept = content.rstrip()
        self._held = content[len(kept) :]
        if kept:
            self._has_text = True
            self._join(Text(kept))

    def reasoning(self, text: str) -> None:
        """The reasoning goes on."""
        thought = self._thought_held + text if self._reasoned else text.lstrip()
        kept = thought.rstrip()
        self._thought_held = thought[len(kept) :]
        if kept:
            self._reasoned = True
            self._join(Reasoning(kept))

    def end_reasoning(self) -> None:
        """What follows is no reasoning. White space at its end, and before the text, is dropped."""
        self._thought_held = ""
        self._reasoned = True
        if not self._has_text:
            self._held = ""

    def begin_call(self, name: str) -> None:
        """A call begins."""
        self._parts.append(CallBegins(self.calls, name))
        if not self._has_text:
            self._held = ""
        self._last = "\n"
        self._arguments.clear()

    def arguments(self, text: str) -> None:
        """The arguments of the call go on."""
        if text:
            self._arguments.append(text)
            self._join(CallArguments(self.calls, text))

    def end_call(self) -> None:
        """The call ends."""
        self._parts.append(CallEnds(self.calls, complete=is_json("".join(self._arguments))))
        self.calls += 1

    def call(self, name: str, arguments: str) -> None:
        """A whole call."""
        self.begin_call(name)
        self.arguments(arguments)
        self.end_call()

    def finish(self) -> None:
        """The answer ends. White space at its end is its own if nothing but text is in it."""
        if self._held and not (self.calls or self._reasoned):
            self._join(Text(self._held))
        self._held = ""

    def take(self) -> list[Part]:
        """The parts since the last time."""
        parts, self._parts = self._parts, []
        return parts

    def _join(self, part: Text | Reasoning | CallArguments) -> None:
        last = self._parts[-1] if self._parts else None
        if isinstance(part, Text) and isinstance(last, Text):
            self._parts[-1] = Text(last.text + part.text)
        elif isinstance(part, Reasoning) and isinstance(last, Reasoning):
            self._parts[-1] = Reasoning(last.text + part.text)
        elif isinstance(part, CallArguments) and isinstance(last, CallArguments) and last.index == part.index:
            self._parts[-1] = CallArguments(part.index, last.text + part.text)
        else:
            self._parts.append(part)

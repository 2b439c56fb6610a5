"""Writes answers to stdout: on a terminal wrapped at the words, and with what the model thinks dimmed."""

import shutil
import sys

from infermesh_client.cli.chat.wrapping import WordWrapper
from infermesh_client.cli.output.safe_console import is_dumb
from infermesh_client.told import printable, visible
from infermesh_runtime.answer_parsing.parts import Part, Reasoning, Text

_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"


class Screen:
    """Where one answer goes. Off a terminal it is the answer's text and nothing else."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty() and not is_dumb()
        self._wrapper = self._new_wrapper()
        self._thinks = False
        self.empty = True
        """Whether nothing has been written yet."""

    def show(self, part: Part) -> None:
        """Writes a part of a chat's answer; calls of tools are not shown."""
        match part:
            case Text(text):
                self._end_thoughts()
                self.write(text)
            case Reasoning(text) if self._terminal:
                if not self._thinks:
                    self._thinks = True
                    sys.stdout.write(_DIM)
                self.write(text)

    def write(self, text: str) -> None:
        """Writes a piece of text."""
        if text:
            self.empty = False
            sys.stdout.write(self._wrapper.feed(visible(text)) if self._terminal else printable(text))
            sys.stdout.flush()

    def end(self) -> None:
        """Ends the answer, whole or not, with a line break."""
        if self.empty:
            return
        self._end_thoughts()
        print(flush=True)

    def _end_thoughts(self) -> None:
        if self._thinks:
            self._thinks = False
            sys.stdout.write(f"{_PLAIN}\n\n")
            self._wrapper = self._new_wrapper()

    @staticmethod
    def _new_wrapper() -> WordWrapper:
        return WordWrapper(shutil.get_terminal_size().columns)

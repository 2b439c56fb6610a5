"""Wraps a text that arrives in pieces at the words, to the width of the terminal."""

from rich.cells import cell_len

_FENCE = "```"
_WIDE = 2
_ERASE_REST = "\x1b[K"


class WordWrapper:
    """Shows each character at once. A word that turns out too long is erased and begins again on the next line.

    Blocks of code between ``` are not wrapped, nor are words that are longer than a line: the terminal breaks those.
    """

    def __init__(self, width: int) -> None:
        self._width = width - 1  # in the last column a terminal's cursor stands still, and a backspace goes too far
        self._column = 0
        self._word = ""
        self._line = ""
        self._in_code = False

    def feed(self, text: str) -> str:
        """What to send to the terminal."""
        return "".join(map(self._character, text))

    def _character(self, character: str) -> str:
        if character == "\n":
            return self._new_line()
        self._line += character
        if self._in_code or self._line.lstrip().startswith(_FENCE):
            return character
        return self._space(character) if character.isspace() else self._letter(character)

    def _new_line(self) -> str:
        if self._line.lstrip().startswith(_FENCE):
            self._in_code = not self._in_code
        self._line, self._word, self._column = "", "", 0
        return "\n"

    def _space(self, character: str) -> str:
        self._word = ""
        if self._column >= self._width:
            return ""  # the next word begins a line
        self._column += 1
        return character

    def _letter(self, character: str) -> str:
        length = cell_len(character)
        if length == _WIDE:  # of a script without spaces, which may be broken anywhere
            self._word = ""
        begun = cell_len(self._word)
        shown = character
        if self._column + length > self._width and begun < self._column:
            shown = "\b" * begun + (_ERASE_REST if begun else "") + "\n" + self._word + character
            self._column = begun
        self._column += length
        self._word += character
        return shown

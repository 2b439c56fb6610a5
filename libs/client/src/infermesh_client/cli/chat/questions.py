"""Reads the questions of a conversation from a terminal."""

from collections.abc import Iterator


def read_questions() -> Iterator[str]:
    """Yields what the user enters, without blank lines, until Ctrl-D, or Ctrl-C at the prompt.

    Lines that are pasted together are one question: the terminal marks where a paste begins and ends.
    """
    import readline  # noqa: PLC0415 - its import gives input() line editing and history

    if "libedit" not in (readline.__doc__ or ""):  # libedit knows no bracketed paste
        readline.parse_and_bind("set enable-bracketed-paste on")  # Python turns it off
    while True:
        try:
            question = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            print()
            return
        if question:
            yield question

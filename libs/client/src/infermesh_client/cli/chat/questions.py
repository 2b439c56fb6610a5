"""Reads the questions of a conversation from a terminal."""

from collections.abc import Iterator

from infermesh_client.cli.boundary import Terminated

_HINT = "Ctrl-C again, Ctrl-D or /bye ends the chat."


def read_questions() -> Iterator[str]:
    """Yields what the user enters, without blank lines, until Ctrl-D, or Ctrl-C twice at the prompt.

    The first Ctrl-C discards the line: it may have been meant for an answer that has just ended. Lines that are pasted
    together are one question: the terminal marks where a paste begins and ends.
    """
    import readline  # noqa: PLC0415 - its import gives input() line editing and history

    if "libedit" not in (readline.__doc__ or ""):  # libedit knows no bracketed paste
        readline.parse_and_bind("set enable-bracketed-paste on")  # Python turns it off
    warned = False
    while True:
        try:
            question = input("> ").strip()
        except (EOFError, Terminated):
            print()
            return
        except KeyboardInterrupt:
            print()
            if warned:
                return
            print(_HINT)
            warned = True
            continue
        warned = False
        if question:
            yield question

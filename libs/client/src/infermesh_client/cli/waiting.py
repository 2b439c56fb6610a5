"""Shows what the command waits for, and for how long."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from infermesh_client.cli.safe_console import SafeConsole


@contextmanager
def waiting_line(console: SafeConsole, text: str, *, loading: bool = False) -> Iterator[Callable[[], None]]:
    """Shows `text` with the time passed while the block runs, or until the function that it yields is called.

    Off a terminal it prints one line, and only for a load, which may take minutes.
    """
    if not console.is_terminal:
        if loading:
            console.say(text)
        yield lambda: None
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    progress = Progress(*columns, console=console, transient=True)
    progress.add_task(text, total=None)
    with progress:
        yield progress.stop

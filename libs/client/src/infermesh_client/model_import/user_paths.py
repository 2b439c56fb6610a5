"""Makes errors of an import name the user's own files, never the staging folder, which is gone by then."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infermesh_client.model_import.staging import explain_os_error
from infermesh_runtime.errors import InfermeshError


@contextmanager
def unstaged(folder: Path, source: str, target: Path) -> Iterator[None]:
    """Errors inside name `source` where they would name `folder`; those of the disk name `target`."""
    try:
        yield
    except InfermeshError as error:
        error.message = _replaced(error.message, folder, source)
        error.args = (error.message,)
        raise
    except OSError as error:
        if isinstance(error.filename, str | Path):
            error.filename = str(error.filename).replace(str(folder), str(target))
        raise


@contextmanager
def explained() -> Iterator[None]:
    """Turns failed reads and writes into errors that name the file and the cause."""
    try:
        yield
    except OSError as error:
        raise explain_os_error(error) from error


def _replaced(message: str, folder: Path, source: str) -> str:
    for name in (f"{folder}/model.gguf", str(folder)):
        message = message.replace(name, source)
    return message

"""Checks weight files before they are copied, and names the user's own file when one cannot be right."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tokenizers import Tokenizer

from infermesh_client.weight_files.gguf_checks import check_model, check_places
from infermesh_client.weight_files.gguf_header import HeaderError, read_header
from infermesh_client.weight_files.pointers import check_no_pointer
from infermesh_client.weight_files.safetensors_header import SafeTensor, read_tensors
from infermesh_client.weight_files.splits import Shard, find_shards, merged_header
from infermesh_runtime.errors import InvalidArgument


def inspect_gguf(path: Path) -> Sequence[Shard]:
    """Checks a GGUF file and its sibling shards; returns them in order, one for a file that is not split.

    Raises InvalidArgument that names the file and what is wrong with it; OSError.
    """
    check_no_pointer(path)
    with named(path):
        shards = find_shards(path, read_header(path))
    for shard in shards:
        with named(shard.path):
            check_places(shard.header)
    with named(path):
        check_model(merged_header(shards))
    return shards


def inspect_safetensors(paths: Sequence[Path]) -> Mapping[str, SafeTensor]:
    """Checks files of safetensors; returns their tensors. Raises InvalidArgument that names the file; OSError."""
    tensors: dict[str, SafeTensor] = {}
    for path in paths:
        with named(path):
            tensors |= read_tensors(path)
    return tensors


def inspect_tokenizer(path: Path) -> None:
    """Raises InvalidArgument that names the file unless it is a tokenizer that can be loaded."""
    try:
        Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except OSError:
        raise
    except BaseException as error:  # the package raises bare Exceptions, and panics that are none
        if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
            raise
        raise InvalidArgument(f"{path} is no tokenizer that can be used: {error}") from error


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Puts the path before the message of a HeaderError, and of an InvalidArgument that does not name it."""
    try:
        yield
    except HeaderError as error:
        raise InvalidArgument(f"{path}: {error}") from error
    except InvalidArgument as error:
        if str(path) in error.message:
            raise
        raise InvalidArgument(f"{path}: {error.message}", reason=error.reason) from error

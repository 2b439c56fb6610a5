"""The file through which ranks find each other: in memory, so that nothing is left of it however they end."""

import os
from pathlib import Path


def open_store() -> int:
    """Its descriptor, for the other ranks to inherit.

    Never close it: threads of torch open the file by this number for as long as the process lives.
    """
    return os.memfd_create("infermesh-ranks")


def store_path(descriptor: int) -> Path:
    """Its name, in every process that has the descriptor."""
    return Path(f"/proc/self/fd/{descriptor}")

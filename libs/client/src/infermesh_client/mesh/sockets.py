"""Chooses the paths of the unix sockets of one home folder."""

import hashlib
import os
import tempfile
from pathlib import Path

from infermesh_client.settings import Home

_MAX_BYTES = 100
"""The path of a Unix socket has at most 107, and supervisord appends its process id while it creates one."""


def socket_path(home: Home, name: str) -> Path:
    """Path of a socket: in the home folder, or in the temporary folder if the home's path is too long for one."""
    path = home.run / f"{name}.sock"
    if len(os.fsencode(path)) <= _MAX_BYTES:
        return path
    key = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"infermesh-{os.getuid()}-{key}.sock"

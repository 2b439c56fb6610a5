"""Setting of the secret with which the mesh's owner manages it: `infermesh up` writes one, and the page sends it."""

import os
import stat
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from infermesh_runtime.settings import ServiceSettings

_FEWEST, _MOST = 32, 512


class ManageSettings(ServiceSettings):
    """Where the owner's secret is."""

    manage_key_file: str = Field(
        "",
        description="Path of a file with the secret of the mesh's owner, 32 to 512 visible ASCII characters, closed to "
        "other users. Callers of MeshService that send it as x-infermesh-manage-key manage the mesh. `infermesh up` "
        "makes one. Empty: only admin keys manage.",
    )

    def manage_key(self) -> str:
        """The owner's secret; "" if there is none. Raises ValueError."""
        return _read_secret(self.manage_key_file) if self.manage_key_file else ""

    @model_validator(mode="after")
    def _check_manage_key(self) -> Self:
        self.manage_key()
        return self


def _read_secret(name: str) -> str:
    shown = f"INFERMESH_MANAGE_KEY_FILE={name!r}"
    try:
        # a pipe without a writer would hold up the start
        descriptor = os.open(Path(name).expanduser(), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                raise ValueError(f"{shown} is not a file")
            content = file.read(_MOST + 2)  # a newline may follow
    except OSError as error:
        raise ValueError(f"{shown} cannot be read: {error.strerror}") from None
    if mode & stat.S_IRWXO:
        raise ValueError(f"{shown} is open to other users of this machine; close it with `chmod 600 {name}`")
    secret = content.decode("ascii", "replace").strip()
    if not (_FEWEST <= len(secret) <= _MOST and secret.isascii() and secret.isprintable()) or " " in secret:
        raise ValueError(f"{shown} must hold one secret of {_FEWEST} to {_MOST} visible ASCII characters")
    return secret

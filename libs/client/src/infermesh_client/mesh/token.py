"""The mesh token of this machine's mesh: a random one for each start, unless the settings give one."""

import os
import secrets
from pathlib import Path

from infermesh_client.settings import ClientSettings, Home
from infermesh_runtime.errors import InvalidArgument


def token_file(home: Home) -> Path:
    """The file from which the mesh's processes read the token. Only this user can read it."""
    return home.run / "mesh-token"


def write_token(settings: ClientSettings, home: Home) -> None:
    """Writes the token that the settings give, or else a new one. Raises InvalidArgument if its file is unreadable."""
    path = token_file(home)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # so that the mode below is that of the file
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write((given_token(settings) or secrets.token_urlsafe(32)) + "\n")


def given_token(settings: ClientSettings) -> str:
    """The token in INFERMESH_MESH_TOKEN or in the file INFERMESH_MESH_TOKEN_FILE; "" if neither is set."""
    if settings.mesh_token or not settings.mesh_token_file:
        return settings.mesh_token
    try:
        return Path(settings.mesh_token_file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InvalidArgument(f"INFERMESH_MESH_TOKEN_FILE cannot be read: {error}") from error


def own_token(home: Home) -> str:
    """The token of the mesh that runs on this machine; "" if there is none."""
    try:
        return token_file(home).read_text(encoding="utf-8").strip()
    except OSError:
        return ""

"""The secret with which this machine's user manages their mesh through its page: a new one for each start."""

import os
import secrets
from html import escape
from pathlib import Path
from urllib.parse import quote

from infermesh_client.settings import Home

_OPENING = """<!doctype html>
<meta charset="utf-8">
<meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0; url={url}">
<title>infermesh</title>
<a href="{url}">Open the mesh's page</a>
"""


def manage_key_file(home: Home) -> Path:
    """The file from which the router reads the secret. Only this user can read it."""
    return home.run / "manage.key"


def write_manage_key(home: Home) -> None:
    """Writes a new secret."""
    home.run.mkdir(parents=True, exist_ok=True)
    _write_private(manage_key_file(home), secrets.token_urlsafe(32) + "\n")


def own_manage_key(home: Home) -> str:
    """The secret of the mesh that runs on this machine; "" if there is none."""
    try:
        return manage_key_file(home).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def remove_manage_key(home: Home) -> None:
    """Deletes the secret, and the file that opens the page with it."""
    for path in (manage_key_file(home), _opening_file(home)):
        path.unlink(missing_ok=True)


def managing_url(page: str, secret: str) -> str:
    """The page's address with the secret, which the page keeps; browsers send nothing of it to servers."""
    return f"{page}#manage={quote(secret, safe='')}"


def write_opening(home: Home, url: str) -> Path:
    """Writes a file that takes a browser to this address, and returns its path.

    A browser is given this file because other users of the machine see the command lines of its processes.
    """
    path = _opening_file(home)
    _write_private(path, _OPENING.format(url=escape(url)))
    return path


def _opening_file(home: Home) -> Path:
    return home.run / "open-page.html"


def _write_private(path: Path, text: str) -> None:
    """Writes a file in one rename. Nobody else can read it at any time."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    new.replace(path)

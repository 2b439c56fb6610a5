"""Where the command calls a REST API: this machine's mesh, or the server whose URL the user gives."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from infermesh_client.mesh.manage_key import own_manage_key
from infermesh_client.mesh.rest import rest_url, trust
from infermesh_client.mesh.state import read_state
from infermesh_client.settings import ClientSettings, Home
from infermesh_runtime.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class HttpTarget:
    """A server, and how to call it."""

    url: str
    trust: ssl.SSLContext | bool
    """Which certificates to accept; True: the system's CAs."""
    key: str
    """API key; empty: none."""


def http_target(url: str, api_key_file: Path | None, settings: ClientSettings, home: Home) -> HttpTarget:
    """The server at `url`, or, if that is empty, this user's mesh. Raises InvalidArgument for a bad key."""
    target = url or own_url(settings, home)
    return HttpTarget(target, _trust(url, target, settings, home), _key(url, api_key_file, settings))


def own_url(settings: ClientSettings, home: Home) -> str:
    """The URL of this user's mesh, unless INFERMESH_HTTP_PORT names another one's port."""
    state = read_state(home)
    named = f"127.0.0.1:{settings.http_port}"
    if state is None or ("http_port" in settings.model_fields_set and state.http != named):
        return f"http://{named}"
    return rest_url(state)


def owner_secret(url: str, home: Home) -> str:
    """The secret of the mesh's owner, if this is the URL of this user's mesh; it is shown to no other."""
    state = read_state(home)
    return own_manage_key(home) if state is not None and rest_url(state) == url else ""


def _trust(url: str, target: str, settings: ClientSettings, home: Home) -> ssl.SSLContext | bool:
    state = None if url else read_state(home)
    if state is not None and rest_url(state) == target:
        return trust(state)
    return ssl.create_default_context(cafile=settings.tls_ca) if settings.tls_ca else True


def _key(url: str, api_key_file: Path | None, settings: ClientSettings) -> str:
    """The key in the file. INFERMESH_API_KEY is for this machine's mesh, and is shown to no other server."""
    if api_key_file is None:
        return _checked(settings.api_key, "INFERMESH_API_KEY") if settings.api_key and not url else ""
    try:
        key = api_key_file.expanduser().read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InvalidArgument(f"the file of the API key cannot be read: {error}") from None
    return _checked(key, str(api_key_file))


def _checked(text: str, where: str) -> str:
    key = text.strip()
    if not key or not key.isascii() or not key.isprintable():
        raise InvalidArgument(f"{where} must hold one API key, on one line")
    return key

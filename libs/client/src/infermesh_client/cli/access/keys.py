"""Runs `infermesh keys create`, `list` and `revoke`."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from rich.table import Table
from rich.text import Text

from infermesh_client.cli.boundary import error_console, load_settings
from infermesh_client.cli.output.folding import Block, Folding, new_table
from infermesh_client.cli.output.safe_console import SafeConsole
from infermesh_client.key_store import create_key, list_keys, revoke_key
from infermesh_client.settings import ClientSettings, keys_path
from infermesh_runtime.api_keys import ApiKey

_ALLOWED = ("models", "devices", "priority", "limits a minute")


def run_create(name: str, *, models: str, devices: str, expires: datetime | None, **limits: int | None) -> None:
    """Creates a key; stdout gets the key alone, so that scripts can take it. Raises FailedPrecondition."""
    path = _path()
    first = not list_keys(path)
    text, _ = create_key(
        path,
        name,
        models=_split(models),
        devices=_split(devices),
        expires=expires.astimezone(UTC) if expires else None,
        **limits,
    )
    console = error_console()
    console.say(f"Created the key '{name}'. It is shown only now; clients send it as their API key:")
    print(text)
    if first:
        console.say(f"From now on, requests to the mesh need a key ({path}).")


def run_list(*, as_json: bool) -> None:
    """Prints the keys. Raises FailedPrecondition."""
    path = _path()
    keys = list_keys(path)
    if as_json:
        print(json.dumps([_document(key) for key in keys], indent=2))
        return
    console = SafeConsole()
    console.print(Folding([_table(keys)], [_block(key) for key in keys]))
    console.say(str(path), "dim")


def _table(keys: Iterable[ApiKey]) -> Table:
    table = new_table("key", "state", *_ALLOWED, "expires")
    for key in keys:
        table.add_row(_name(key), _state(key), *_allowed(key), _day(key.expires))
    return table


def _block(key: ApiKey) -> Block:
    lines = [*zip(_ALLOWED, _allowed(key), strict=True), ("expires", _day(key.expires))]
    return Block(Text(f"{_name(key)}  {_state(key)}"), lines)


def _name(key: ApiKey) -> str:
    return f"{key.name} (admin)" if key.admin else key.name


def _allowed(key: ApiKey) -> Sequence[str]:
    """What `_ALLOWED` names."""
    models, devices = ", ".join(key.models) or "all", ", ".join(key.devices) or "all"
    return models, devices, f"up to {key.max_priority}", _limits(key)


def run_revoke(name: str) -> None:
    """Revokes a key. Raises NotFound."""
    path = _path()
    revoke_key(path, name)
    error_console().say(f"Revoked {name}")


def lacks_key(settings: ClientSettings) -> bool:
    """Whether this machine's mesh has keys and INFERMESH_API_KEY gives none. Raises FailedPrecondition."""
    return not settings.api_key and bool(list_keys(keys_path(settings)))


def _path() -> Path:
    settings, _ = load_settings()
    return keys_path(settings)


def _document(key: ApiKey) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(key)
    del fields["sha256"]
    return {**fields, "state": _state(key)}


def _state(key: ApiKey) -> str:
    if key.revoked is not None:
        return "revoked"
    return "expired" if key.expires is not None and key.expires <= datetime.now(UTC) else "valid"


def _limits(key: ApiKey) -> str:
    limits = {"requests": key.requests_per_minute, "tokens": key.tokens_per_minute}
    return ", ".join(f"{limit} {what}" for what, limit in limits.items() if limit is not None) or "none"


def _day(moment: datetime | None) -> str:
    return f"{moment.astimezone():%F}" if moment else "never"


def _split(value: str) -> tuple[str, ...]:
    return tuple(part for raw in value.split(",") if (part := raw.strip()))

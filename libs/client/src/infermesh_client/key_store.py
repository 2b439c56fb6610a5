"""Creates and revokes API keys in the file that routers read."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from infermesh_runtime.api_keys import ApiKey, new_key, new_secret, read_keys, write_keys
from infermesh_runtime.errors import FailedPrecondition, NotFound


def list_keys(path: Path) -> tuple[ApiKey, ...]:
    """The keys in the file, in the order of their creation; none if there is no file. Raises FailedPrecondition."""
    try:
        return read_keys(path)
    except FileNotFoundError:
        return ()


def create_key(path: Path, name: str, **allowed: object) -> tuple[str, ApiKey]:
    """Adds a key and returns its text, which is stored nowhere. `allowed` are fields of ApiKey.

    Raises FailedPrecondition if the name is taken, or if the file cannot be used.
    """
    text = new_secret()
    key = new_key(name, text, **allowed)
    with _locked(path):
        others = [other for other in list_keys(path) if other.name != name or other.revoked is None]
        if any(other.name == name for other in others):
            raise FailedPrecondition(
                f"There is a key '{name}' already; choose another name, or `infermesh keys revoke {name}` first.",
                reason="KEY_EXISTS",
            )
        _write(path, (*others, key))
    return text, key


def revoke_key(path: Path, name: str) -> None:
    """Marks a key as revoked; requests with it fail from then on. Raises NotFound, and FailedPrecondition."""
    with _locked(path):
        keys = list_keys(path)
        if not any(key.name == name and key.revoked is None for key in keys):
            names = ", ".join(key.name for key in keys if key.revoked is None) or "none"
            raise NotFound(f"There is no key '{name}' to revoke; there are: {names}.", reason="KEY_NOT_FOUND")
        now = datetime.now(UTC)
        _write(path, tuple(_revoked(key, now) if key.name == name else key for key in keys))


def _revoked(key: ApiKey, now: datetime) -> ApiKey:
    return msgspec.structs.replace(key, revoked=key.revoked or now)


def _write(path: Path, keys: tuple[ApiKey, ...]) -> None:
    try:
        write_keys(path, keys)
    except OSError as error:
        raise _unwritable(path, error) from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds a lock on the file's folder, so that two commands at once lose no key. Makes the folder if needed."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _unwritable(path: Path, error: OSError) -> FailedPrecondition:
    return FailedPrecondition(f"The file of API keys {path} cannot be written: {error.strerror or error}.")

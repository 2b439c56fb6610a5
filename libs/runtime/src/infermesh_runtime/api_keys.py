"""Reads and writes `keys.json`, the file of API keys: who may send requests, for what, and how many.

`infermesh keys` writes it, routers read it. The file holds SHA-256 hashes only. A slow, salted hash would add nothing:
a key is 256 random bits, so there is no list of likely keys to try.
"""

import hashlib
import os
import secrets
from datetime import UTC, datetime
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Annotated, Literal

import msgspec

from infermesh_runtime.errors import FailedPrecondition, InvalidArgument

KEYS_FILE = "keys.json"
"""Its name in INFERMESH_HOME."""
MAX_FILE_BYTES = 16 << 20
KEY_PREFIX = "im-"
_KEY_BYTES = 32

_PROBLEMS = {
    "name": "A key's name has up to 64 letters, digits and . _ @ -, and begins with a letter or a digit.",
    "devices": "The devices that a key can allow are cpu, gpu, xpu and cuda.",
    "max_priority": "A priority is a whole number from -2147483648 to 2147483647.",
}

DeviceName = Literal["cpu", "xpu", "cuda", "gpu"]
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]
PerMinute = Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000_000)]


class ApiKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One key, and what it allows."""

    name: Name
    """Who it belongs to, for logs and fair turns; unique among the keys that are not revoked."""
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    """Hash of the key's text."""
    created: Moment
    models: tuple[str, ...] = ()
    """Names of models and aliases that requests may use; empty: all."""
    devices: tuple[DeviceName, ...] = ()
    """Devices that may answer; "gpu" stands for xpu and cuda; empty: all."""
    max_priority: Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**31)] = 0
    """Highest priority that a request may have."""
    requests_per_minute: PerMinute | None = None
    """None: no limit."""
    tokens_per_minute: PerMinute | None = None
    """Tokens of prompts and answers together; None: no limit."""
    admin: bool = False
    """Whether it may manage the mesh: drain and resume endpoints, load and unload models, see all receipts."""
    expires: Moment | None = None
    """None: never."""
    revoked: Moment | None = None
    """When it was revoked; None: it was not."""


class KeysFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The content of the file."""

    schema: Literal[1] = 1
    keys: tuple[ApiKey, ...] = ()


def new_secret() -> str:
    """The text of a new key."""
    return KEY_PREFIX + secrets.token_urlsafe(_KEY_BYTES)


def hash_secret(text: str) -> bytes:
    """The hash that stands for a key's text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def new_key(name: str, text: str, **allowed: object) -> ApiKey:
    """The key with this text, created now. `allowed` are fields of ApiKey. Raises InvalidArgument for bad ones."""
    fields = {"name": name, "sha256": hash_secret(text).hex(), "created": datetime.now(UTC), **allowed}
    try:
        return msgspec.convert(fields, ApiKey)
    except msgspec.ValidationError as error:
        field = next((field for field in _PROBLEMS if f"$.{field}" in str(error)), "")
        raise InvalidArgument(_PROBLEMS.get(field, f"This key is not possible: {error}."), reason="BAD_KEY") from None


def read_keys(path: Path) -> tuple[ApiKey, ...]:
    """The keys in the file. Raises FileNotFoundError, and FailedPrecondition if it cannot be used."""
    try:
        with path.open("rb") as file:
            return parse_keys(file.read(MAX_FILE_BYTES + 1), path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _refusal(path, f"it cannot be read: {error.strerror or error}") from None


def parse_keys(data: bytes, path: Path) -> tuple[ApiKey, ...]:
    """The keys in the file's content. Raises FailedPrecondition if it cannot be used."""
    if len(data) > MAX_FILE_BYTES:
        raise _refusal(path, f"it has more than {MAX_FILE_BYTES} bytes")
    try:
        keys = msgspec.json.decode(data, type=KeysFile).keys
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _refusal(path, str(error)) from None
    hashes, names = {key.sha256 for key in keys}, [key.name for key in keys if key.revoked is None]
    if len(hashes) < len(keys) or len(set(names)) < len(names):
        raise _refusal(path, "two keys have the same hash or name")
    return keys


def write_keys(path: Path, keys: tuple[ApiKey, ...]) -> None:
    """Replaces the file in one step; only its owner may read it. Raises OSError."""
    data = msgspec.json.format(msgspec.json.encode(KeysFile(keys=keys)), indent=2) + b"\n"
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:  # created with mode 0600
        staged = Path(file.name)
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            staged.replace(path)
        except BaseException:
            staged.unlink(missing_ok=True)
            raise


def _refusal(path: Path, what: str) -> FailedPrecondition:
    return FailedPrecondition(f"Bad file of API keys {path}: {what}.", reason="BAD_KEYS_FILE")

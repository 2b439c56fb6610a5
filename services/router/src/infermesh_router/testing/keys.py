"""API keys for tests of a router."""

from pathlib import Path

from infermesh_runtime.api_keys import ApiKey, new_key, write_keys


def key_of(name: str, **allowed: object) -> ApiKey:
    """The key whose text is `secret_of(name)`."""
    return new_key(name, secret_of(name), **allowed)


def secret_of(name: str) -> str:
    """The text of a key made by `key_of`."""
    return f"im-secret-of-{name}"


def bearer(name: str) -> tuple[tuple[str, str], ...]:
    """The metadata of a caller with the key of this name."""
    return (("authorization", f"Bearer {secret_of(name)}"),)


def write_keys_of(path: Path, **allowed: dict[str, object]) -> str:
    """Writes a file with keys of these names, and returns its path for INFERMESH_KEYS_FILE."""
    write_keys(path, tuple(key_of(name, **fields) for name, fields in allowed.items()))
    return str(path)

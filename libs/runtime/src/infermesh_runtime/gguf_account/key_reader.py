"""Reads the keys of a GGUF file and remembers which were read, so that none is skipped."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from infermesh_runtime.errors import InvalidArgument


class KeyReader:
    """The keys of one architecture's section. Names are given without its prefix.

    Every method raises InvalidArgument, naming the key, for a value of the wrong kind or a missing one without default.
    """

    def __init__(self, keys: Mapping[str, Any], architecture: str) -> None:
        self._keys = keys
        self._prefix = f"{architecture}."
        self.applied: set[str] = set()
        self.without_effect: set[str] = set()

    def count(self, name: str, default: int | None = None, *, least: int = 1) -> int:
        """A whole number of at least `least`, at most 2³¹. A list of one number for each layer must repeat it."""
        value = self._uniform(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= 1 << 31:
            raise self.wrong(name, f"a whole number of at least {least}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        value = self._uniform(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.wrong(name, "a finite number")
        return float(value)

    def text(self, name: str, default: str) -> str:
        value = self.value(name, default)
        if not isinstance(value, str):
            raise self.wrong(name, "a text")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        value = self.value(name, default)
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def value(self, name: str, default: Any = None) -> Any:
        """The value as stored, for keys that have several forms. Raises if it is missing and has no default."""
        full = self._prefix + name
        if full in self._keys:
            self.applied.add(full)
            return self._keys[full]
        if default is None:
            raise InvalidArgument(f"this GGUF file has no {full}", fields={full: "is missing"})
        return default

    def has(self, name: str) -> bool:
        return self._prefix + name in self._keys

    def neutral(self, name: str, values: Iterable[Any]) -> None:
        """Lets the key say only what is true anyway: one of `values`."""
        full = self._prefix + name
        if full not in self._keys:
            return
        if self._keys[full] not in tuple(values):
            raise unsupported(full, self._keys[full])
        self.without_effect.add(full)

    def ignore(self, name: str) -> None:
        """Marks a key as known to be without effect on the model."""
        if self.has(name):
            self.without_effect.add(self._prefix + name)

    def refuse_unread(self) -> None:
        """Raises InvalidArgument for a key of the section that nothing has read."""
        for full in self._keys:
            if full.startswith(self._prefix) and full not in self.applied | self.without_effect:
                raise unsupported(full, self._keys[full])

    def wrong(self, name: str, expected: str) -> InvalidArgument:
        """The error for a key whose value is not as expected."""
        full = self._prefix + name
        return InvalidArgument(
            f"this GGUF file says {full} = {_short(self._keys.get(full))}; expected {expected}",
            fields={full: f"must be {expected}"},
        )

    def _uniform(self, name: str, default: Any) -> Any:
        value = self.value(name, default)
        if isinstance(value, list | tuple):
            if not value or any(item != value[0] for item in value):
                raise self.wrong(name, "one value for all layers; models whose layers differ in it are not supported")
            return value[0]
        return value


def unsupported(full: str, value: Any) -> InvalidArgument:
    """The error for a key that would change the model in a way that we do not know."""
    return InvalidArgument(
        f"this GGUF file says {full} = {_short(value)}, which infermesh does not know how to apply. "
        "A model read without it would answer wrongly, so it is refused",
        fields={full: "is not supported"},
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

"""Checks how the arguments and results of a torch.export program are nested, which torch reads as Python's containers.

torch imports modules that such a description names, and writes the names of keyword arguments into source that it runs.
"""

import json
from typing import Any

_CONTAINERS = frozenset(
    {"builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict", "collections.namedtuple"}
)
_MAX_DEPTH = 64


def is_plain_spec(text: str, *, arguments: bool) -> bool:
    """Whether a description is of tuples, lists and mappings alone, and keyword `arguments` have names."""
    try:
        found = json.loads(text)
        return _is_plain(found[1], _MAX_DEPTH) and (not arguments or _has_names(found[1]))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return False


def _is_plain(spec: Any, depth: int) -> bool:
    kind, context = spec["type"], _context(spec)
    if kind is not None and kind not in _CONTAINERS:
        return False
    return depth > 0 and _is_value(context) and all(_is_plain(child, depth - 1) for child in spec["children_spec"])


def _context(spec: Any) -> Any:
    """The keys of a mapping, and nothing for other containers but a named tuple's, which is its type's name."""
    raw = spec["context"]
    return raw if raw is None or spec["type"] == "collections.namedtuple" else json.loads(raw)


def _is_value(context: Any) -> bool:
    """Whether it is no mapping and holds none: torch makes members of Python's enums of those."""
    if isinstance(context, list):
        return all(map(_is_value, context))
    return context is None or isinstance(context, str | int | float)


def _has_names(spec: Any) -> bool:
    """Whether the keys of keyword arguments can be nothing but names. These are the second child: (args, kwargs)."""
    children = spec["children_spec"]
    if len(children) != 2 or spec["type"] != "builtins.tuple":
        return True
    keys = _context(children[1])
    return not isinstance(keys, list) or all(isinstance(key, str) and key.isidentifier() for key in keys)

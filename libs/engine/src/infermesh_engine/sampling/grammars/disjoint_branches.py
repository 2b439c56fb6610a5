"""Turns `oneOf` into `anyOf` where no value can match two of its branches, because llguidance proves less than that."""

import json
import math
from typing import Any

from infermesh_engine.sampling.grammars.schema_tree import Schema, list_of, map_of, resolve, schemas_in

_MOST_BRANCHES = 200
_MOST_STEPS = 100_000
_DEEPEST = 24
_FRACTION = "a number that is not whole"
_TYPES = frozenset({"null", "boolean", "string", "array", "object", "integer", _FRACTION})
_NUMBERS = frozenset({"integer", _FRACTION})


def allow_disjoint_branches(root: Schema) -> None:
    """Replaces, in place, each `oneOf` whose branches exclude each other. Others are left: llguidance refuses them."""
    proof = _Proof(root)
    for schema in list(schemas_in(root)):
        branches = list_of(schema, "oneOf")
        if not branches or len(branches) > _MOST_BRANCHES or not proof.all_disjoint(branches):
            continue
        del schema["oneOf"]
        if "anyOf" in schema:
            schema["allOf"] = [*list_of(schema, "allOf"), {"anyOf": branches}]
        else:
            schema["anyOf"] = branches


class _Proof:
    """Proves that schemas exclude each other, within a number of steps. What is not proven may still be true."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._steps_left = _MOST_STEPS

    def all_disjoint(self, branches: list[Any]) -> bool:
        return all(self._disjoint(a, b, 0) for i, a in enumerate(branches) for b in branches[i + 1 :])

    def _disjoint(self, one: Any, other: Any, depth: int) -> bool:
        self._steps_left -= 1
        if one is False or other is False:
            return True
        if depth > _DEEPEST or self._steps_left < 0:
            return False
        ones, others = self._conjuncts(one), self._conjuncts(other)
        common = _types(ones) & _types(others)
        if not common or _values_differ(ones, others):
            return True
        if common <= _NUMBERS and _ranges_differ(ones, others):
            return True
        if common == {"object"} and self._members_differ(ones, others, depth):
            return True
        return self._alternatives_differ(ones, other, depth) or self._alternatives_differ(others, one, depth)

    def _conjuncts(self, schema: Any) -> list[Schema]:
        """The schemas that hold for a value together: this one, its `allOf`, and what its `$ref` points to."""
        found: list[Schema] = []
        pending = [schema]
        while pending and len(found) < _DEEPEST:
            part = pending.pop()
            if isinstance(part, dict) and not any(part is known for known in found):
                found.append(part)
                pending += [*list_of(part, "allOf"), resolve(self._root, part)]
        return found

    def _alternatives_differ(self, ones: list[Schema], other: Any, depth: int) -> bool:
        """Whether each branch of some `anyOf` or `oneOf` excludes the other schema."""
        choices = [list_of(part, key) for part in ones for key in ("anyOf", "oneOf")]
        return any(
            branches and all(self._disjoint(branch, other, depth + 1) for branch in branches) for branches in choices
        )

    def _members_differ(self, ones: list[Schema], others: list[Schema], depth: int) -> bool:
        """Whether a required member must be one thing here and another there, or may not be there."""
        names = {name for part in (*ones, *others) for name in list_of(part, "required") if isinstance(name, str)}
        for name in names:
            here, there = _member(ones, name), _member(others, name)
            if any(self._disjoint(one, other, depth + 1) for one in here for other in there):
                return True
        return False


def _member(parts: list[Schema], name: str) -> list[Any]:
    """What the parts say about a member: at least one schema."""
    listed = [map_of(part, "properties")[name] for part in parts if name in map_of(part, "properties")]
    if listed:
        return listed
    closed = any(part.get("additionalProperties") is False and "patternProperties" not in part for part in parts)
    return [not closed]


def _types(parts: list[Schema]) -> frozenset[str]:
    kept = _TYPES
    for part in parts:
        names = part.get("type")
        if isinstance(names, str | list):
            listed = {names} if isinstance(names, str) else {name for name in names if isinstance(name, str)}
            kept &= listed | (_NUMBERS if "number" in listed else set())
        if (values := _values(part)) is not None:
            kept &= {_type_of(value) for value in values}
    return kept


def _values(part: Schema) -> list[Any] | None:
    """The values that `const` or `enum` allows; None if neither says."""
    if "const" in part:
        return [part["const"]]
    return part["enum"] if isinstance(part.get("enum"), list) else None


def _type_of(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "integer" if value.is_integer() else _FRACTION
        case str():
            return "string"
    return "array" if isinstance(value, list) else "object"


def _values_differ(ones: list[Schema], others: list[Schema]) -> bool:
    """Whether both sides list values, and have none in common."""
    here = [_names(values) for part in ones if (values := _values(part)) is not None]
    there = [_names(values) for part in others if (values := _values(part)) is not None]
    return any(not one & other for one in here for other in there)


def _names(values: list[Any]) -> set[str]:
    """Each value as text: the same for 1 and 1.0, which are equal in JSON."""
    whole = [int(value) if isinstance(value, float) and value.is_integer() else value for value in values]
    return {json.dumps(value, sort_keys=True) for value in whole}


def _ranges_differ(ones: list[Schema], others: list[Schema]) -> bool:
    (low, low_open), (high, high_open) = _lowest(ones), _highest(ones)
    (other_low, other_low_open), (other_high, other_high_open) = _lowest(others), _highest(others)
    return _above(low, other_high, low_open or other_high_open) or _above(other_low, high, other_low_open or high_open)


def _above(low: float, high: float, is_open: bool) -> bool:
    return low > high or (low == high and is_open)


def _lowest(parts: list[Schema]) -> tuple[float, bool]:
    """The largest lower bound, and whether it is itself excluded."""
    keys = (("minimum", False), ("exclusiveMinimum", True))
    found = [(value, is_open) for part in parts for key, is_open in keys for value in _number(part, key)]
    return max(found, default=(-math.inf, False))


def _highest(parts: list[Schema]) -> tuple[float, bool]:
    """The smallest upper bound, and whether it is itself excluded."""
    keys = (("maximum", False), ("exclusiveMaximum", True))
    found = [(value, is_open) for part in parts for key, is_open in keys for value in _number(part, key)]
    return min(found, default=(math.inf, False), key=lambda bound: (bound[0], not bound[1]))


def _number(part: Schema, key: str) -> list[float]:
    """The keyword's value, or nothing."""
    value = part.get(key)
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []

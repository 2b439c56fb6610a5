"""Finds JSON schemas that no finite value satisfies, such as a list whose next element is required."""

from typing import Any

from infermesh_engine.sampling.grammars.schema_tree import Schema, list_of, map_of, resolve, schemas_in

_MOST_STEPS = 200_000


def is_endless(root: Schema) -> bool:
    """Whether every value of the schema would contain a further value of it. What is not proven counts as False."""
    waiting = list(reversed(list(schemas_in(root))))  # inner ones first
    endless = {id(schema) for schema in waiting}
    steps_left = _MOST_STEPS
    while (steps_left := steps_left - len(waiting)) >= 0:
        still = []
        for schema in waiting:
            if _may_end(root, schema, endless):
                endless.discard(id(schema))
            else:
                still.append(schema)
        if len(still) == len(waiting):
            return id(root) in endless
        waiting = still
    return False


def _may_end(root: Schema, schema: Schema, endless: set[int]) -> bool:
    """Whether the schema may have a finite value, given those inside that are not known to have any."""
    together = [*list_of(schema, "allOf"), resolve(root, schema)]
    if any(id(part) in endless for part in together):
        return False
    for branches in (list_of(schema, "anyOf"), list_of(schema, "oneOf")):
        if branches and all(id(branch) in endless for branch in branches):
            return False
    if "const" in schema or "enum" in schema:
        return True
    types = schema.get("type")
    ends = {"object": not _members_are_endless(schema, endless), "array": not _elements_are_endless(schema, endless)}
    possible = types if isinstance(types, list) and types else [types]
    return any(ends.get(kind, True) if isinstance(kind, str) else True for kind in possible)


def _members_are_endless(schema: Schema, endless: set[int]) -> bool:
    members = map_of(schema, "properties")
    required = [name for name in list_of(schema, "required") if isinstance(name, str)]
    return any(id(members.get(name)) in endless for name in required)


def _elements_are_endless(schema: Schema, endless: set[int]) -> bool:
    least: Any = schema.get("minItems")
    if not isinstance(least, int) or least < 1:
        return False
    first = list_of(schema, "prefixItems")
    needed = [*first[:least], *([schema.get("items")] if least > len(first) else [])]
    return any(id(element) in endless for element in needed)

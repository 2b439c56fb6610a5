"""Closes the objects of a JSON schema: members that it does not list are forbidden, unless it speaks of them.

docs/decisions/0010-grammars-that-end.md says why.
"""

from infermesh_engine.sampling.grammars.schema_tree import Schema, in_place, list_of, map_of, resolve, schemas_in


def close_objects(root: Schema) -> None:
    """Adds `"additionalProperties": false` in place, where a schema lists members and says nothing about others.

    Left open are: objects without a list of members; those that require more members than they list; and those that
    are put together of several schemas (`allOf`, or `$ref` beside `properties`), each of which lists only a part.
    """
    parts = _Parts(root)
    for schema in schemas_in(root):
        if _lists_members(schema) and not _speaks_of_others(schema) and id(schema) not in parts.open:
            schema["additionalProperties"] = False


class _Parts:
    """The schemas that list only a part of an object's members, by id."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self.open: set[int] = set()
        schemas = list(schemas_in(root))
        self._listing = self._find_listing(schemas)
        for schema in schemas:
            if self._listing_parts(schema) > 1:
                self._leave_open(schema)

    def _find_listing(self, schemas: list[Schema]) -> set[int]:
        """The schemas that list members, or of which a part does."""
        wholes: dict[int, list[int]] = {}
        for schema in schemas:
            for part in in_place(self._root, schema):
                wholes.setdefault(id(part), []).append(id(schema))
        listing: set[int] = set()
        pending = [id(schema) for schema in schemas if _lists_members(schema)]
        while pending:
            found = pending.pop()
            if found not in listing:
                listing.add(found)
                pending += wholes.get(found, ())
        return listing

    def _listing_parts(self, schema: Schema) -> int:
        """How many of the parts that hold together list members: itself, its `allOf`s, `$ref`, `anyOf` and `oneOf`."""
        choices = [any(id(part) in self._listing for part in list_of(schema, key)) for key in ("anyOf", "oneOf")]
        together = [*list_of(schema, "allOf"), resolve(self._root, schema)]
        return sum((_lists_members(schema), *choices, *(id(part) in self._listing for part in together)))

    def _leave_open(self, schema: object) -> None:
        pending = [schema]
        while pending:
            part = pending.pop()
            if isinstance(part, dict) and id(part) not in self.open:
                self.open.add(id(part))
                pending += in_place(self._root, part)


def _lists_members(schema: Schema) -> bool:
    types = schema.get("type", "object")
    may_be_object = types == "object" or (isinstance(types, list) and "object" in types)
    return may_be_object and ("properties" in schema or "patternProperties" in schema)


def _speaks_of_others(schema: Schema) -> bool:
    if "additionalProperties" in schema or "unevaluatedProperties" in schema:
        return True
    listed = map_of(schema, "properties")
    least = schema.get("minProperties")
    needs_more = isinstance(least, int) and least > len(listed) and "patternProperties" not in schema
    unlisted = [name for name in list_of(schema, "required") if not isinstance(name, str) or name not in listed]
    return needs_more or bool(unlisted)

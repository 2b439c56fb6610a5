"""Finds objects of a JSON schema that demand more members than a grammar can count, because a name may come twice."""

from infermesh_engine.sampling.grammars.schema_tree import Schema, list_of, map_of, schemas_in


def uncountable(root: Schema) -> str:
    """What is wrong with the first such object; empty if there is none.

    llguidance does not remember the names that an object's members have had. It knows those that are listed, and that
    the first other one is none of them.
    """
    for schema in schemas_in(root):
        least, listed = schema.get("minProperties"), map_of(schema, "properties")
        others = schema.get("additionalProperties") is not False or "patternProperties" in schema
        required = {name for name in list_of(schema, "required") if isinstance(name, str) and name in listed}
        if others and isinstance(least, int) and least > len(required) + 1:
            return f"minProperties: members that are not listed could have the same name, so {least} cannot be ensured"
    return ""

"""Turns references to the anchors of a JSON schema into pointers, which is what the other modules follow."""

from typing import Any
from urllib.parse import quote

from infermesh_engine.sampling.grammars.schema_tree import Schema, schemas_in


def point_at_anchors(root: Schema) -> None:
    """Replaces, in place, each `$ref` of the form "#name". A schema with an `$id` inside is left as it is."""
    places = _places(root)
    for schema in list(schemas_in(root)) if places else ():
        reference = schema.get("$ref")
        if isinstance(reference, str) and reference in places:
            schema["$ref"] = places[reference]


def _places(root: Schema) -> dict[str, str]:
    """Pointers to the anchors, by the references that mean them; none where an `$id` may give them another meaning."""
    found: dict[str, str] = {}
    pending: list[tuple[Any, str]] = [(root, "#")]
    while pending:
        node, pointer = pending.pop()
        if isinstance(node, dict):
            if "$id" in node and node is not root:
                return {}
            if isinstance(name := node.get("$anchor"), str):
                found[f"#{name}"] = pointer
            pending += [(inner, f"{pointer}/{_step(key)}") for key, inner in node.items()]
        elif isinstance(node, list):
            pending += [(inner, f"{pointer}/{index}") for index, inner in enumerate(node)]
    return found


def _step(key: str) -> str:
    return quote(key.replace("~", "~0").replace("/", "~1"))

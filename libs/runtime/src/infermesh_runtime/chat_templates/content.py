"""Decides whether a template takes a message's content as text or as a list of parts, from its syntax tree.

The rules are vLLM's (`chat_utils.py`, `_detect_content_format`): a template that loops over the content of a message
takes parts. We also follow the content through variables, macros and macro arguments.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from jinja2 import nodes

from infermesh_runtime.errors import InvalidArgument

ContentFormat = Literal["auto", "string", "parts"]
"""How a template gets content: as text, as a list of parts, or as the template itself shows."""


def takes_parts(tree: nodes.Template) -> bool:
    """Whether the template loops over the content of a message."""
    names = _names_of_content(tree)
    return any(_is_content(loop.iter) or _name(loop.iter) in names for loop in tree.find_all(nodes.For))


def shape_content(content: str, parts: Sequence[str | None], *, as_parts: bool, may_be_empty: bool) -> Any:
    """The content as the template takes it. Several texts are joined by a newline where it takes text.

    A part that is None is an image. `may_be_empty`: an empty content is no part at all, as in an assistant's message
    with tool calls. Raises InvalidArgument for an image where the template takes text.
    """
    given = parts or ([] if may_be_empty and not content else [content])
    if as_parts:
        return [{"type": "image"} if part is None else {"type": "text", "text": part} for part in given]
    texts = [part for part in given if part is not None]
    if len(texts) < len(given):
        raise InvalidArgument("takes only text, so it cannot show an image")
    return "\n".join(texts)


def texts_of(message: Mapping[str, Any]) -> list[str]:
    """The texts in a message's content, in either form."""
    content = message.get("content")
    if isinstance(content, list):
        return [part["text"] for part in content if "text" in part]
    return [content] if isinstance(content, str) else []


def _names_of_content(tree: nodes.Template) -> set[str]:
    """Variables that hold a message's content: set to it, or a macro's argument that it is given for."""
    found: set[str] = set()
    for assign in tree.find_all(nodes.Assign):
        if any(map(_is_content, _values(assign.node))):
            found.update(_targets(assign.target))
    found = _aliases(tree, found)
    macros = {macro.name: macro for macro in tree.find_all(nodes.Macro)}
    for call in tree.find_all(nodes.Call):
        macro = macros.get(call.node.name) if isinstance(call.node, nodes.Name) else None
        if macro is not None:
            pairs = zip(macro.args, call.args, strict=False)
            found.update(name.name for name, given in pairs if _is_content(given) or _name(given) in found)
    return _aliases(tree, found)


def _aliases(tree: nodes.Template, names: set[str]) -> set[str]:
    """The names and all variables that are set to one of them."""
    known = set(names)
    while True:
        more = {
            target
            for assign in tree.find_all(nodes.Assign)
            if any(_name(node) in known for node in _values(assign.node))
            for target in _targets(assign.target)
        }
        if more <= known:
            return known
        known |= more


def _values(node: nodes.Node) -> Iterator[nodes.Node]:
    """The values that an expression may have: both of a condition."""
    if isinstance(node, nodes.CondExpr):
        yield from _values(node.expr1)
        if node.expr2 is not None:
            yield from _values(node.expr2)
    else:
        yield node


def _inner(node: nodes.Node | None) -> nodes.Node | None:
    """The expression without filters and slices around it."""
    while isinstance(node, nodes.Filter) or (isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice)):
        node = node.node
    return node


def _name(node: nodes.Node) -> str:
    inner = _inner(node)
    if isinstance(inner, nodes.NSRef):
        return f"{inner.name}.{inner.attr}"
    if isinstance(inner, nodes.Getattr) and isinstance(inner.node, nodes.Name):
        return f"{inner.node.name}.{inner.attr}"  # of a namespace
    return inner.name if isinstance(inner, nodes.Name) else ""


def _targets(node: nodes.Node) -> list[str]:
    if isinstance(node, nodes.Tuple):
        return [name for item in node.items for name in _targets(item)]
    return [name] if (name := _name(node)) else []


def _is_content(node: nodes.Node) -> bool:
    """Whether an expression is `x.content` or `x["content"]`."""
    match _inner(node):
        case nodes.Getattr(attr="content"):
            return True
        case nodes.Getitem(arg=nodes.Const(value="content")):
            return True
    return False

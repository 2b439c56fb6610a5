"""The sandbox in which chat templates run, with the names that transformers gives them; and what their source says."""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from typing import Any, NoReturn

from jinja2 import TemplateError, TemplateSyntaxError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment

from infermesh_runtime.errors import FailedPrecondition

_SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_GIVEN = ("messages", "tools", "add_generation_prompt", *_SPECIAL_TOKENS)


def new_environment() -> ImmutableSandboxedEnvironment:
    """The environment that transformers renders chat templates in."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def parse_template(source: str) -> nodes.Template:
    """The syntax tree. Only parses. Raises FailedPrecondition, with the line, when there is a syntax error."""
    try:
        return new_environment().parse(source)
    except TemplateSyntaxError as error:
        raise syntax_error(error) from error
    except RecursionError:
        raise FailedPrecondition("the model's chat template is nested too deeply") from None


def syntax_error(error: TemplateSyntaxError) -> FailedPrecondition:
    """The error of a template that cannot be used."""
    return FailedPrecondition(f"the model's chat template has a syntax error in line {error.lineno}: {error.message}")


def uses_tools(tree: nodes.Template) -> bool:
    """Whether a template uses tools."""
    names = tree.find_all(nodes.Name)  # jinja2.meta would compute the constants
    return any(name.name == "tools" and name.ctx == "load" for name in names)


def reserved_variables(variables: Mapping[str, Any]) -> list[str]:
    """Those of a request's variables that would replace what a template gets from the model, the request or Jinja."""
    taken = _taken_names() if variables else ()
    return [name for name in variables if name in taken]


@cache
def _taken_names() -> frozenset[str]:
    return frozenset((*_GIVEN, *new_environment().globals))


def fixed_names(tree: nodes.Template) -> frozenset[str]:
    """Names that the template sets at its top, unconditionally, without having read them: nobody can give them."""
    fixed: set[str] = set()
    read: set[str] = set()
    for statement in tree.body:
        read.update(name.name for name in statement.find_all(nodes.Name) if name.ctx == "load")
        if isinstance(statement, nodes.Assign) and isinstance(statement.target, nodes.Name):
            name = statement.target.name
            if name not in read:
                fixed.add(name)
    return frozenset(fixed)


def literal_texts(tree: nodes.Template) -> Iterator[str]:
    """The texts that the template itself writes, or compares with."""
    yield from (node.data for node in tree.find_all(nodes.TemplateData))
    yield from (node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str))


class _GenerationBlock(Extension):
    """{% generation %}…{% endgeneration %} marks the assistant's turn for training; we render only its content.

    As in transformers it is a scope of its own: what is set inside does not exist outside.
    """

    tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_content"), [], [], body).set_lineno(line)

    def _content(self, caller: Macro) -> str:
        return caller()


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)

"""Renders a conversation to text with the model's Jinja template, in a sandbox, following transformers' conventions."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError, TemplateSyntaxError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from infermesh_runtime.errors import FailedPrecondition, InvalidArgument

Message = Mapping[str, Any]
"""{"role", "content"} and, when set, "name", "tool_calls" and "tool_call_id", as in OpenAI's API."""


class ChatTemplate:
    """A compiled chat template. Compiling one computes its constants, which can take for ever."""

    def __init__(self, source: str, *, bos_token: str = "", eos_token: str = "") -> None:
        """The tokens become variables of the template. Raises FailedPrecondition when `source` has a syntax error."""
        try:
            self._template = _environment().from_string(source)
        except TemplateSyntaxError as error:
            raise _syntax_error(error) from error
        self._tokens = {"bos_token": bos_token, "eos_token": eos_token}
        self._knows_developer = "developer" in source

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """The text of the prompt. Raises InvalidArgument with the template's message when it rejects the conversation.

        Nothing bounds it: `BoundedTemplate` runs it in a process that can be killed.

        The role "developer" becomes "system" when the template does not mention it.
        """
        values = {**self._tokens, **(variables or {}), "add_generation_prompt": add_generation_prompt}
        if tools:
            values["tools"] = tools
        try:
            return self._template.render(messages=[self._adapt(message) for message in messages], **values)
        except (
            TemplateError,
            TypeError,
            ValueError,
            ArithmeticError,
            LookupError,
            AttributeError,
            RecursionError,
        ) as error:
            raise InvalidArgument(f"rejects this conversation: {error}") from error

    def _adapt(self, message: Message) -> Message:
        if message["role"] == "developer" and not self._knows_developer:
            return {**message, "role": "system"}
        return message


def check_template(source: str) -> bool:
    """Whether a template uses tools. Only parses it. Raises FailedPrecondition when it has a syntax error."""
    try:
        names = _environment().parse(source).find_all(nodes.Name)  # jinja2.meta would compute the constants
        return any(name.name == "tools" and name.ctx == "load" for name in names)
    except TemplateSyntaxError as error:
        raise _syntax_error(error) from error
    except RecursionError:
        raise FailedPrecondition("the model's chat template is nested too deeply") from None


def _syntax_error(error: TemplateSyntaxError) -> FailedPrecondition:
    return FailedPrecondition(f"the model's chat template has a syntax error in line {error.lineno}: {error}")


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlock, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


class _GenerationBlock(Extension):
    """{% generation %}…{% endgeneration %} marks the assistant's turn for training; we render only its content."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


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
    return datetime.now().astimezone().strftime(form)

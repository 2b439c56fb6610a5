"""Renders a conversation to text with the model's Jinja template, in a sandbox, following transformers' conventions."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError

from infermesh_runtime.chat_templates.call_forms import render_calls
from infermesh_runtime.chat_templates.content import ContentFormat, shape_content, takes_parts
from infermesh_runtime.chat_templates.control_tokens import ControlTokens, Rendered
from infermesh_runtime.chat_templates.environment import (
    fixed_names,
    literal_texts,
    new_environment,
    parse_template,
    syntax_error,
)
from infermesh_runtime.chat_templates.final_message import cut_open, open_message
from infermesh_runtime.chat_templates.lost import lost_message
from infermesh_runtime.errors import FailedPrecondition, InvalidArgument

Message = Mapping[str, Any]
"""{"role", "content"} and, when set, "name", "tool_calls" and "tool_call_id", as in OpenAI's API. The content is text;
"parts" has it instead if it came in parts, of which None is an image. The arguments of a call are an object, or text if
they are none."""

_PROBE = "probe7q3x"
_DIALOGS = (("system", "user", "assistant", "user"), ("user", "assistant", "user"), ("user",))


class ChatTemplate:
    """A compiled chat template. Compiling one computes its constants, which can take for ever."""

    def __init__(
        self,
        source: str,
        *,
        special_tokens: Mapping[str, str] | None = None,
        control_tokens: Sequence[str] = (),
        added_tokens: Sequence[str] = (),
        content_format: ContentFormat = "auto",
    ) -> None:
        """`special_tokens` become variables of the template: "bos_token", "eos_token", …

        `control_tokens` written in a conversation are not those of the template; nor are those of `added_tokens` that
        the template itself writes. Raises FailedPrecondition when `source` has a syntax error.
        """
        tree = parse_template(source)
        self._source = source
        self._tokens = {"bos_token": "", "eos_token": "", **(special_tokens or {})}
        self._fixed = fixed_names(tree)
        self._controls = ControlTokens(literal_texts(tree), control_tokens, added_tokens)
        self._format = content_format
        self._loops_over_parts = takes_parts(tree)
        try:
            self._template = new_environment().from_string(source)
        except TemplateSyntaxError as error:
            raise syntax_error(error) from error
        except RecursionError:
            raise FailedPrecondition("the model's chat template is nested too deeply") from None

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        continue_final: bool = False,
        variables: Mapping[str, Any] | None = None,
    ) -> Rendered:
        """The text of the prompt. Raises InvalidArgument with the template's message when it rejects the conversation.

        Nothing bounds it: `BoundedTemplate` runs it in a process that can be killed.

        `continue_final`: the text ends with the content of the last message, so that the answer continues it.

        The role "developer" becomes "system" when the template loses it. A message that the template leaves out is
        refused.
        """
        given = variables or {}
        if set_twice := sorted(self._fixed & given.keys()):
            raise InvalidArgument(f"sets {', '.join(set_twice)} itself, so the request cannot give it")
        options = {"tools": list(tools) if tools else None, "add_generation_prompt": add_generation_prompt}
        shaped = [self._shape(message, as_parts=self._as_parts) for message in messages]
        if continue_final:
            shaped[-1] = open_message(shaped[-1])
        mark = self._controls.choose_mark([shaped, options, given], self._source)
        if mark is not None:
            shaped = [self._controls.mark_message(message, mark) for message in shaped]
            options["tools"] = self._controls.mark(options["tools"], mark)
            given = self._controls.mark(given, mark)
        text = render_calls(shaped, lambda messages: self._render(messages, **options, **given))
        lost = lost_message(shaped, text, lambda probe: self._try(probe, **options, **given))
        if lost is not None:
            raise InvalidArgument(f"leaves out chat.messages[{lost}], whose role is {messages[lost]['role']!r}")
        if continue_final:
            text = cut_open(text)
        return Rendered((text,)) if mark is None else self._controls.unmark(text, mark)

    @cached_property
    def _as_parts(self) -> bool:
        """Whether content is given in parts: as the setting says; else as the template's source shows, unless it then
        shows less of a conversation."""
        if self._format != "auto":
            return self._format == "parts"
        guess = self._loops_over_parts
        return guess if self._shown(as_parts=guess) >= self._shown(as_parts=not guess) else not guess

    def _shown(self, *, as_parts: bool) -> int:
        """How many messages of a conversation are in its text, for the longest that the template accepts."""
        for roles in _DIALOGS:
            messages = [{"role": role, "content": f"{_PROBE}{index}"} for index, role in enumerate(roles)]
            text = self._try([self._shape(message, as_parts=as_parts, developer=True) for message in messages])
            if text is not None:
                texts = (message["content"] for message in messages)
                return sum(part in text and f"'text': '{part}" not in text for part in texts)  # not a printed list
        return 0

    @cached_property
    def _knows_developer(self) -> bool:
        """Whether a developer's message reaches the prompt."""
        message = {"role": "developer", "content": _PROBE}
        user = {"role": "user", "content": "hi"}
        dialog = [self._shape(part, as_parts=self._as_parts, developer=True) for part in (message, user)]
        text = self._try(dialog)
        return text is not None and _PROBE in text

    def _shape(self, message: Message, *, as_parts: bool, developer: bool = False) -> dict[str, Any]:
        parts, calls = message.get("parts", ()), bool(message.get("tool_calls"))
        content = shape_content(message["content"], parts, as_parts=as_parts, may_be_empty=calls)
        shaped = {**message, "content": content}
        shaped.pop("parts", None)
        if message["role"] == "developer" and not (developer or self._knows_developer):
            shaped["role"] = "system"
        return shaped

    def _render(self, messages: Sequence[Message], **values: Any) -> str:
        try:
            return self._template.render({"documents": None, **self._tokens, **values, "messages": messages})
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

    def _try(self, messages: Sequence[Message], **values: Any) -> str | None:
        """The text of a made-up conversation; None when the template rejects it."""
        try:
            return self._render(messages, **{"tools": None, "add_generation_prompt": True, **values})
        except InvalidArgument:
            return None

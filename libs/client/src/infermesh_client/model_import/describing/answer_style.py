"""Settles how a model's answers are read: as the user says, else as its chat template shows."""

from collections.abc import Collection

from infermesh_client.model_import.options import ImportOptions
from infermesh_runtime.answer_parsing.formats.table import FORMATS
from infermesh_runtime.chat_templates.reasoning_marks import REASONING_MARKS
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.manifest.answer_style import AnswerStyle

NONE = "none"
"""As a format or as marks: the model writes none."""


def check_style(options: ImportOptions) -> None:
    """Raises InvalidArgument if the options name a format or marks that do not exist."""
    _check("--tool-format", options.tool_format, FORMATS)
    _check("--reasoning", options.reasoning, REASONING_MARKS)


def settle_style(found: AnswerStyle | None, options: ImportOptions) -> AnswerStyle | None:
    """The style for the manifest. `found`: what the chat template shows; None for a model without one.

    Nothing found is not written down, so that a later version may find something.
    """
    if options.tool_format is None and options.reasoning is None:
        return None if found == AnswerStyle() else found
    shown = found or AnswerStyle()
    return AnswerStyle(_told(options.tool_format, shown.tool_format), _told(options.reasoning, shown.reasoning))


def _told(given: str | None, found: str) -> str:
    if given is None:
        return found
    return "" if given == NONE else given


def _check(option: str, given: str | None, known: Collection[str]) -> None:
    if given is not None and given != NONE and given not in known:
        names = ", ".join([*sorted(filter(None, known)), NONE])
        raise InvalidArgument(f"{option} {given!r} is not known; it must be one of {names}")

"""The tools of a conversation: what the model may call, and whether it must."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag

from infermesh_router.openai.schema.fields import Strict, only

Name = Annotated[str, Field(min_length=1, max_length=256)]


class Function(Strict):
    """A function that the model may call."""

    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    """JSON schema of its arguments; without one it takes none."""
    strict: bool | None = None
    """Arguments keep to their schema wherever calls are forced, whatever this says."""


class Tool(Strict):
    """A tool; all are functions."""

    HINTS: ClassVar[Mapping[str, tuple[object, ...]]] = {"cache_control": ()}

    type: Annotated[Literal["function"], only("function")]
    function: Function
    cache_control: dict[str, Any] | None = None
    """Anthropic's; prompts are cached in any case."""


class FunctionName(Strict):
    """The name of a function."""

    name: Name


class ToolName(Strict):
    """A tool by its name."""

    type: Annotated[Literal["function"], only("function")]
    function: FunctionName


class AllowedTools(Strict):
    """Some of the tools, and whether one of them must be called."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[ToolName], Field(min_length=1)]


class AllowedToolsChoice(Strict):
    """A choice among some of the tools."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


def _choice_tag(value: object) -> str:
    if isinstance(value, AllowedToolsChoice) or (isinstance(value, dict) and value.get("type") == "allowed_tools"):
        return "<allowed>"
    return "<named>" if isinstance(value, dict | ToolName) else "<string>"


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("<string>")]
    | Annotated[ToolName, Tag("<named>")]
    | Annotated[AllowedToolsChoice, Tag("<allowed>")],
    Discriminator(_choice_tag),
]


def _function_tag(value: object) -> str:
    return "<named>" if isinstance(value, dict | FunctionName) else "<string>"


FunctionChoice = Annotated[
    Annotated[Literal["none", "auto"], Tag("<string>")] | Annotated[FunctionName, Tag("<named>")],
    Discriminator(_function_tag),
]
"""The deprecated form of a choice, for `functions`."""


class Tooled(Strict):
    """The tools that a conversation offers, and how they may be called."""

    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    """False: at most the first call of an answer is returned."""
    functions: list[Function] | None = None
    """The deprecated form of `tools`; the answer has its `function_call` then."""
    function_call: FunctionChoice | None = None
    """The deprecated form of `tool_choice`."""

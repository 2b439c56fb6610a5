"""The tools of a response, and which of them the model is to call; translated to the forms of a chat."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag

from infermesh_router.openai.schema.fields import NonEmpty, Strict, Unsupported


class FunctionTool(Strict):
    """A function that the client runs."""

    type: Literal["function"]
    name: NonEmpty
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    def as_chat(self) -> dict[str, Any]:
        """The tool in a chat's form."""
        return {"type": "function", "function": self.model_dump(exclude_none=True, exclude={"type"})}

    def shown(self) -> dict[str, Any]:
        """The tool as the response repeats it."""
        return self.model_dump()


class HostedTool(Strict):
    """A tool that OpenAI runs, refused because of its type, whatever else it contains."""

    model_config = ConfigDict(extra="allow")

    type: Unsupported


def _tool_tag(value: object) -> str:
    kind = value.get("type") if isinstance(value, dict) else "function"
    return "<function>" if kind == "function" or not isinstance(kind, str) else "<hosted>"


Tool = Annotated[
    Annotated[FunctionTool, Tag("<function>")] | Annotated[HostedTool, Tag("<hosted>")], Discriminator(_tool_tag)
]


class NamedTool(Strict):
    """One function."""

    type: Literal["function"]
    name: NonEmpty


class AllowedTools(Strict):
    """Some of the functions."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Field(min_length=1)]


def _choice_tag(value: object) -> str:
    if not isinstance(value, dict):
        return "<mode>"
    kind = value.get("type")
    if kind == "allowed_tools":
        return "<allowed>"
    return "<named>" if kind == "function" or not isinstance(kind, str) else "<hosted>"


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("<mode>")]
    | Annotated[NamedTool, Tag("<named>")]
    | Annotated[AllowedTools, Tag("<allowed>")]
    | Annotated[HostedTool, Tag("<hosted>")],
    Discriminator(_choice_tag),
]


def chat_tool_choice(choice: str | NamedTool | AllowedTools | HostedTool) -> str | dict[str, Any]:
    """The choice in a chat's form."""
    if isinstance(choice, NamedTool):
        return _named(choice)
    if isinstance(choice, AllowedTools):
        allowed = {"mode": choice.mode, "tools": [_named(tool) for tool in choice.tools]}
        return {"type": "allowed_tools", "allowed_tools": allowed}
    return choice if isinstance(choice, str) else choice.model_dump()


def _named(tool: NamedTool) -> dict[str, Any]:
    return {"type": "function", "function": {"name": tool.name}}

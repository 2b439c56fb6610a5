"""Converts the tools of a conversation: what the template gets, what may be called, and whether it must be."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.openai.convert.formats import dump
from infermesh_router.openai.errors import invalid
from infermesh_router.openai.schema.tools import AllowedToolsChoice, Function, Tooled, ToolName
from infermesh_runtime.answer_parsing.parts import Tools

_FORCED = ("required", "named")


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """The tools that a request offers. Without any, the model is not told of tools."""

    tools: Tools = field(default_factory=dict)
    messages: Sequence[pb.Tool] = ()
    choice: pb.ToolChoice | None = None
    """None: the model may call tools or answer in words."""
    legacy: bool = False
    """Whether they came as `functions`, so that the answer has a `function_call`."""

    @property
    def is_forced(self) -> bool:
        """Whether the model must call a tool."""
        return self.choice is not None


def read_offer(request: Tooled, *, format_field: str = "") -> Offer:
    """The tools of a request. Raises InvalidArgument for a choice that contradicts them or the rest of the body.

    `format_field` is the field that demands a format of the answer, beside which no call can be forced.
    """
    legacy = bool(request.functions)
    if legacy and request.tools:
        raise invalid("functions", "and 'tools' must not both be set; set 'tools'")
    functions = list(request.functions or [tool.function for tool in request.tools or ()])
    where = "functions[{}]" if legacy else "tools[{}].function"
    _check_names(functions, where)
    mode, names, path = _choice(request, legacy=legacy)
    known = {function.name for function in functions}
    for name in names:
        if name not in known:
            listed = "functions" if legacy else "tools"
            raise invalid(path, f"names {name[:80]!r}, which is not among the '{listed}'")
    if mode == "required" and not functions:
        raise invalid("tool_choice", "needs 'tools' when it is \"required\"")
    if mode == "none" or not functions:
        return Offer()
    choice = None
    if mode in _FORCED:
        if format_field:
            raise invalid(path, f"must not force a call beside a '{format_field}'")
        choice = pb.ToolChoice(mode=pb.TOOL_CHOICE_MODE_REQUIRED, name=names[0] if mode == "named" else "")
    if mode != "named" and names:
        functions = [function for function in functions if function.name in names]
    return Offer(
        tools={function.name: function.parameters or {} for function in functions},
        messages=[_tool(function, where.format(index)) for index, function in enumerate(functions)],
        choice=choice,
        legacy=legacy,
    )


def fill_tools(chat: pb.ChatPrompt, offer: Offer, request: Tooled) -> None:
    """Fills in what the template gets, and what the model must call."""
    chat.tools.extend(offer.messages)
    if offer.choice is not None:
        chat.tool_choice.CopyFrom(offer.choice)
    if offer.messages and (offer.legacy or request.parallel_tool_calls is False):
        chat.parallel_tool_calls = False


def ignored_strictness(request: Tooled) -> tuple[str, ...]:
    """The path of `strict` where it has no effect: where calls are not forced, the model writes what it likes."""
    mode, _, _ = _choice(request, legacy=bool(request.functions))
    if mode in _FORCED:
        return ()
    paths = {
        "tools[].function.strict": [tool.function for tool in request.tools or ()],
        "functions[].strict": request.functions or (),
    }
    return tuple(path for path, functions in paths.items() if any(function.strict for function in functions))


def _choice(request: Tooled, *, legacy: bool) -> tuple[str, list[str], str]:
    """None, auto, required or named; the names of tools in it; and the field that says so."""
    chosen = request.function_call if legacy or request.tool_choice is None else request.tool_choice
    match chosen:
        case None:
            return "auto", [], "tool_choice"
        case str():
            return chosen, [], "tool_choice"
        case ToolName():
            return "named", [chosen.function.name], "tool_choice.function.name"
        case AllowedToolsChoice(allowed_tools=allowed):
            return allowed.mode, [tool.function.name for tool in allowed.tools], "tool_choice.allowed_tools.tools"
        case _:
            return "named", [chosen.name], "function_call.name"


def _check_names(functions: Sequence[Function], where: str) -> None:
    seen: set[str] = set()
    for index, function in enumerate(functions):
        if function.name in seen:
            raise invalid(f"{where.format(index)}.name", f"is {function.name[:80]!r}, as that of an earlier one")
        seen.add(function.name)


def _tool(function: Function, path: str) -> pb.Tool:
    parameters = dump(function.parameters, f"{path}.parameters") if function.parameters else ""
    return pb.Tool(name=function.name, description=function.description or "", parameters_json=parameters)

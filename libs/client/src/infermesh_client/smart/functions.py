"""Offers plain Python functions to a model as tools: their schema, and calls with the arguments that it wrote."""

import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError, validate_call
from pydantic.errors import PydanticUserError
from pydantic_core import to_json

from infermesh.inference.v1 import inference_pb2
from infermesh_runtime.errors import InvalidArgument

Function = Callable[..., Any]
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True, slots=True)
class FunctionTool:
    """A function that a model may call."""

    tool: inference_pb2.Tool
    """Its name, its docstring, and the JSON schema of its arguments."""
    checked: Function
    """The function behind a check of its arguments' types, which raises pydantic's ValidationError."""


def read_functions(functions: Iterable[Function], *, coroutines: bool = True) -> Mapping[str, FunctionTool]:
    """The functions by name. Raises InvalidArgument, which names the function, for one that cannot be a tool.

    Nor can coroutine functions, unless `coroutines` says so.
    """
    tools: dict[str, FunctionTool] = {}
    for function in functions:
        tool = _read(function)
        if inspect.iscoroutinefunction(function) and not coroutines:
            name = tool.tool.name
            raise InvalidArgument(f"the tool {name!r} is a coroutine function; the asynchronous smart_chat awaits it")
        if tool.tool.name in tools:
            raise InvalidArgument(f"two of the tools are named {tool.tool.name!r}; rename one of the functions")
        tools[tool.tool.name] = tool
    return tools


def read_arguments(text: str) -> dict[str, Any]:
    """The arguments that a model wrote. Raises ValueError when they are no JSON object."""
    arguments: object = json.loads(text or "{}")
    if not isinstance(arguments, dict):
        raise ValueError("the arguments must be a JSON object")  # noqa: TRY004 - the caller tells the model any ValueError
    return arguments


def result_text(result: object) -> str:
    """What the model reads of a function's result: a text as it is, anything else as JSON.

    Raises ValueError for what JSON cannot hold, such as bytes that are no UTF-8 and a list that contains itself.
    """
    return _as_utf8(result if isinstance(result, str) else to_json(result, fallback=str).decode())


def error_text(error: Exception) -> str:
    """What the model reads of a function's error: one that it can mend by other arguments names them."""
    if isinstance(error, ValidationError):
        problems = (f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors(include_url=False))
        return _as_utf8(f"error: {'; '.join(problems)}")
    return _as_utf8(f"error: {type(error).__name__}: {error}")


def _as_utf8(text: str) -> str:
    """A text that a request can hold: the names of files may have bytes that are no UTF-8, which are written out."""
    return text.encode("utf-8", "backslashreplace").decode()


def _read(function: Function) -> FunctionTool:
    name = getattr(function, "__name__", "")
    if not callable(function) or not _NAME.fullmatch(name):
        raise InvalidArgument(f"{function!r} cannot be a tool: it must be a function with a name of its own")
    unnamed = [each for each in inspect.signature(function).parameters.values() if each.kind not in _BY_NAME]
    if unnamed:
        raise InvalidArgument(f"the tool {name!r} takes {unnamed[0]}, but a model names every argument that it gives")
    try:
        schema = TypeAdapter[Any](function).json_schema()  # type: ignore[arg-type]  # functions too
        checked = validate_call(function)
    except (PydanticUserError, NameError) as error:
        problem = str(error).splitlines()[0]
        raise InvalidArgument(f"no schema can be made of the tool {name!r}: {problem}") from error
    tool = inference_pb2.Tool(name=name, description=inspect.getdoc(function) or "", parameters_json=json.dumps(schema))
    return FunctionTool(tool, checked)

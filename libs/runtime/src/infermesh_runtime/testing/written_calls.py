"""Tool calls as each family of models writes them, for tests of the parsers and of the constraints."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Arguments = Mapping[str, Any]
Calls = Sequence[tuple[str, Arguments]]

TOOLS: Mapping[str, Mapping[str, Any]] = {
    "get_weather": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "get_time": {"type": "object", "properties": {}, "additionalProperties": False},
}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _raw(value: Any) -> str:
    return value if isinstance(value, str) else _json(value)


def _object(name: str, arguments: Arguments, key: str = "arguments") -> str:
    return _json({"name": name, key: arguments})


def _array(calls: Calls) -> str:
    return f"[{', '.join(_object(*call) for call in calls)}]"


def _each(write: Callable[[str, Arguments], str], between: str = "") -> Callable[[Calls], str]:
    return lambda calls: between.join(write(name, arguments) for name, arguments in calls)


def _tags(arguments: Arguments, form: str) -> str:
    return "".join(form.format(key=key, value=_raw(value)) for key, value in arguments.items())


def _dsml(name: str, arguments: Arguments) -> str:
    values = "".join(
        f'<｜DSML｜parameter name="{key}" string="{_json(isinstance(value, str))}">{_raw(value)}</｜DSML｜parameter>\n'
        for key, value in arguments.items()
    )
    return f'<｜DSML｜invoke name="{name}">\n{values}</｜DSML｜invoke>\n'


def _k3(name: str, arguments: Arguments) -> str:
    values = "".join(
        f'<|open|>argument key="{key}" type="{"string" if isinstance(value, str) else "number"}"<|sep|>'
        f"{_raw(value)}<|close|>argument<|sep|>"
        for key, value in arguments.items()
    )
    return f'<|open|>call tool="{name}" index="1"<|sep|>{values}<|close|>call<|sep|>'


def _python(name: str, arguments: Arguments) -> str:
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"


def _gemma(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_gemma(item)}" for key, item in value.items()) + "}"
    return f'<|"|>{value}<|"|>' if isinstance(value, str) else _json(value)


WRITERS: Mapping[str, Callable[[Calls], str]] = {
    "deepseek": lambda calls: (
        "<｜tool▁calls▁begin｜>"
        + _each(lambda name, args: f"<｜tool▁call▁begin｜>{name}<｜tool▁sep｜>{_json(args)}<｜tool▁call▁end｜>")(calls)
        + "<｜tool▁calls▁end｜>"
    ),
    "deepseek-dsml": lambda calls: f"<｜DSML｜tool_calls>\n{_each(_dsml)(calls)}</｜DSML｜tool_calls>",
    "gemma": _each(lambda name, args: f"<|tool_call>call:{name}{_gemma(args)}<tool_call|>"),
    "glm": _each(
        lambda name, args: (
            f"<tool_call>{name}\n"
            + _tags(args, "<arg_key>{key}</arg_key>\n<arg_value>{value}</arg_value>\n")
            + "</tool_call>"
        )
    ),
    "granite": lambda calls: "<|tool_call|>" + _array(calls),
    "harmony": _each(
        lambda name, args: (
            f"<|start|>assistant<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>"
            f"{_json(args)}<|call|>"
        )
    ),
    "hermes": _each(lambda name, args: f"<tool_call>\n{_object(name, args)}\n</tool_call>", "\n"),
    "kimi-k2": lambda calls: (
        "<|tool_calls_section_begin|>"
        + _each(
            lambda name, args: (
                f"<|tool_call_begin|>functions.{name}:0<|tool_call_argument_begin|>{_json(args)}<|tool_call_end|>"
            )
        )(calls)
        + "<|tool_calls_section_end|>"
    ),
    "kimi-k3": lambda calls: f"<|open|>tools<|sep|>{_each(_k3)(calls)}<|close|>tools<|sep|>",
    "llama3": lambda calls: "<|python_tag|>" + "; ".join(_object(*call, key="parameters") for call in calls),
    "marked-json": lambda calls: f"<TOOLCALL>{_array(calls)}</TOOLCALL>",
    "minimax": lambda calls: (
        "<minimax:tool_call>\n"
        + _each(
            lambda name, args: (
                f'<invoke name="{name}">\n'
                + _tags(args, '<parameter name="{key}">{value}</parameter>\n')
                + "</invoke>\n"
            )
        )(calls)
        + "</minimax:tool_call>"
    ),
    "mistral": _each(lambda name, args: f"[TOOL_CALLS]{name}[ARGS]{_json(args)}"),
    "phi4": lambda calls: "functools" + _array(calls),
    "pythonic": lambda calls: (
        "<|python_start|>["
        + _each(lambda name, args: f"{name}({', '.join(f'{key}={value!r}' for key, value in args.items())})", ", ")(
            calls
        )
        + "]<|python_end|>"
    ),
    "qwen-coder": _each(
        lambda name, args: (
            f"<tool_call>\n<function={name}>\n"
            + _tags(args, "<parameter={key}>\n{value}\n</parameter>\n")
            + "</function>\n</tool_call>"
        ),
        "\n",
    ),
    "seed": _each(
        lambda name, args: (
            f"<seed:tool_call>\n<function={name}>\n"
            + _tags(args, "<parameter={key}>{value}</parameter>\n")
            + "</function>\n</seed:tool_call>"
        ),
        "\n",
    ),
}
"""How each format writes calls, by the format's name."""

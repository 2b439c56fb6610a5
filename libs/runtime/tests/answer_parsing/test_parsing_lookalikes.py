"""Calls that are written in another way than usual, and text that only looks like a call."""

import pytest

from .joined import Joined, parse

PARIS = ("get_weather", {"city": "Paris", "days": 3})


@pytest.mark.parametrize("form", ["hermes", "llama3", "pythonic"])
def test_an_unmarked_call_of_an_unknown_tool_is_text(form: str) -> None:
    text = "[no_such_tool(a=1)]" if form == "pythonic" else '{"name": "no_such_tool", "arguments": {"a": 1}}'
    assert parse(form, text) == Joined(text=text)


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("hermes", '{"name": "get_weather", "arguments": {"city": "Paris", "days": 3}}'),
        ("hermes", '```json\n{"name": "get_weather", "arguments": {"city": "Paris", "days": 3}}\n```'),
        ("hermes", '<tools>\n{"name": "get_weather", "arguments": {"city": "Paris", "days": 3}}\n</tools>'),
        ("hermes", '{{"name": "get_weather", "arguments": {"city": "Paris", "days": 3}}'),
        ("hermes", '<tool_call>\n{{"name": "get_weather", "arguments": {"city": "Paris", "days": 3}}}\n</tool_call>'),
        ("llama3", '{"name": "get_weather", "parameters": {"city": "Paris", "days": 3}}'),
        ("llama3", '{"type": "function", "name": "get_weather", "parameters": {"city": "Paris", "days": 3}}'),
        (
            "llama3",
            '[{"type": "function", "function": {"name": "get_weather", "parameters": {"city": "Paris", "days": 3}}}]',
        ),
        (
            "marked-json",
            '<tool_calls>[{"name": "get_weather", "arguments": {"city": "Paris", "days": 3}}]</tool_calls>',
        ),
        (
            "marked-json",
            '<|START_ACTION|>[\n {"tool_call_id": "0", "tool_name": "get_weather", '
            '"parameters": {"city": "Paris", "days": 3}}\n]<|END_ACTION|>',
        ),
        ("pythonic", "[get_weather(city='Paris', days=3)]"),
        ("pythonic", "```tool_code\nget_weather(city='Paris', days=3)\n```"),
        ("granite", '<tool_call>[{"name": "get_weather", "arguments": {"city": "Paris", "days": 3}}]'),
        ("mistral", '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Paris", "days": 3}}]'),
        ("mistral", '[TOOL_CALLS] [{"arguments": {"city": "Paris", "days": 3}, "name": "get_weather", "id": "x"}]'),
        ("hermes", '<tool_call>\n{"name": "get_weather", "arguments": "{\\"city\\": \\"Paris\\", \\"days\\": 3}"}'),
        (
            "deepseek",
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n"
            '{"city": "Paris", "days": 3}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
        ),
    ],
)
def test_other_ways_of_writing_it(form: str, text: str) -> None:
    assert parse(form, text) == Joined(calls=[PARIS], complete=[True])


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("hermes", "Write <tool_call> before it, and </tool_call> after."),
        ("hermes", '{"name": "Ada", "arguments": {"for": 1}} is no call'),
        ("hermes", '{"name": "get_weather", "age": 3}'),
        ("hermes", 'Inline {"name": "get_weather", "arguments": {}} is no call either'),
        ("hermes", "```python\nx = {}\n```\nand ```json\n[1, 2]\n```"),
        ("hermes", "<tool_call>not JSON at all</tool_call>"),
        ("llama3", '{"capital": "Paris"}'),
        ("llama3", "[1, 2] and {} and { \n"),
        ("pythonic", "[1] see get_weather(city='x'), [get_weather] and [not_a_tool(1)]"),
        ("pythonic", "[get_weather('positional')]"),
        ("pythonic", "[get_weather"),
        ("pythonic", "[get_weather(city='Paris'"),
        ("granite", "The <tool_call> mark"),
        ("phi4", "functools is a module; functools[0] is an error"),
        ("mistral", "[TOOL_CALL] and get_weather[ARGS]{}"),
        ("qwen-coder", "Use <tool_call> and then <function>, or <parameter=x>."),
        ("qwen-coder", "<tool_call>\n<function=get_weather>\nfree text\n</function>\n</tool_call>"),
        ("seed", "Use <seed:tool_call> and <function>."),
        ("glm", "Use <tool_call> and <arg_key>."),
        ("minimax", "Use <invoke> or <invoke name> there."),
        ("gemma", "Use <|tool_call>call me maybe<tool_call|> there."),
        ("deepseek", "The marks are <｜tool▁call▁end｜> and the like."),
        ("kimi-k2", "The mark <|tool_call_end|> ends it."),
        ("kimi-k3", "The element <|open|>cal and so on"),
        ("deepseek-dsml", "The element <｜DSML｜invoke> and so on"),
        ("harmony", "no channel at all"),
        ("", '<tool_call>{"name": "get_weather", "arguments": {}}</tool_call> with no format\n'),
    ],
)
def test_text_that_only_looks_like_a_call(form: str, text: str) -> None:
    assert parse(form, text) == Joined(text=text)


@pytest.mark.parametrize("form", ["hermes", "llama3"])
@pytest.mark.parametrize(
    "after", ['{"temperature_celsius": 17, "sky": "cloudy"}', '{"name": "Ada", "age": 36}', "{17}"]
)
def test_an_object_after_a_call_that_is_none_itself_is_text(form: str, after: str) -> None:
    """As where Qwen 2.5 Coder invents the result of its call."""
    call = '{"name": "get_weather", "arguments": {"city": "Paris", "days": 3}}'
    assert parse(form, f"{call}\n{after}") == Joined(text=after, calls=[PARIS], complete=[True])


def test_an_object_after_a_call_in_an_array_is_text() -> None:
    call = '{"name": "get_weather", "arguments": {"city": "Paris", "days": 3}}'
    assert parse("llama3", f'[{call}, {{"a": 1}}]') == Joined(text=', {"a": 1}]', calls=[PARIS], complete=[True])

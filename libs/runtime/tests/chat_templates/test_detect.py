"""What a chat template says about how its model writes tool calls and reasoning."""

from pathlib import Path

import pytest

from infermesh_runtime.chat_templates.chat_template import ChatTemplate
from infermesh_runtime.chat_templates.detect import detect_style
from infermesh_runtime.manifest.answer_style import AnswerStyle

REAL = Path(__file__).with_name("templates")
OBJECT = '{{ {"name": f.name, "arguments": f.arguments} | tojson }}'
PARAMETERS = '{"name": "{{ f.name }}", "parameters": {{ f.arguments | tojson }}}'
KEYS = "{% for key, value in f.arguments.items() %}"
# How each family's template writes a call
CALLS = {
    "deepseek": "<｜tool▁call▁begin｜>{{ f.name }}<｜tool▁sep｜>{{ f.arguments }}<｜tool▁call▁end｜>",
    "deepseek-dsml": '<｜DSML｜invoke name="{{ f.name }}">{{ f.arguments | tojson }}</｜DSML｜invoke>',
    "gemma": "<|tool_call>call:{{ f.name }}{{ f.arguments | tojson }}<tool_call|>",
    "glm": f"<tool_call>{{{{ f.name }}}}{KEYS}<arg_key>{{{{ key }}}}</arg_key>{{% endfor %}}</tool_call>",
    "granite": f"<tool_call>[{OBJECT}]",
    "harmony": "<|start|>assistant to=functions.{{ f.name }}<|channel|>commentary<|message|>{{ f.arguments|tojson }}",
    "hermes": f"<tool_call>\n{OBJECT}\n</tool_call>",
    "kimi-k2": "<|tool_call_begin|>functions.{{ f.name }}:0<|tool_call_argument_begin|>{{ f.arguments | tojson }}",
    "kimi-k3": '<|open|>call tool="{{ f.name }}"<|sep|>{{ f.arguments | tojson }}<|close|>call<|sep|>',
    "llama3": PARAMETERS,
    "marked-json": f"<TOOLCALL>[{OBJECT}]</TOOLCALL>",
    "minimax": '<minimax:tool_call><invoke name="{{ f.name }}"></invoke></minimax:tool_call>',
    "mistral": "[TOOL_CALLS]{{ f.name }}[ARGS]{{ f.arguments | tojson }}",
    "phi4": f"functools[{OBJECT}]",
    "pythonic": f"[{{{{ f.name }}}}({KEYS}{{{{ key }}}}={{{{ value | tojson }}}}{{% endfor %}})]",
    "qwen-coder": "<tool_call>\n<function={{ f.name }}>\n</function>\n</tool_call>",
    "seed": "<seed:tool_call>\n<function={{ f.name }}>\n</function>\n</seed:tool_call>",
}


def template_of(call: str, before: str = "") -> str:
    """A template that writes calls so."""
    return (
        f"{{% if tools %}}You have tools: {{{{ tools | tojson }}}}{before}{{% endif %}}"
        "{% for message in messages %}<|{{ message.role }}|>{% if message.tool_calls %}"
        f"{{% for c in message.tool_calls %}}{{% set f = c.function %}}{call}{{% endfor %}}"
        "{% else %}{{ message.content }}{% endif %}{% endfor %}"
    )


def detect(source: str, *control_tokens: str) -> AnswerStyle:
    return detect_style(ChatTemplate(source, control_tokens=control_tokens), source, control_tokens)


@pytest.mark.parametrize("form", sorted(CALLS))
def test_format_from_what_comes_out(form: str) -> None:
    assert detect(template_of(CALLS[form])).tool_format == form


def test_what_comes_out_counts_more_than_what_is_written() -> None:
    instructions = " Write <tool_call>{...}</tool_call>, or <function=...>."
    assert detect(template_of(CALLS["mistral"], instructions)).tool_format == "mistral"


def test_source_counts_where_nothing_comes_out() -> None:
    source = "{# [TOOL_CALLS] #}{% for m in messages %}{{ m.content }}{% endfor %}{% if x %}<tool_call>{% endif %}"
    assert detect(source).tool_format == "hermes"


def test_template_without_tools() -> None:
    source = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    assert detect(source) == AnswerStyle("", "")
    assert detect(source, "[TOOL_CALLS]", "[THINK]") == AnswerStyle("mistral", "mistral")


def test_template_that_wants_arguments_as_text() -> None:
    call = "<tool_call>{{ f.name }} {{ '' + f.arguments }}</tool_call>"
    assert detect(template_of(call)).tool_format == "hermes"


def test_template_that_refuses_every_call() -> None:
    source = (
        "{% for m in messages %}{% if m.tool_calls %}{{ raise_exception('no') }}{% endif %}{{ m.content }}{% endfor %}"
    )
    assert detect(source).tool_format == ""


@pytest.mark.parametrize(
    ("written", "reasoning"),
    [
        ("{{ '<think>\\n' }}", "think"),
        ("{% set c = c.split('</think>') %}", "think"),
        ("[THINK]{{ c }}[/THINK]", "mistral"),
        ("<seed:think>", "seed"),
        ("Here is my thought process:", "granite"),
        ("<|channel>thought\n<channel|>", "gemma"),
        ("{{ c }}", ""),
    ],
)
def test_reasoning_from_the_source(written: str, reasoning: str) -> None:
    source = f"{{% set c = '' %}}{{% for m in messages %}}{{{{ m.content }}}}{{% endfor %}}{written}"
    assert detect(source).reasoning == reasoning


@pytest.mark.parametrize(
    ("name", "style"),
    [("qwen3", AnswerStyle("hermes", "think")), ("deepseek_v3", AnswerStyle("deepseek", ""))],
)
def test_real_templates(name: str, style: AnswerStyle) -> None:
    assert detect((REAL / f"{name}.jinja").read_text()) == style

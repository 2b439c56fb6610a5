"""Chat templates as transformers renders them."""

from collections.abc import Sequence
from typing import Any

import pytest

from infermesh_runtime.chat_templates.chat_template import ChatTemplate, Message
from infermesh_runtime.chat_templates.environment import parse_template, reserved_variables, uses_tools
from infermesh_runtime.errors import FailedPrecondition, InvalidArgument

USER = {"role": "user", "content": "hi"}
CHATML = """\
{% for message in messages %}
    {% if loop.first and message['role'] != 'system' %}
{{ '<|im_start|>system\\nBe kind<|im_end|>\\n' }}
    {%- endif %}
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{%- endfor %}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""


def render(source: str, messages: Sequence[Message] = (), **options: Any) -> str:
    template = ChatTemplate(source, special_tokens={"bos_token": "<s>", "eos_token": "</s>"})
    return template.render(messages, **options).text


def test_blocks_leave_no_white_space() -> None:
    expected = "<|im_start|>system\nBe kind<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert render(CHATML, [USER]) == expected
    assert render(CHATML, [USER], add_generation_prompt=False) == expected.removesuffix("<|im_start|>assistant\n")


def test_variables_of_the_template() -> None:
    source = "{{ bos_token }}{{ eos_token }}{{ add_generation_prompt }}{{ thinking }}"
    assert render(source, variables={"thinking": False}) == "<s></s>TrueFalse"


def test_tojson_escapes_no_html_and_keeps_characters() -> None:
    tools = [{"function": {"description": "<é & 'ü'>"}}]
    assert render("{{ tools | tojson }}", tools=tools) == '[{"function": {"description": "<é & \'ü\'>"}}]'
    assert render("{{ tools[0] | tojson(indent=1) }}", tools=[{"a": 1}]) == '{\n "a": 1\n}'


def test_takes_tools_only_when_the_template_uses_them() -> None:
    assert uses_tools(parse_template("{% if tools %}{{ tools }}{% endif %}"))
    assert not uses_tools(parse_template(CHATML))


def test_what_a_request_does_not_have_is_none() -> None:
    assert render("{{ tools is none }} {{ documents is none }}") == "True True"
    assert render("{{ documents[0].text }}", variables={"documents": [{"text": "page"}]}) == "page"


def test_variables_replace_nothing_in_silence() -> None:
    names = ["enable_thinking", "tools", "eos_token", "documents", "add_generation_prompt", "messages", "namespace"]
    assert reserved_variables(dict.fromkeys(names)) == [
        "tools",
        "eos_token",
        "add_generation_prompt",
        "messages",
        "namespace",
    ]
    own = "{% if day is not defined %}{% set day = 'Monday' %}{% endif %}{% set year = 2026 %}{{ day }} {{ year }}"
    assert render(own) == "Monday 2026"
    assert render(own, variables={"day": "Friday"}) == "Friday 2026"
    with pytest.raises(InvalidArgument, match="sets year itself"):
        render(own, variables={"year": 1999})


def test_loop_controls_and_generation_blocks() -> None:
    assert render("{% for m in messages %}{{ m.content }}{% break %}{% endfor %}", [USER, USER]) == "hi"
    assert render("{% generation %}{{ messages[0].content }}{% endgeneration %}", [USER]) == "hi"
    outside = "{% generation %}{{ messages[0].content }}{% set x = 1 %}{% endgeneration %}{{ x is defined }}"
    assert render(outside, [USER]) == "hiFalse"


def test_date_is_given() -> None:
    assert len(render("{{ strftime_now('%Y-%m-%d') }}")) == 10


def test_developer_is_system_where_the_template_loses_it() -> None:
    messages = [{"role": "developer", "content": "x"}]
    assert render("{% for m in messages %}{{ m.role }} {{ m.content }}{% endfor %}", messages) == "developer x"
    loses = "{# developer #}{% for m in messages if m.role != 'developer' %}{{ m.role }} {{ m.content }}{% endfor %}"
    assert render(loses, messages) == "system x"
    refuses = "{% for m in messages %}{% if m.role == 'developer' %}{{ raise_exception('no') }}{% endif %}"
    assert render(refuses + "{{ m.role }} {{ m.content }}{% endfor %}", messages) == "system x"


def test_message_that_the_template_leaves_out_is_refused() -> None:
    source = "{% for m in messages if m.role in ('user', 'assistant') %}{{ m.content | upper }}{% endfor %}"
    assert render(source, [USER, {"role": "assistant", "content": "yes"}]) == "HIYES"
    for role in ("system", "developer", "tool"):
        with pytest.raises(InvalidArgument, match=rf"leaves out chat.messages\[1\], whose role is '{role}'"):
            render(source, [USER, {"role": role, "content": "secret"}])
    calls = [{"id": "1", "type": "function", "function": {"name": "weather", "arguments": {}}}]
    with pytest.raises(InvalidArgument, match=r"chat.messages\[1\], whose role is 'assistant'"):
        render(source, [USER, {"role": "assistant", "content": "", "tool_calls": calls}])


def test_text_that_the_template_changes_is_not_lost() -> None:
    source = "{% for m in messages %}{{ (m.content.split('</think>') | last).strip() }};{% endfor %}"
    answer = {"role": "assistant", "content": "<think>hm</think> yes"}
    assert render(source, [USER, answer, USER]) == "hi;yes;hi;"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages[0].content.nothing.more }}", "no attribute 'nothing'"),
        ("{{ messages[0].content + 1 }}", "concatenate"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe|not allowed|not safely"),
        ("{% for i in range(10**9) %}{% endfor %}", "Range too big"),
    ],
)
def test_refusal_of_the_template_is_the_clients_error(source: str, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        render(source, [USER])


def test_source_that_is_no_template_is_refused() -> None:
    for use in (ChatTemplate, parse_template):
        with pytest.raises(FailedPrecondition, match="syntax error in line 2"):
            use("a\n{% if %}")

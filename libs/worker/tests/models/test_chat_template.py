"""Chat templates as transformers renders them."""

from collections.abc import Sequence
from typing import Any

import pytest

from infermesh_runtime.errors import FailedPrecondition, InvalidArgument
from infermesh_worker.models.chat_template import ChatTemplate, Message, check_template

USER = {"role": "user", "content": "hi"}
CHATML = """\
{% for message in messages %}
    {% if loop.first and message['role'] != 'system' %}
{{ '<|im_start|>system\\nBe kind<|im_end|>\\n' }}
    {%- endif %}
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{%- endfor %}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""


def render(source: str, messages: Sequence[Message] = (USER,), **options: Any) -> str:
    return ChatTemplate(source, bos_token="<s>", eos_token="</s>").render(messages, **options)


def test_blocks_leave_no_white_space() -> None:
    expected = "<|im_start|>system\nBe kind<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert render(CHATML) == expected
    assert render(CHATML, add_generation_prompt=False) == expected.removesuffix("<|im_start|>assistant\n")


def test_variables_of_the_template() -> None:
    source = "{{ bos_token }}{{ eos_token }}{{ add_generation_prompt }}{{ thinking }}"
    assert render(source, variables={"thinking": False}) == "<s></s>TrueFalse"
    assert render("{{ bos_token }}", variables={"bos_token": ""}) == ""


def test_tojson_escapes_no_html_and_keeps_characters() -> None:
    tools = [{"function": {"description": "<é & 'ü'>"}}]
    assert render("{{ tools | tojson }}", tools=tools) == '[{"function": {"description": "<é & \'ü\'>"}}]'
    assert render("{{ tools[0] | tojson(indent=1) }}", tools=[{"a": 1}]) == '{\n "a": 1\n}'


def test_takes_tools_only_when_the_template_uses_them() -> None:
    assert check_template("{% if tools %}{{ tools }}{% endif %}")
    assert not check_template(CHATML)
    assert render("{% if tools is defined %}yes{% else %}no{% endif %}") == "no"


def test_loop_controls_and_generation_blocks() -> None:
    assert render("{% for m in messages %}{{ m.content }}{% break %}{% endfor %}", [USER, USER]) == "hi"
    assert render("{% generation %}{{ messages[0].content }}{% endgeneration %}") == "hi"


def test_date_is_given() -> None:
    assert len(render("{{ strftime_now('%Y-%m-%d') }}")) == 10


def test_developer_is_system_where_the_template_does_not_know_it() -> None:
    source = "{% for m in messages %}{{ m.role }}{% endfor %}"
    messages = [{"role": "developer", "content": "x"}]
    assert render(source, messages) == "system"
    assert render(source + "{# developer #}", messages) == "developer"


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
        render(source)


def test_source_that_is_no_template_is_refused() -> None:
    for use in (ChatTemplate, check_template):
        with pytest.raises(FailedPrecondition, match="syntax error in line 2"):
            use("a\n{% if %}")

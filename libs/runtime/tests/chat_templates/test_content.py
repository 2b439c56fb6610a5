"""Templates that loop over the parts of a message get parts, others get text."""

import pytest

from infermesh_runtime.chat_templates.chat_template import ChatTemplate
from infermesh_runtime.chat_templates.content import ContentFormat, takes_parts
from infermesh_runtime.chat_templates.environment import parse_template

TEXT = "{% for m in messages %}{{ m.role }}:{{ m['content'] | trim }};{% endfor %}"
PARTS = "{% for m in messages %}{% for p in m.content if p.type == 'text' %}[{{ p.text }}]{% endfor %}{% endfor %}"
BOTH = (
    "{% for m in messages %}{% if m.content is string %}{{ m.content }}"
    "{% else %}{% for p in m['content'] %}[{{ p.text }}]{% endfor %}{% endif %}{% endfor %}"
)
BY_NAME = "{% for m in messages %}{% set c = m.content %}{% for p in c[0:] %}[{{ p.text }}]{% endfor %}{% endfor %}"
BY_MACRO = (
    "{% macro show(content) %}{% for p in content %}[{{ p.text }}]{% endfor %}{% endmacro %}"
    "{% for m in messages %}{{ show(m.content) }}{% endfor %}"
)
BY_NAMESPACE = (
    "{% set ns = namespace(c=none) %}{% for m in messages %}{% set ns.c = m.content %}"
    "{% for p in ns.c %}[{{ p.text }}]{% endfor %}{% endfor %}"
)
BY_INDEX = "{% for m in messages %}[{{ m.content[0].text }}]{% endfor %}"
"""Shows nothing of a text; only rendering tells."""
LETTERS = "{% for m in messages %}{{ m.content }}{% for letter in m.content %}.{% endfor %}{% endfor %}"
"""Loops over the content, but over its letters."""


@pytest.mark.parametrize("source", [PARTS, BOTH, BY_NAME, BY_MACRO, BY_NAMESPACE])
def test_loop_over_content_takes_parts(source: str) -> None:
    assert takes_parts(parse_template(source))
    template = ChatTemplate(source)
    assert template.render([{"role": "user", "content": "hi"}]).text == "[hi]"
    assert template.render([{"role": "user", "content": "", "parts": ["a", "b"]}]).text == "[a][b]"


def test_text_is_joined_by_newlines() -> None:
    assert not takes_parts(parse_template(TEXT))
    assert ChatTemplate(TEXT).render([{"role": "user", "content": "", "parts": ["a", "b"]}]).text == "user:a\nb;"


@pytest.mark.parametrize(("source", "text"), [(BY_INDEX, "[hi]"), (LETTERS, "hi..")])
def test_rendering_decides_where_the_source_misleads(source: str, text: str) -> None:
    assert ChatTemplate(source).render([{"role": "user", "content": "hi"}]).text == text


@pytest.mark.parametrize(("form", "text"), [("string", "hi"), ("parts", "[hi]"), ("auto", "[hi]")])
def test_setting_decides_before_the_template(form: ContentFormat, text: str) -> None:
    assert ChatTemplate(BOTH, content_format=form).render([{"role": "user", "content": "hi"}]).text == text


def test_tool_calls_without_a_text_have_no_part() -> None:
    source = "{% for m in messages %}{{ m.content | length }}{{ m.tool_calls }}{% endfor %}"
    calls = [{"id": "1", "type": "function", "function": {"name": "weather", "arguments": {}}}]
    message = {"role": "assistant", "content": "", "tool_calls": calls}
    assert ChatTemplate(source, content_format="parts").render([message]).text.startswith("0")

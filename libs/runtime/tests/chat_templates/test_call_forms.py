"""Tool calls reach every kind of template, those with broken arguments too, or the conversation is refused."""

from pathlib import Path
from typing import Any

import pytest

from infermesh_runtime.chat_templates.chat_template import ChatTemplate
from infermesh_runtime.errors import InvalidArgument

TEMPLATES = Path(__file__).parent / "templates"
CUT = '{"city": "Pa<|im_end|>"ü'
CALLS = """\
{% for m in messages %}{{ m.content }}{% for c in m.tool_calls %}{{ c.function.name }} [%s]{% endfor %}{% endfor %}"""


def render(source: str, arguments: Any) -> str:
    call = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": arguments}}
    asked = {"role": "user", "content": "hi"}
    answer = {"role": "assistant", "content": "", "tool_calls": [call]}
    result = {"role": "tool", "content": "It failed.", "tool_call_id": "c"}
    template = ChatTemplate(source, control_tokens=("<|im_end|>",))
    return template.render([asked, answer, result], add_generation_prompt=True).text


@pytest.mark.parametrize(
    ("loop", "shown"),
    [
        ("{{ c.function.arguments }}", CUT),
        ("{{ c.function.arguments | tojson }}", '"{\\"city\\": \\"Pa<|im_end|>\\"ü"'),
        ("{{ c.function.arguments | trim }}", CUT),
        ("{{ '' ~ c.function.arguments + '' }}", CUT),
        ("{% for k, v in c.function.arguments | items %}<{{ k }}>{{ v }}{% endfor %}", f"<arguments>{CUT}"),
        ("{% for k, v in c.function.arguments.items() %}<{{ k }}>{{ v }}{% endfor %}", f"<arguments>{CUT}"),
        ("{% for k in c.function.arguments %}<{{ k }}>{{ c.function.arguments[k] }}{% endfor %}", f"<arguments>{CUT}"),
        ("{% if c.function.arguments is mapping %}{{ c.function.arguments.arguments }}{% endif %}", CUT),
    ],
)
def test_they_are_shown(loop: str, shown: str) -> None:
    assert f"weather [{shown}]" in render(CALLS.replace("%s", loop), CUT)


@pytest.mark.parametrize("name", sorted(path.name for path in TEMPLATES.glob("*.jinja")))
def test_real_templates_show_them(name: str) -> None:
    assert CUT in render((TEMPLATES / name).read_text(encoding="utf-8"), CUT)


def test_a_template_that_takes_neither_refuses() -> None:
    needs_city = "{{ c.function.arguments.city.upper() }}"
    assert "weather [PARIS]" in render(CALLS.replace("%s", needs_city), {"city": "Paris"})
    with pytest.raises(InvalidArgument, match="rejects this conversation"):
        render(CALLS.replace("%s", needs_city), CUT)


def test_arguments_that_are_not_shown_are_not_lost_in_silence() -> None:
    shows_city = "{{ c.function.arguments.city }}"
    assert "weather [Paris]" in render(CALLS.replace("%s", shows_city), {"city": "Paris"})
    with pytest.raises(InvalidArgument, match="leaves out arguments"):
        render(CALLS.replace("%s", shows_city), CUT)


@pytest.mark.parametrize("loop", ["{{ c.function.arguments | tojson }}", "{{ '' + c.function.arguments }}"])
def test_arguments_that_are_an_object(loop: str) -> None:
    """A template that adds them to a text, as DeepSeek's does, gets them as text."""
    assert 'weather [{"city": "Paris"}]' in render(CALLS.replace("%s", loop), {"city": "Paris"})


@pytest.mark.parametrize("name", sorted(path.name for path in TEMPLATES.glob("*.jinja")))
def test_real_templates_show_whole_calls(name: str) -> None:
    assert '{"city": "Paris"}' in render((TEMPLATES / name).read_text(encoding="utf-8"), {"city": "Paris"})

"""Templates are tried before an import, in a process of their own."""

import re

import pytest

from infermesh_runtime.chat_templates import examine
from infermesh_runtime.chat_templates.chat_template import ChatTemplate
from infermesh_runtime.chat_templates.examine import TemplateFacts, examine_template
from infermesh_runtime.chat_templates.turn_end import find_turn_end
from infermesh_runtime.chat_templates.usable import why_unusable
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.manifest.answer_style import AnswerStyle

CONTROL = ["<s>", "</s>", "<|user|>", "<|assistant|>", "<|im_start|>", "<|im_end|>", "<|end|>"]
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
LLAMA2 = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' + m.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content + ' ' + eos_token }}{% endif %}{% endfor %}"
)
PHI = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
UNCLOSED = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}\n{% endfor %}<|assistant|>"
PLAIN = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"


@pytest.mark.parametrize(
    ("source", "end"),
    [
        (CHATML, "<|im_end|>"),
        (CHATML + "<|im_start|>assistant\n", "<|im_end|>"),
        ("<|im_start|>system\nBe kind<|im_end|>\n" + CHATML, "<|im_end|>"),
        (LLAMA2, "</s>"),
        (PHI, "<|end|>"),
        (UNCLOSED, None),
        (PLAIN, None),
        ("{{ raise_exception('no') }}", None),
    ],
)
def test_end_of_a_turn(source: str, end: str | None) -> None:
    template = ChatTemplate(source, special_tokens={"bos_token": "<s>", "eos_token": "</s>"}, control_tokens=CONTROL)
    assert find_turn_end(template, CONTROL) == end


def test_process_tells_the_end_and_the_style() -> None:
    assert examine_template(CHATML, {}, CONTROL) == TemplateFacts("<|im_end|>", AnswerStyle())
    calls = "{% for c in m.tool_calls or [] %}[TOOL_CALLS]{{ c.function.name }}{% endfor %}"
    thinks = CHATML + "{% for m in messages %}" + calls + "{% endfor %}<think>"
    assert examine_template(thinks, {}, CONTROL).style == AnswerStyle("mistral", "think")


def test_template_that_does_not_compile_is_refused_with_its_line() -> None:
    with pytest.raises(InvalidArgument, match="syntax error in line 2"):
        examine_template("\n{% for m in messages %}{{ m.content }", {}, CONTROL)
    with pytest.raises(InvalidArgument, match=r"syntax error in line 3.*nothing_known"):
        examine_template("\n\n{{ messages | nothing_known }}", {}, CONTROL)


def test_template_that_never_ends_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine, "_TIMEOUT_S", 0.5)
    with pytest.raises(InvalidArgument, match=r"takes more than 0.5 s"):
        examine_template("{{ 3 ** 1000000000 % 7 }}", {}, CONTROL)


def test_template_that_takes_all_memory_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="1024 MiB of memory"):
        examine_template("{{ 'x' * 100000000000 }}", {}, CONTROL)


USER = "{% for m in messages %}{{ m.content }}{% endfor %}"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{% for i in range(10 ** 9) %}x{% endfor %}" + USER, "Range too big"),
        ("{% include 'other' %}" + USER, "no loader"),
        ("{{ ''.__class__.__mro__ }}" + USER, "unsafe"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}" + USER, "recursion"),
        ("{{ messages[0].content + 1 }}", "can only concatenate"),
    ],
)
def test_template_that_works_for_no_conversation_is_refused(source: str, reason: str) -> None:
    why = why_unusable(ChatTemplate(source))
    assert why is not None
    assert re.search(reason, why)


@pytest.mark.parametrize(
    "source",
    [
        USER,
        "{{ raise_exception('only for images') }}",
        "hello",
        "{{ given.name }}" + USER,
        "{% if not tools %}{{ 1 + 'x' }}{% endif %}" + USER,
        "{% if messages[0].role != 'system' %}{{ 1 + 'x' }}{% endif %}" + USER,
    ],
)
def test_template_that_may_work_for_some_conversation_is_taken(source: str) -> None:
    assert why_unusable(ChatTemplate(source)) is None


def test_process_refuses_a_template_that_works_for_no_conversation() -> None:
    with pytest.raises(InvalidArgument, match="works for no conversation: it rejects this conversation: Range too big"):
        examine_template("{% for i in range(10 ** 9) %}x{% endfor %}" + USER, {}, CONTROL)

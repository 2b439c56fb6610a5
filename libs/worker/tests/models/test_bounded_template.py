"""Chat templates render in a process of their own, which ends when they take too long or too much memory."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from infermesh_runtime.errors import FailedPrecondition, InvalidArgument
from infermesh_worker.models.templates.bounded_template import BoundedTemplate
from infermesh_worker.models.templates.template_process import pack_conversation

pytestmark = pytest.mark.alone  # a busy machine is an answer of its own

USER = {"role": "user", "content": "hi"}
FINE = "{{ messages[0].content }}"
BAD_IF_ASKED = "{% if messages[0].content == 'bad' %}" + "{}" + "{% endif %}" + FINE
NESTED = "".join(f"{{% for {name} in range(9999) %}}" for name in "abc") + "{% endfor %}" * 3
DOUBLING = "{% set n = namespace(s='x') %}{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}"
LONG = "{{ ('x' * 1000000) * 100 }}"

MakeTemplate = Callable[[str], BoundedTemplate]


@pytest.fixture
async def make_template() -> AsyncIterator[MakeTemplate]:
    made: list[BoundedTemplate] = []

    def make(source: str) -> BoundedTemplate:
        template = BoundedTemplate(source, model="m", special_tokens={"bos_token": "<s>"})
        template.timeout_s = 0.5
        made.append(template)
        return template

    yield make
    for template in made:
        template.close()


def conversation(content: str = "hi") -> bytes:
    return pack_conversation([USER | {"content": content}])


async def test_conversations_in_turn(make_template: MakeTemplate) -> None:
    template = make_template("{{ bos_token }}" + FINE)
    rendered = await asyncio.gather(*(template.render(conversation(str(number))) for number in range(20)))
    assert [each.text for each in rendered] == [f"<s>{number}" for number in range(20)]
    assert (await template.render(conversation("é" * 300_000))).text == "<s>" + "é" * 300_000


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (NESTED, "takes more than 0.5 s"),
        (DOUBLING, "takes more than 1024 MiB of memory"),
        (LONG, "makes more than 64 MiB of text"),
        ("{{ 1 / 0 }}", "rejects this conversation: division by zero"),
    ],
)
async def test_bad_template_is_the_requests_error(make_template: MakeTemplate, bad: str, words: str) -> None:
    template = make_template(BAD_IF_ASKED.replace("{}", bad))
    template.timeout_s = 0.5 if bad == NESTED else 20.0
    with pytest.raises(InvalidArgument, match="the chat template of model 'm'") as caught:
        await template.render(conversation("bad"))
    assert words in caught.value.message
    assert list(caught.value.fields) == ["chat.messages"]
    assert (await template.render(conversation())).text == "hi"


async def test_constants_that_take_for_ever_do_not_hang_the_front(make_template: MakeTemplate) -> None:
    template = make_template("{{ 3 ** 1000000000 % 7 }}")
    with pytest.raises(InvalidArgument, match="to render this conversation"):
        await template.render(conversation())


async def test_event_loop_goes_on_while_a_template_hangs(make_template: MakeTemplate) -> None:
    template = make_template(NESTED)
    rendering = asyncio.create_task(template.render(conversation()))
    ticks = 0
    while not rendering.done():
        await asyncio.sleep(0.005)
        ticks += 1
    assert ticks > 20
    with pytest.raises(InvalidArgument):
        await rendering


async def test_cancelled_rendering_is_not_the_answer_to_the_next(make_template: MakeTemplate) -> None:
    template = make_template(FINE)
    assert (await template.render(conversation())).text == "hi"
    first = asyncio.create_task(template.render(conversation("first")))
    await asyncio.sleep(0)
    first.cancel()
    assert (await template.render(conversation("second"))).text == "second"


async def test_template_that_cannot_be_compiled_is_not_the_requests_error(make_template: MakeTemplate) -> None:
    with pytest.raises(FailedPrecondition, match="nothing_known"):
        await make_template("{{ messages | nothing_known }}").render(conversation())
    with pytest.raises(FailedPrecondition, match="syntax error"):
        make_template("{% if %}")


async def test_control_tokens_come_from_the_template_alone() -> None:
    source = "{% for m in messages %}<s>{{ m.content }}<tool>{% endfor %}"
    template = BoundedTemplate(source, model="m", control_tokens=["<s>", "</s>"], added_tokens=["<tool>", "<other>"])
    assert template.control_tokens == {"<s>", "</s>", "<tool>"}
    assert (await template.render(conversation("a<s>"))).pieces == ("", "<s>", "a<s>", "<tool>", "")
    template.close()
    template.special_tokens_anywhere = True
    assert (await template.render(conversation("a<s>"))).pieces == ("<s>a<s><tool>",)
    template.close()


async def test_process_that_was_killed_is_started_again(make_template: MakeTemplate) -> None:
    template = make_template(FINE)
    await template.render(conversation())
    assert template._process is not None
    template._process._process.kill()
    template._process._process.wait()
    assert (await template.render(conversation())).text == "hi"

"""How the answer to a conversation is written: found in the template, told in `started`, forced where it must be."""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from tokenizers import AddedToken

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_engine.requests.request import GenerationRequest
from infermesh_engine.simulated.runner import SimulatedOptions, SimulatedRunner
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.manifest.answer_style import AnswerStyle
from infermesh_worker.models.opened_model import OpenedModel, bind_template
from infermesh_worker.rpc.convert import to_generation, to_started
from infermesh_worker.rpc.prompts.told_prompt import tell_style
from infermesh_worker.testing.simulated import SimulatedSettings, opened_model
from infermesh_worker.testing.simulated_engine import build_tokenizer

HERMES = """\
{% if tools %}<|im_start|>system
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}<|im_end|>
{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}{% for call in m.tool_calls or [] %}<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
THINKS = HERMES + "{% if add_generation_prompt and enable_thinking is not false %}<think>\n{% endif %}"
MUTE = "{% for m in messages %}{{ m.content }}{% endfor %}{{ tools | tojson if tools else '' }}"
NO_TOOLS = "{% for m in messages %}{{ m.content }}{% endfor %}"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [pb.Tool(name="weather", parameters_json=json.dumps(SCHEMA)), pb.Tool(name="time")]
REQUIRED = pb.ToolChoice(mode=pb.TOOL_CHOICE_MODE_REQUIRED)
CALL, THINK = 259, 260
INFO = SimulatedRunner(SimulatedOptions(vocab_size=261, context_length=4096)).info

MakeModel = Callable[[str], OpenedModel]


@pytest.fixture
async def make_model() -> AsyncIterator[MakeModel]:
    """Models whose tokenizer has a token for <tool_call> and one for </think>."""
    made: list[OpenedModel] = []

    def make(template: str) -> OpenedModel:
        tokenizer = build_tokenizer()
        tokenizer.add_special_tokens([AddedToken(name, special=True) for name in ("<tool_call>", "</think>")])
        model = opened_model(SimulatedSettings.model_validate({}))
        bound = bind_template(template, tokenizer, model="m", special_tokens={})
        made.append(replace(model, tokenizer=tokenizer, chat_template=bound))
        return made[-1]

    yield make
    for model in made:
        model.close()


def ask(*tools: pb.Tool, choice: pb.ToolChoice | None = None, **fields: Any) -> pb.GenerateRequest:
    chat = pb.ChatPrompt(messages=[pb.ChatMessage(role="user", content="hi")], tools=tools, tool_choice=choice)
    return pb.GenerateRequest(chat=chat, text_options=pb.TextOptions(show_marks=True), **fields)


async def generation_of(model: OpenedModel, request: pb.GenerateRequest) -> GenerationRequest:
    return await to_generation(request, request_id="r", model=model, info=INFO)


async def told(model: OpenedModel, request: pb.GenerateRequest) -> pb.Started:
    generation = await generation_of(model, request)
    started = to_started(generation, model, INFO)
    await tell_style(started, request, generation, model)
    return started


async def test_the_style_is_told_as_far_as_it_concerns_the_request(make_model: MakeModel) -> None:
    model = make_model(THINKS)
    assert model.known_style is None
    hermes = pb.AnswerStyle(tool_format="hermes", reasoning="think", reasoning_opened=True)
    assert (await told(model, ask(*TOOLS))).answer_style == hermes
    assert model.known_style == AnswerStyle("hermes", "think")
    without = pb.AnswerStyle(reasoning="think", reasoning_opened=True)
    assert (await told(model, ask())).answer_style == without
    none = ask(*TOOLS, choice=pb.ToolChoice(mode=pb.TOOL_CHOICE_MODE_NONE))
    assert (await told(model, none)).answer_style == without
    silent = ask(*TOOLS)
    silent.chat.enable_thinking = False
    assert not (await told(model, silent)).answer_style.reasoning_opened
    assert not (await told(model, pb.GenerateRequest(text="hi"))).HasField("answer_style")


async def test_marks_are_shown_if_the_request_asks_for_them(make_model: MakeModel) -> None:
    model = make_model(THINKS)
    assert (await generation_of(model, ask(*TOOLS))).text.shown_token_ids == (CALL, THINK)
    assert (await generation_of(model, ask())).text.shown_token_ids == (THINK,)
    native = ask(*TOOLS)
    native.ClearField("text_options")
    assert (await generation_of(model, native)).text.shown_token_ids == ()


async def test_no_choice_of_a_tool_renders_none(make_model: MakeModel) -> None:
    none = pb.ToolChoice(mode=pb.TOOL_CHOICE_MODE_NONE)
    plain = (await generation_of(make_model(HERMES), ask())).prompt_token_ids
    assert (await generation_of(make_model(HERMES), ask(*TOOLS, choice=none))).prompt_token_ids == plain
    assert (await generation_of(make_model(NO_TOOLS), ask(*TOOLS, choice=none))).prompt_token_ids


async def test_forced_calls_have_a_grammar(make_model: MakeModel) -> None:
    model = make_model(HERMES)
    forced = (await generation_of(model, ask(*TOOLS, choice=REQUIRED))).output_format
    assert forced is not None
    assert '"{\\"name\\": \\"weather\\"' in forced.spec
    assert '"{\\"name\\": \\"time\\"' in forced.spec
    assert "call+" in forced.spec or "call)*" in forced.spec
    named = pb.ToolChoice(mode=pb.TOOL_CHOICE_MODE_REQUIRED, name="time")
    one = (await generation_of(model, ask(*TOOLS, choice=named))).output_format
    assert one is not None
    assert "weather" not in one.spec
    assert "call)*" not in one.spec
    single = ask(*TOOLS, choice=REQUIRED)
    single.chat.parallel_tool_calls = False
    first = (await generation_of(model, single)).output_format
    assert first is not None
    assert "call)*" not in first.spec


async def test_marks_that_are_added_tokens_are_tokens_in_a_grammar(make_model: MakeModel) -> None:
    """Qwen's are not special, and yet no text in a grammar matches them."""
    model = make_model(THINKS)
    tokenizer = build_tokenizer()
    tokenizer.add_tokens([AddedToken(name, special=False, normalized=False) for name in ("<tool_call>", "</think>")])
    model = replace(model, tokenizer=tokenizer)
    forced = (await generation_of(model, ask(*TOOLS, choice=REQUIRED))).output_format
    formatted = (await generation_of(model, ask(format=pb.OutputFormat(regex="a")))).output_format
    assert forced is not None
    assert formatted is not None
    assert {f"<[{CALL}]>", f"<[{THINK}]>"} <= set(forced.spec.split())
    assert f"<[{THINK}]>" in formatted.before
    assert (await generation_of(model, ask(*TOOLS))).text.shown_token_ids == ()


@pytest.mark.parametrize(
    ("field", "request_"),
    [
        ("chat.tool_choice", ask(*TOOLS, choice=REQUIRED, format=pb.OutputFormat(regex="a"))),
        ("chat.tool_choice", ask(choice=REQUIRED)),
        (
            "chat.tool_choice.name",
            ask(*TOOLS, choice=pb.ToolChoice(mode=pb.TOOL_CHOICE_MODE_REQUIRED, name="no")),
        ),
    ],
)
async def test_a_choice_that_contradicts_the_request(
    make_model: MakeModel, field: str, request_: pb.GenerateRequest
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await generation_of(make_model(HERMES), request_)
    assert list(caught.value.fields) == [field]


async def test_a_template_without_tools_refuses_them(make_model: MakeModel) -> None:
    with pytest.raises(InvalidArgument, match="does not support tools") as caught:
        await generation_of(make_model(NO_TOOLS), ask(*TOOLS))
    assert list(caught.value.fields) == ["chat.tools"]


async def test_a_model_of_no_known_format_is_forced_and_else_ignored_by_name(make_model: MakeModel) -> None:
    model = make_model(MUTE)
    free = await told(model, ask(*TOOLS))
    assert (free.answer_style.tool_format, list(free.ignored_fields)) == ("", ["chat.tool_choice"])
    forced = await told(model, ask(*TOOLS, choice=REQUIRED))
    assert (forced.answer_style.tool_format, list(forced.ignored_fields)) == ("hermes", [])


async def test_a_format_begins_after_the_reasoning(make_model: MakeModel) -> None:
    plain = (await generation_of(make_model(HERMES), ask(format=pb.OutputFormat(regex="a")))).output_format
    assert plain is not None
    assert plain.before == ""
    model = make_model(THINKS)
    opened = (await generation_of(model, ask(format=pb.OutputFormat(regex="a")))).output_format
    assert opened is not None
    assert f"<[{THINK}]>" in opened.before
    assert '"<think>"' not in opened.before
    silent = ask(format=pb.OutputFormat(regex="a"))
    silent.chat.enable_thinking = False
    closed = (await generation_of(model, silent)).output_format
    assert closed is not None
    assert '"<think>"' in closed.before


async def test_a_prompt_that_ends_the_reasoning_leaves_none(make_model: MakeModel) -> None:
    model = make_model(THINKS + "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}")
    silent = ask(*TOOLS, format=pb.OutputFormat(regex="a"))
    silent.chat.enable_thinking = False
    assert (await told(model, silent)).answer_style == pb.AnswerStyle(tool_format="hermes")
    made = (await generation_of(model, silent)).output_format
    assert made is not None
    assert made.before == ""


async def test_the_manifest_may_say_it(make_model: MakeModel) -> None:
    model = make_model(HERMES)
    assert model.chat_template is not None
    model.chat_template.style = AnswerStyle("pythonic", "")
    assert (await told(model, ask(*TOOLS))).answer_style.tool_format == "pythonic"


async def test_forced_arguments_are_held_as_json_schemas_are(make_model: MakeModel) -> None:
    inner = {"type": "object", "properties": {"a": {"type": "integer"}}}
    kinds = {"oneOf": [{"type": "string"}, {"type": "integer"}]}
    tool = pb.Tool(name="t", parameters_json=json.dumps({"type": "object", "properties": {"o": inner, "k": kinds}}))
    forced = (await generation_of(make_model(HERMES), ask(tool, choice=REQUIRED))).output_format
    assert forced is not None
    assert forced.bound_digits
    schema = next(json.loads(line.partition("%json ")[2]) for line in forced.spec.splitlines() if "%json" in line)
    assert schema["properties"]["o"]["additionalProperties"] is False
    assert list(schema["properties"]["k"]) == ["anyOf"]

"""How a request changes what its prompt becomes, and what it is told of it."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from tokenizers import AddedToken

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_engine.simulated.runner import SimulatedOptions, SimulatedRunner
from infermesh_runtime.errors import ContextLengthExceeded, FailedPrecondition, InvalidArgument
from infermesh_worker.models.bad_words import spell_bad_words
from infermesh_worker.models.opened_model import OpenedModel
from infermesh_worker.rpc.convert import to_generation, to_started
from infermesh_worker.rpc.prompts.told_prompt import tell_prompt
from infermesh_worker.rpc.tokenizing import detokenize, tokenize
from infermesh_worker.testing.simulated import SimulatedSettings, opened_model
from infermesh_worker.testing.simulated_engine import build_tokenizer

CONTEXT = 40
INFO = SimulatedRunner(SimulatedOptions(vocab_size=300, context_length=CONTEXT)).info
THINKING = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
    "{% if reasoning_effort %}{{ reasoning_effort }}{% endif %}{% endif %}"
)
MakeModel = Callable[..., OpenedModel]


@pytest.fixture
async def make_model() -> AsyncIterator[MakeModel]:
    """Models with one token for each byte, and the control tokens of ChatML."""
    made: list[OpenedModel] = []

    def make(template: str = "") -> OpenedModel:
        fields = {"sim_chat_template": template} if template else {}
        made.append(opened_model(SimulatedSettings.model_validate(fields)))
        return made[-1]

    yield make
    for model in made:
        model.close()


async def ids_of(model: OpenedModel, context: int = CONTEXT, **fields: Any) -> Sequence[int]:
    request = pb.GenerateRequest(**fields)
    info = replace(INFO, context_length=context)
    return (await to_generation(request, request_id="r", model=model, info=info)).prompt_token_ids


async def told(model: OpenedModel, **fields: Any) -> pb.Started:
    request = pb.GenerateRequest(**fields)
    info = replace(INFO, context_length=1000)
    generation = await to_generation(request, request_id="r", model=model, info=info)
    started = to_started(generation, model, info)
    tell_prompt(started, request, generation, model)
    return started


def chat(*messages: tuple[str, str], **fields: Any) -> pb.ChatPrompt:
    return pb.ChatPrompt(messages=[pb.ChatMessage(role=role, content=text) for role, text in messages], **fields)


async def text_of(model: OpenedModel, prompt: pb.ChatPrompt) -> str:
    answer = await tokenize(pb.TokenizeRequest(chat=prompt), model, replace(INFO, context_length=1000))
    return str(answer.text)


@pytest.mark.parametrize(("wanted", "kept"), [(5, 5), (0, CONTEXT - 9), (39, 39)])
async def test_a_prompt_is_cut_at_its_beginning(make_model: MakeModel, wanted: int, kept: int) -> None:
    text = "".join(chr(97 + i % 26) for i in range(200))
    options = pb.PromptOptions(truncate_tokens=wanted)
    ids = await ids_of(make_model(), text=text, prompt_options=options, stop=pb.StopConditions(max_tokens=9))
    assert bytes(ids).decode() == text[-kept:]
    with pytest.raises(ContextLengthExceeded):
        await ids_of(make_model(), text=text)


async def test_the_prompt_is_told_as_it_was_computed(make_model: MakeModel) -> None:
    options = pb.PromptOptions(return_token_ids=True, return_text=True)
    started = await told(make_model(), text="héllo", prompt_options=options)
    assert (bytes(started.prompt_token_ids).decode(), started.prompt_text) == ("héllo", "héllo")
    cut = pb.PromptOptions(return_text=True, truncate_tokens=2)
    assert (await told(make_model(), text="hello", prompt_options=cut)).prompt_text == "lo"
    plain = await told(make_model(), text="hello")
    assert (plain.prompt_text, list(plain.prompt_token_ids)) == ("", [])


async def test_a_gap_is_filled_by_a_model_that_can(make_model: MakeModel) -> None:
    model, options = make_model(), pb.PromptOptions(suffix="!")
    with pytest.raises(FailedPrecondition, match="cannot fill in gaps") as caught:
        await ids_of(model, text="ab", prompt_options=options)
    assert list(caught.value.fields) == ["prompt_options.suffix"]
    tokenizer = build_tokenizer()
    names = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|fim_pad|>")
    tokenizer.add_tokens([AddedToken(name, special=False) for name in names])
    coder = replace(model, tokenizer=tokenizer)
    before, after, end, pad = (tokenizer.token_to_id(name) for name in names)
    generation = await to_generation(
        pb.GenerateRequest(text="ab", prompt_options=options), request_id="r", model=coder, info=INFO
    )
    assert generation.prompt_token_ids == (before, 97, 98, after, 33, end)
    assert pad in generation.stop.token_ids
    with pytest.raises(InvalidArgument, match="needs the prompt to be a text"):
        await ids_of(coder, chat=chat(("user", "a")), prompt_options=options)


async def test_a_template_gets_the_hints_that_it_takes(make_model: MakeModel) -> None:
    model = make_model(THINKING)
    start = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    hi = ("user", "hi")
    assert await text_of(model, chat(hi)) == start
    assert await text_of(model, chat(hi, reasoning_effort="low", verbosity="high")) == start + "low"
    assert await text_of(model, chat(hi, reasoning_effort="none")) == start + "<think></think>none"
    assert await text_of(model, chat(hi, enable_thinking=False)) == start + "<think></think>"
    kept = chat(hi, reasoning_effort="low", template_kwargs_json='{"reasoning_effort": "max"}')
    assert await text_of(model, kept) == start + "max"


async def test_hints_that_a_template_does_not_take_are_named(make_model: MakeModel) -> None:
    asked = chat(("user", "hi"), reasoning_effort="low", verbosity="high", enable_thinking=True)
    asked.messages.add(role="assistant", content="a", reasoning_content="because")
    thinking = await told(make_model(THINKING), chat=asked)
    assert list(thinking.ignored_fields) == ["chat.verbosity"]
    plain = await told(make_model(), chat=asked)
    assert sorted(plain.ignored_fields) == [
        "chat.enable_thinking",
        "chat.messages[].reasoning_content",
        "chat.reasoning_effort",
        "chat.verbosity",
    ]
    assert "<think>because</think>a" in await text_of(make_model(THINKING), asked)


async def test_the_last_message_can_stay_open(make_model: MakeModel) -> None:
    model = make_model(THINKING)
    prompt = chat(("user", "hi"), ("assistant", "I am "), continue_final_message=True)
    assert (await text_of(model, prompt)).endswith("<|im_start|>assistant\nI am ")
    with pytest.raises(InvalidArgument, match="the assistant's"):
        await text_of(model, chat(("user", "hi"), continue_final_message=True))
    with pytest.raises(InvalidArgument, match="add_generation_prompt"):
        await text_of(model, chat(("assistant", "a"), continue_final_message=True, add_generation_prompt=True))


async def test_an_empty_answer_of_the_assistant_is_rendered(make_model: MakeModel) -> None:
    text = await text_of(make_model(THINKING), chat(("user", "a"), ("assistant", ""), ("user", "b")))
    assert text.count("<|im_start|>assistant\n") == 2


async def test_tokens_there_and_back(make_model: MakeModel) -> None:
    model = make_model()
    answer = await tokenize(pb.TokenizeRequest(text="héy", return_tokens=True), model, INFO)
    assert bytes(answer.token_ids).decode() == "héy"
    assert (len(answer.tokens), answer.context_length, answer.text) == (4, CONTEXT, "héy")
    back = await detokenize(pb.DetokenizeRequest(token_ids=answer.token_ids), model, INFO)
    assert back.text == "héy"
    with pytest.raises(InvalidArgument) as caught:
        await detokenize(pb.DetokenizeRequest(token_ids=[1, 300]), model, INFO)
    assert list(caught.value.fields) == ["token_ids[1]"]
    with pytest.raises(InvalidArgument, match="one of text and chat"):
        await tokenize(pb.TokenizeRequest(), model, INFO)


def test_a_bad_word_is_spelled_inside_a_text_and_after_a_space() -> None:
    tokenizer = build_tokenizer()
    assert spell_bad_words(tokenizer, ["ab"]) == ((97, 98),)
    tokenizer.add_tokens([AddedToken("ab", special=False), AddedToken(" ab", special=False)])
    plain, spaced = (tokenizer.token_to_id(token) for token in ("ab", " ab"))
    assert spell_bad_words(tokenizer, ["ab"]) == ((plain,), (spaced,))


@pytest.mark.parametrize("words", [[" "], ["a"] * 1025])
async def test_bad_words_are_bounded(make_model: MakeModel, words: list[str]) -> None:
    with pytest.raises(InvalidArgument, match="bad_words"):
        await ids_of(make_model(), text="a", sampling=pb.SamplingParams(bad_words=words))

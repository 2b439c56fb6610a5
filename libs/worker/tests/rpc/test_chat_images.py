"""Images of a conversation: who may write their tokens, what stands for them, and how they are refused."""

import io
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_engine.runners.runner import RunnerInfo
from infermesh_runtime.errors import FailedPrecondition, InvalidArgument
from infermesh_runtime.manifest.image_facts import Grid, ImageFacts, Tiles, Whole
from infermesh_worker.images.reader import ImageReader
from infermesh_worker.models.opened_model import OpenedModel, bind_template
from infermesh_worker.rpc.prompts.chat_images import MAX_IMAGES
from infermesh_worker.rpc.prompts.prompt import Prompt, read_prompt
from infermesh_worker.rpc.tokenizing import tokenize
from infermesh_worker.testing.simulated import SimulatedSettings, opened_model

TEMPLATE = (
    "{% for m in messages %}{{ m.role }}:{% for p in m.content %}{% if p.type == 'image' %}<image>"
    "{% else %}{{ p.text }}{% endif %}{% endfor %}<end>{% endfor %}"
)
ONLY_TEXT = "{% for m in messages %}{{ m.role }}:{{ m.content }}<image><end>{% endfor %}"
USERS_ONLY = TEMPLATE.replace("p.type == 'image'", "p.type == 'image' and m.role == 'user'").replace(
    "{% else %}", "{% elif p.type == 'text' %}"
)
TILES = ImageFacts(
    layout=Tiles(longest_edge=32, edge=16, tokens=2),
    written="<image>",
    seen="<image>",
    before="<fake>",
    after="<fake>",
    overview="<all>",
)
GRID = ImageFacts(layout=Grid(edge=4, least_pixels=16, most_pixels=640), written="<image>", seen="<image>")
WHOLE = ImageFacts(layout=Whole(tokens=3), written="<image>", seen="<soft>", before="\n\n<image>", after="<out>\n\n")
FACTS = {"tiles": TILES, "grid": GRID, "whole": WHOLE}
NAMES = ["<end>", "<image>", "<soft>", "<out>", "<fake>", "<all>", "<row_1_col_1>", "<row_1_col_2>"]

MakeModel = Callable[..., OpenedModel]


def file(width: int = 8, height: int = 12) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), (width, height, 0)).save(out, "PNG")
    return out.getvalue()


def tokens() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(NAMES)
    return made


@pytest.fixture
async def make_model() -> AsyncIterator[MakeModel]:
    made: list[OpenedModel] = []

    def make(facts: ImageFacts | None = GRID, template: str = TEMPLATE) -> OpenedModel:
        tokenizer = tokens()
        plain = opened_model(SimulatedSettings.model_validate({}))
        made.append(
            OpenedModel(
                name="m",
                tokenizer=tokenizer,
                chat_template=bind_template(template, tokenizer, model="m", special_tokens={}),
                context_length=512,
                size_bytes=1,
                created=plain.created,
                images=None if facts is None else ImageReader.bind(facts, tokenizer, "m"),
            )
        )
        return made[-1]

    yield make
    for model in made:
        model.close()


def message(*parts: str | bytes, role: str = "user", detail: str = "") -> pb.ChatMessage:
    return pb.ChatMessage(
        role=role,
        parts=[
            pb.ContentPart(text=part)
            if isinstance(part, str)
            else pb.ContentPart(image=pb.Image(data=part, detail=detail))
            for part in parts
        ],
    )


async def read(model: OpenedModel, *messages: pb.ChatMessage, **options: Any) -> Prompt:
    request = pb.GenerateRequest(chat=pb.ChatPrompt(messages=messages, add_generation_prompt=False), **options)
    return await read_prompt(request, model, vocab_size=300, context_length=512)


def text(model: OpenedModel, prompt: Prompt) -> str:
    shown: str = model.tokenizer.decode(list(prompt.token_ids), skip_special_tokens=False)
    return shown


@pytest.mark.parametrize(
    ("layout", "want", "grid"),
    [
        ("tiles", "user:a<fake><all><image><image><fake>b<end>", (0, 0)),
        ("grid", "user:a" + "<image>" * 6 + "b<end>", (3, 2)),
        ("whole", "user:a\n\n<image><soft><soft><soft><out>\n\nb<end>", (0, 0)),
    ],
)
async def test_tokens_stand_for_an_image(make_model: MakeModel, layout: str, want: str, grid: tuple[int, int]) -> None:
    model = make_model(FACTS[layout])
    prompt = await read(model, message("a", file(), "b", detail="low"))
    assert text(model, prompt) == want
    (image,) = prompt.images
    assert image.grid == grid
    seen = model.tokenizer.token_to_id(FACTS[layout].seen)
    where = [position for begin, end in image.spans for position in range(begin, end)]
    assert [index for index, token_id in enumerate(prompt.token_ids) if token_id == seen] == where


async def test_a_wide_image_is_cut_into_tiles(make_model: MakeModel) -> None:
    model = make_model(TILES)
    prompt = await read(model, message(file(32, 16)))
    two = "<image><image>"
    assert text(model, prompt) == (
        f"user:<fake><row_1_col_1>{two}<fake><row_1_col_2>{two}\n\n<fake><all>{two}<fake><end>"
    )
    assert len(prompt.images[0].spans) == 3


async def test_what_users_write_is_never_an_image(make_model: MakeModel) -> None:
    model = make_model()
    image_id = model.tokenizer.token_to_id("<image>")
    for written in ("<image>", "a<image>b", "<ima"):
        parts = (written, file(4, 4), "ge>") if written == "<ima" else (written, file(4, 4))
        prompt = await read(model, message(*parts), message("<image>", role="assistant"))
        assert sum(token_id == image_id for token_id in prompt.token_ids) == 1, written
        assert "<image>" in text(model, prompt).replace("<image>", "", 1)
        ((begin, _),) = prompt.images[0].spans
        assert text(model, Prompt(prompt.token_ids[:begin])) == f"user:{written}"


async def test_images_keep_their_order_and_differ_by_their_content(make_model: MakeModel) -> None:
    model = make_model()
    prompt = await read(model, message("a", file(4, 4), "b", file(8, 4)), message(file(4, 4), role="assistant"))
    assert [image.spans for image in prompt.images] == [((6, 7),), ((8, 10),), ((21, 22),)]
    one, two, three = (image.digest for image in prompt.images)
    assert one == three != two
    assert [image.field for image in prompt.images] == [
        f"chat.messages[{i}].parts[{j}]" for i, j in ((0, 1), (0, 3), (1, 0))
    ]
    closely, whole = [(await read(model, message(file(), detail=detail))).images[0] for detail in ("high", "low")]
    assert (closely.closely, whole.closely) == (True, False)
    assert closely.digest != whole.digest


async def test_tokenize_counts_them(make_model: MakeModel) -> None:
    model = make_model()
    request = pb.TokenizeRequest(chat=pb.ChatPrompt(messages=[message(file())], add_generation_prompt=False))
    info = RunnerInfo(
        device_kind="cpu",
        device_name="",
        memory_total_bytes=0,
        runtime="",
        vocab_size=300,
        context_length=512,
        block_size=4,
        num_blocks=128,
        weights_bytes=0,
    )
    found = await tokenize(request, model, info)
    assert found.text == "user:" + "<image>" * 6 + "<end>"
    assert len(found.token_ids) == 12


REFUSED: Sequence[tuple[dict[str, Any], Sequence[pb.ChatMessage], str, str]] = [
    ({"facts": None}, [message("a"), message("b", file())], "chat.messages[1].parts[1]", "takes no images"),
    ({}, [message("a", b"nothing")], "chat.messages[0].parts[1]", "no image file"),
    ({}, [message(file(), detail="best")], "chat.messages[0].parts[0].image.detail", "low, high and auto"),
    ({}, [message(file(1, 900))], "chat.messages[0].parts[0]", "at most 200 times"),
    ({}, [message(*[file()] * (MAX_IMAGES + 1))], f"chat.messages[0].parts[{MAX_IMAGES}]", "at most 64 images"),
    ({}, [pb.ChatMessage(role="user", parts=[pb.ContentPart()])], "chat.messages[0].parts[0]", "must have a text"),
    ({}, [message("a", "")], "chat.messages[0].parts[1]", "must have a text"),
    (
        {},
        [pb.ChatMessage(role="user", content="a", parts=[pb.ContentPart(text="b")])],
        "chat.messages[0].parts",
        "must be empty when content",
    ),
    ({"template": ONLY_TEXT}, [message(file())], "chat.messages", "takes only text"),
    (
        {"template": USERS_ONLY},
        [message(file()), message("b", file(), role="assistant")],
        "chat.messages",
        "1 images of the 2",
    ),
]


@pytest.mark.parametrize(("made", "messages", "field", "problem"), REFUSED, ids=range(len(REFUSED)))
async def test_refusals_name_the_part(
    make_model: MakeModel, made: dict[str, Any], messages: Sequence[pb.ChatMessage], field: str, problem: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await read(make_model(**made), *messages)
    assert problem in caught.value.fields[field]


async def test_texts_in_parts_reach_any_model(make_model: MakeModel) -> None:
    model = make_model(None)
    assert text(model, await read(model, message("a", "b"))) == "user:ab<end>"


async def test_a_prompt_with_images_is_not_cut(make_model: MakeModel) -> None:
    model = make_model()
    whole = await read(model, message("a", file()), prompt_options=pb.PromptOptions(truncate_tokens=400))
    assert len(whole.images) == 1
    with pytest.raises(InvalidArgument, match="cannot cut"):
        await read(model, message("a", file()), prompt_options=pb.PromptOptions(truncate_tokens=5))
    with pytest.raises(InvalidArgument, match="cannot be given for a conversation"):
        await read(model, message("a", file()), prompt_options=pb.PromptOptions(logprobs=1))


def test_a_tokenizer_without_the_tokens_is_refused() -> None:
    lacking = Tokenizer(models.BPE(vocab={"a": 0}, merges=[]))
    with pytest.raises(FailedPrecondition, match="has no token '<image>'"):
        ImageReader.bind(GRID, lacking, "m")

"""Vision-language models give the tokens of transformers' generate, however prompts are cut, cached or batched."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from infermesh_engine.requests.output import Delta
from infermesh_engine.requests.request import GenerationRequest
from infermesh_runtime.errors import FailedPrecondition
from infermesh_runtime.manifest.model_manifest import read_manifest
from infermesh_worker.models.model_folder import ModelFolder
from infermesh_worker.models.opened_model import OpenedModel
from infermesh_worker.testing.harness import Harness
from infermesh_worker_xpu import device as devices
from infermesh_worker_xpu.attention.sdpa import SdpaKernels
from infermesh_worker_xpu.build_model import build_model
from infermesh_worker_xpu.execution.runner import RunnerFacts, TorchRunner
from infermesh_worker_xpu.loading import weights
from infermesh_worker_xpu.options import TorchOptions
from infermesh_worker_xpu.vision.tower import VisionTower, open_tower
from tests.vision_models.families import picture, save
from tests.vision_models.pair import Pair, Part

ONE, TWO, WIDE = picture(1), picture(2), picture(3, 61, 18, "JPEG")
PROMPTS: dict[str, Sequence[Part]] = {
    "first": (ONE, "What is it?"),
    "between": ("Look at ", ONE, " and say what it is."),
    "last": ("What is it?", TWO),
    "two": ("Here ", ONE, " and here ", WIDE, " you see"),
    "next to each other": (TWO, ONE, "same?"),
    "none": ("Nothing to see here.",),
}
BEFORE = "A text before it. "
"""Places the image across the end of the first KV block, whichever the family."""


def make_pair(family: str, root: Path) -> Pair:
    folder = root / family
    folder.mkdir()
    reference, process = save(family, folder)
    options = {"folder": str(folder), "device": "cpu", "numerics": "exact", "kv_cache_bytes": 8 << 20, "threads": 1}
    opened = OpenedModel.from_folder(ModelFolder.open(folder), {}, takes_images=True)
    return Pair(folder, reference, process, build_model(options), opened)


@pytest.fixture(scope="module", params=["smolvlm", "qwen2_5_vl", "gemma3"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    made = make_pair(request.param, tmp_path_factory.mktemp("vision"))
    yield made
    made.built.runner.close()


def test_idefics3_too(tmp_path: Path) -> None:
    """The first SmolVLMs are of this type."""
    made = make_pair("idefics3", tmp_path)
    request = made.request("r", *PROMPTS["two"])
    prompt, answer = made.expected(*PROMPTS["two"])
    assert list(request.prompt_token_ids) == prompt
    assert made.run(made.harness(), request)["r"][0] == answer


@pytest.mark.parametrize("name", PROMPTS)
def test_tokens_are_those_of_generate(pair: Pair, name: str) -> None:
    request = pair.request("r", *PROMPTS[name])
    prompt, answer = pair.expected(*PROMPTS[name])
    assert list(request.prompt_token_ids) == prompt
    assert pair.run(pair.harness(), request)["r"][0] == answer


def test_the_answer_depends_on_the_image(pair: Pair) -> None:
    answers = {pair.run(pair.harness(), pair.request("r", "a ", image))["r"][0] for image in (ONE, TWO, WIDE)}
    assert len(answers) == 3


def test_prompts_that_are_cut_and_batched_give_the_same(pair: Pair) -> None:
    requests = [pair.request(name, *parts) for name, parts in PROMPTS.items()]
    found = pair.run(pair.harness(max_batched_tokens=23, max_sequences=4), *requests)
    assert {name: tokens for name, (tokens, _) in found.items()} == {
        name: pair.expected(*parts)[1] for name, parts in PROMPTS.items()
    }


def test_each_image_is_looked_at_once(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    look = VisionTower._look

    def noted(self: VisionTower, tensors: dict[str, object]) -> object:
        looks.append(len(tensors))
        return look(self, tensors)  # type: ignore[arg-type] # as given

    monkeypatch.setattr(VisionTower, "_look", noted)
    request = pair.request("r", *PROMPTS["two"])
    harness = pair.harness(max_batched_tokens=17, max_sequences=2)
    harness.engine.submit(request)
    (sequence,) = harness.engine._scheduler._waiting
    assert sequence.images is not None
    while harness.engine.has_work:
        harness.engine.step()
    assert len(looks) == 2
    assert [(held.features, held.pixels) for held in sequence.images.held] == [(None, None)] * 2


def test_an_image_is_cached_for_its_like_alone(pair: Pair) -> None:
    harness = pair.harness()
    first = pair.request("first", BEFORE, ONE, " What is it, and what is it not?")
    again = pair.request("again", BEFORE, ONE, " What is it, and what is it not?")
    other = pair.request("other", BEFORE, TWO, " What is it, and what is it not?")
    assert first.prompt_token_ids == other.prompt_token_ids
    assert first.images[0].spans[0][0] < 32 < first.images[-1].spans[-1][1]  # the image crosses the first block's end
    answer = pair.run(harness, first)["first"][0]
    assert answer == pair.expected(BEFORE, ONE, " What is it, and what is it not?")[1]
    found, cached = pair.run(harness, again)["again"]
    assert found == answer
    assert cached >= 32
    found, cached = pair.run(harness, other)["other"]
    assert found == pair.expected(BEFORE, TWO, " What is it, and what is it not?")[1] != answer
    assert cached == 0


def test_a_preempted_sequence_looks_again(pair: Pair) -> None:
    harness = pair.harness(prefix_caching=False)
    requests = [pair.request(str(index), *PROMPTS["two"]) for index in range(2)]
    blocks = -(-len(requests[0].prompt_token_ids) // 32)
    harness.engine._cache.pool.resize(2 * blocks + 1)  # room for both prompts and one more block
    long = [_longer(request) for request in requests]
    alone = pair.run(pair.harness(), long[0])["0"][0]
    found = pair.run(harness, *long)
    assert harness.engine.load().preemptions > 0
    assert [tokens for tokens, _ in found.values()] == [alone, alone]


def _longer(request: GenerationRequest) -> GenerationRequest:
    return replace(request, stop=replace(request.stop, max_tokens=32))


def test_choices_share_what_was_seen(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The image is looked at once, though it ends in a block that each choice computes itself."""
    looks = []
    look = VisionTower._look

    def noted(self: VisionTower, tensors: dict[str, object]) -> object:
        looks.append(len(tensors))
        return look(self, tensors)  # type: ignore[arg-type] # as given

    monkeypatch.setattr(VisionTower, "_look", noted)
    request = pair.request("r", *PROMPTS["two"], n=2)
    choices: dict[int, tuple[int, ...]] = {0: (), 1: ()}
    for output in pair.harness().run(request):
        if isinstance(output, Delta):
            choices[output.choice] += output.token_ids
    assert len(looks) == 2
    assert choices[0] == choices[1] == pair.expected(*PROMPTS["two"])[1]


def test_the_largest_image_can_be_rehearsed(pair: Pair) -> None:
    facts = read_manifest(pair.folder).images
    assert facts is not None
    tower = open_tower(pair.reference, pair.folder, facts, max_batched_tokens=64)
    largest = {"smolvlm": 4 * 5, "qwen2_5_vl": 36, "gemma3": 16}
    assert tower.rehearse(512) == largest[pair.folder.name]


def test_a_step_that_cannot_hold_an_image_is_refused_at_load(pair: Pair) -> None:
    facts = read_manifest(pair.folder).images
    assert facts is not None
    if pair.folder.name == "gemma3":
        with pytest.raises(FailedPrecondition, match=r"INFERMESH_MAX_BATCHED_TOKENS is 15\. Raise it"):
            open_tower(pair.reference, pair.folder, facts, max_batched_tokens=15)
    else:
        open_tower(pair.reference, pair.folder, facts, max_batched_tokens=15)


def test_quantising_leaves_the_vision_model_alone(pair: Pair) -> None:
    pytest.importorskip("torchao")
    options = TorchOptions(device="cpu", dtype="fp32", quantisation="int8", threads=1)
    model: Any = weights.load(pair.folder, devices.select("cpu", 0), torch.float32, options, sees=True)
    linears = {name: each for name, each in model.named_modules() if isinstance(each, torch.nn.Linear)}
    quantised = {name for name, each in linears.items() if type(each.weight) is not torch.nn.Parameter}
    assert quantised
    assert not any("vis" in name or "connector" in name for name in quantised)


def test_a_stream_continues_elsewhere(pair: Pair) -> None:
    whole = pair.run(pair.harness(), pair.request("r", *PROMPTS["two"]))["r"][0]
    rest = pair.run(pair.harness(), pair.request("r", *PROMPTS["two"], generated=whole[:5]))["r"][0]
    assert rest == whole[5:]


def test_captured_steps_and_sampling_on_the_device_give_the_same(pair: Pair, eager_graph: type[Any]) -> None:
    """The step with an image runs without a graph; decodes after it replay theirs, at their own rotary positions."""
    options = TorchOptions(
        device="cpu",
        dtype="fp32",
        sampling="device",
        kv_cache_bytes=8 << 20,
        context_length=512,
        max_sequences=4,
        max_batched_tokens=64,
        threads=1,
    )
    device, facts = devices.select("cpu", 0), read_manifest(pair.folder).images
    assert facts is not None
    model = weights.load(pair.folder, device, torch.float32, options, sees=True)
    made: list[Any] = []

    def make_graph() -> Any:
        made.append(eager_graph())
        return made[-1]

    runner = TorchRunner(
        model,
        device,
        SdpaKernels(),
        options,
        RunnerFacts("sdpa", 1),
        new_pool=lambda: make_graph,
        vision=open_tower(model, pair.folder, facts, max_batched_tokens=64),
    )
    harness = Harness(replace(pair.built, runner=runner), max_batched_tokens=64, max_sequences=4)
    for graph in made:
        graph.replays = 0
    names = ["two", "none", "first"]
    found = pair.run(harness, *(pair.request(name, *PROMPTS[name]) for name in names))
    assert {name: found[name][0] for name in names} == {name: pair.expected(*PROMPTS[name])[1] for name in names}
    assert sum(graph.replays for graph in made) > 3
    runner.close()

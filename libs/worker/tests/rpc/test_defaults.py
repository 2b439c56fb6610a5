"""What a request does not say about sampling, its model does."""

from dataclasses import replace
from typing import Any

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_engine.requests import request as engine
from infermesh_engine.simulated.runner import SimulatedOptions, SimulatedRunner
from infermesh_runtime.manifest.generation_defaults import GenerationDefaults
from infermesh_worker.models.neutral_catalog import NeutralCatalog
from infermesh_worker.models.opened_model import OpenedModel
from infermesh_worker.rpc.convert import to_generation, to_started
from infermesh_worker.testing.simulated import SimulatedCatalog, SimulatedSettings, opened_model

SETTINGS = SimulatedSettings.model_validate({})
PLAIN = opened_model(SETTINGS)
MODEL = replace(PLAIN, generation=GenerationDefaults(temperature=0.25, top_p=0.5, top_k=7, max_new_tokens=33))
INFO = SimulatedRunner(SimulatedOptions(vocab_size=259, context_length=99)).info


async def convert(model: OpenedModel, **given: Any) -> engine.GenerationRequest:
    return await to_generation(pb.GenerateRequest(text="ab", **given), request_id="r", model=model, info=INFO)


async def test_request_that_says_nothing_gets_the_models_defaults() -> None:
    generation = await convert(MODEL)
    assert generation.sampling == engine.SamplingParams(temperature=0.25, top_p=0.5, top_k=7)
    assert generation.stop.max_tokens == 33


async def test_what_the_request_says_counts() -> None:
    sampling = pb.SamplingParams(temperature=0, top_k=0, logit_bias={4: 1})
    generation = await convert(MODEL, sampling=sampling, stop=pb.StopConditions(max_tokens=5))
    assert generation.sampling == engine.SamplingParams(temperature=0, top_p=0.5, logit_bias={4: 1})
    assert generation.stop.max_tokens == 5


async def test_model_without_defaults_has_the_contracts() -> None:
    generation = await convert(PLAIN)
    assert (generation.sampling, generation.stop.max_tokens) == (engine.SamplingParams(), None)


async def test_started_says_all_that_is_in_use() -> None:
    in_use = to_started(await convert(MODEL), MODEL, INFO).in_use
    assert {field.name for field, _ in in_use.sampling.ListFields()} == {
        *(field.name for field in pb.SamplingParams.DESCRIPTOR.fields),
    } - {"logit_bias", "allowed_token_ids", "bad_words"}
    assert (in_use.sampling.temperature, in_use.sampling.min_p, in_use.max_tokens) == (0.25, 0, 33)
    assert not to_started(await convert(PLAIN), PLAIN, INFO).in_use.HasField("max_tokens")


async def test_what_is_in_use_asks_another_worker_for_the_same() -> None:
    first = await convert(MODEL)
    in_use = to_started(first, MODEL, INFO).in_use
    other = replace(PLAIN, generation=GenerationDefaults(temperature=2.0, min_p=0.5))
    assert (await convert(other, sampling=in_use.sampling)).sampling == first.sampling


class Catalog(SimulatedCatalog):
    """Models with defaults."""

    def open(self, name: str) -> OpenedModel:
        return replace(super().open(name), generation=MODEL.generation)


def test_neutral_catalog_has_no_defaults() -> None:
    catalog = Catalog(SETTINGS)
    assert catalog.open("simulated").generation is not None
    neutral = NeutralCatalog(catalog)
    assert neutral.open("simulated").generation is None
    assert neutral.entries().keys() == catalog.entries().keys()

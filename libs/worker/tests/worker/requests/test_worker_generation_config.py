"""INFERMESH_GENERATION_CONFIG decides, from the setting to the tokens, how a request that says nothing is sampled."""

from typing import Any

import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1.inference_pb2_grpc import InferenceServiceStub
from infermesh_worker.testing.processes import connected, simulated_worker_process

LENGTH = pb.StopConditions(max_tokens=6)


async def ask(stub: InferenceServiceStub, **sampling: Any) -> tuple[float, list[int]]:
    """The temperature in use, and the tokens."""
    given = pb.SamplingParams(**sampling) if sampling else None
    request = pb.GenerateRequest(text="Once", seed=11, stop=LENGTH, sampling=given)
    events = [event async for event in stub.Generate(request, timeout=30)]
    tokens = [token for event in events for token in event.delta.token_ids]
    return events[0].started.in_use.sampling.temperature, tokens


@pytest.mark.parametrize(("setting", "temperature"), [({}, 0), ({"generation_config": "neutral"}, 1)], ids=str)
async def test_the_setting_decides_about_the_tokens(setting: dict[str, Any], temperature: int) -> None:
    async with simulated_worker_process(sim_temperature=0, sim_itl_s=0, sim_slope_s=0, **setting) as process:
        await process.ready()
        async with connected(process) as stubs:
            (listed,) = (await stubs.report()).available
            assert listed.HasField("defaults") == (not setting)
            in_use, tokens = await ask(stubs.inference)
            greedy, drawn = [await ask(stubs.inference, temperature=value) for value in (0, 1)]
            assert in_use == temperature
            assert tokens == (greedy, drawn)[temperature][1]
            assert greedy[1] != drawn[1]

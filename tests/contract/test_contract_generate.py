"""Generate streams `started`, deltas and a `finished` for each choice, whether a worker or a router serves it."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterable
from typing import Any

import grpc
import numpy as np
import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_runtime.tensors import from_numpy
from tests.contract.target import MODEL, Target

SETTLE_S = 10

pytestmark = pytest.mark.asyncio(loop_scope="session")


def ask(text: str = "hello", **fields: Any) -> pb.GenerateRequest:
    stop = fields.pop("stop", pb.StopConditions(max_tokens=5))
    return pb.GenerateRequest(text=text, stop=stop, **fields)


async def read(call: AsyncIterable[pb.GenerateResponse]) -> list[pb.GenerateResponse]:
    return [event async for event in call]


def deltas_by_choice(events: list[pb.GenerateResponse]) -> dict[int, list[pb.Delta]]:
    found: dict[int, list[pb.Delta]] = defaultdict(list)
    for event in events:
        if event.HasField("delta"):
            found[event.delta.choice].append(event.delta)
    return found


def finished_by_choice(events: list[pb.GenerateResponse]) -> dict[int, list[pb.Finished]]:
    found: dict[int, list[pb.Finished]] = defaultdict(list)
    for event in events:
        if event.HasField("finished"):
            found[event.finished.choice].append(event.finished)
    return found


@pytest.mark.parametrize("n", [1, 3])
async def test_the_shape_of_the_stream(target: Target, n: int) -> None:
    events = await read(target.stub.Generate(ask(n=n)))
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds[0] == "started"
    assert Counter(kinds)["started"] == 1
    assert None not in kinds
    finished = finished_by_choice(events)
    assert sorted(finished) == list(range(n))
    assert all(len(ends) == 1 for ends in finished.values())
    for choice, deltas in deltas_by_choice(events).items():
        assert sum(len(delta.token_ids) for delta in deltas) == 5 == finished[choice][0].usage.completion_tokens
        assert finished[choice][0].finish_reason == pb.FINISH_REASON_LENGTH
        assert not any(delta.logprobs for delta in deltas)


@pytest.mark.parametrize("n", [1, 3])
async def test_nothing_follows_a_finished_choice(target: Target, n: int) -> None:
    ended: set[int] = set()
    for event in (await read(target.stub.Generate(ask(n=n))))[1:]:
        choice = event.finished.choice if event.HasField("finished") else event.delta.choice
        assert choice not in ended
        if event.HasField("finished"):
            ended.add(choice)


async def test_started_names_who_serves(target: Target) -> None:
    started = (await read(target.stub.Generate(ask(seed=7))))[0].started
    assert (started.model, started.device, started.prompt_tokens, started.seed) == (MODEL, pb.DEVICE_KIND_CPU, 5, 7)
    if target.name == "router":
        assert started.endpoint == target.worker_address
        assert started.reason
    else:
        assert (started.endpoint, started.reason) == ("", "")


async def test_the_prompt_is_counted_once(target: Target) -> None:
    finished = finished_by_choice(await read(target.stub.Generate(ask("hello", n=2))))
    assert [finished[choice][0].usage.prompt_tokens for choice in (0, 1)] == [5, 0]
    assert not any(ends[0].failovers for ends in finished.values())


@pytest.mark.parametrize("device", ["", "auto", "cpu"])
@pytest.mark.parametrize("model", ["", MODEL])
async def test_model_and_device_can_be_named_or_left_out(target: Target, model: str, device: str) -> None:
    events = await read(target.stub.Generate(ask(model=model, device=device)))
    assert events[0].started.model == MODEL


async def test_the_same_seed_gives_the_same_tokens(target: Target) -> None:
    async def tokens(seed: int) -> list[int]:
        request = ask(seed=seed, stop=pb.StopConditions(max_tokens=20, ignore_eos=True))
        events = await read(target.stub.Generate(request))
        return [token for delta in deltas_by_choice(events)[0] for token in delta.token_ids]

    first, again, other = await asyncio.gather(tokens(1), tokens(1), tokens(2))
    assert first == again != other


async def test_a_seed_is_drawn_when_there_is_none(target: Target) -> None:
    requests = [read(target.stub.Generate(ask())) for _ in range(3)]
    assert len({events[0].started.seed for events in await asyncio.gather(*requests)}) == 3


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
async def test_token_ids_are_the_same_prompt_as_their_text(target: Target, dtype: type[np.integer[Any]]) -> None:
    greedy = pb.SamplingParams(temperature=0)
    ids = from_numpy(np.frombuffer(b"hello", np.uint8).astype(dtype))
    by_ids = pb.GenerateRequest(token_ids=ids, stop=pb.StopConditions(max_tokens=5), sampling=greedy)
    got = await asyncio.gather(*(read(target.stub.Generate(r)) for r in (by_ids, ask("hello", sampling=greedy))))
    texts = ["".join(delta.text for delta in deltas_by_choice(events)[0]) for events in got]
    assert texts[0] == texts[1]


async def test_a_chat_is_rendered(target: Target) -> None:
    chat = pb.ChatPrompt(messages=[pb.ChatMessage(role="user", content="hi")])
    request = pb.GenerateRequest(chat=chat, stop=pb.StopConditions(max_tokens=1))
    assert (await read(target.stub.Generate(request)))[0].started.prompt_tokens > len("hi")


@pytest.mark.parametrize("top", [0, 3, 20])
async def test_logprobs_come_with_every_token(target: Target, top: int) -> None:
    events = await read(target.stub.Generate(ask(logprobs=pb.LogprobsOptions(top=top))))
    for delta in deltas_by_choice(events)[0]:
        assert [entry.token_id for entry in delta.logprobs] == list(delta.token_ids)
        for entry in delta.logprobs:
            assert entry.logprob <= 0
            assert len(entry.top) == top
            assert [t.logprob for t in entry.top] == sorted((t.logprob for t in entry.top), reverse=True)


async def test_the_output_has_the_format_asked_for(target: Target) -> None:
    request = ask(format=pb.OutputFormat(regex="[ab]{3}c"), stop=pb.StopConditions(max_tokens=20))
    events = await read(target.stub.Generate(request))
    text = "".join(delta.text for delta in deltas_by_choice(events)[0])
    assert len(text) == 4
    assert set(text[:3]) <= {"a", "b"}
    assert text[3] == "c"
    assert finished_by_choice(events)[0][0].finish_reason == pb.FINISH_REASON_STOP


async def test_a_continuation_resumes_where_the_stream_was_cut(target: Target) -> None:
    stop = pb.StopConditions(max_tokens=12, ignore_eos=True)
    request = ask(seed=3, stop=stop)
    whole = deltas_by_choice(await read(target.stub.Generate(request)))[0]
    tokens = [token for delta in whole for token in delta.token_ids]
    request.generated.add(choice=0, token_ids=tokens[:7])
    events = await read(target.stub.Generate(request))
    rest = [token for delta in deltas_by_choice(events)[0] for token in delta.token_ids]
    assert rest == tokens[7:]
    assert finished_by_choice(events)[0][0].usage.completion_tokens == 12


async def test_a_cancel_frees_the_sequence(target: Target) -> None:
    call = target.stub.Generate(ask(stop=pb.StopConditions(max_tokens=400, ignore_eos=True)))
    await call.read()
    watch = target.stub.WatchHealth(pb.WatchHealthRequest(min_interval_ms=1))
    async with asyncio.timeout(SETTLE_S):
        async for health in watch:
            if health.report.load.running:
                call.cancel()
            elif call.cancelled():
                break
    watch.cancel()
    assert await call.code() is grpc.StatusCode.CANCELLED


async def test_a_deadline_ends_the_stream(target: Target) -> None:
    call = target.stub.Generate(ask(stop=pb.StopConditions(max_tokens=400, ignore_eos=True)), timeout=0.1)
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await read(call)
    assert ended.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED

"""A stream that fails at any event gives the client what it would have got undisturbed."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1 import inference_pb2_grpc as pb_grpc
from infermesh_router.testing.router import RunningRouter, running_router
from infermesh_worker.testing.faulty import Fault, FaultKind, FaultyWorker

SETTINGS: dict[str, Any] = {
    "stall_timeout_s": 0.6,
    "first_token_timeout_s": 0.6,
    "first_token_timeout_max_s": 0.6,
    "stall_timeout_max_s": 20.0,
    "attempts": 20,
    "poison_s": 0,  # the same request meets crashed engines again and again here
    "stall_gaps": 2,
    "max_failovers": 50,
    "retry_ratio": 10,
    "breaker_failures": 1_000_000,
    "breaker_failure_rate": 1.0,
}
PATIENT: dict[str, Any] = {"stall_timeout_s": 20.0, "first_token_timeout_s": 20.0, "first_token_timeout_max_s": 20.0}
"""For tests in which nothing is silent."""
CONCURRENT = 24
REASONS = {
    FaultKind.CRASH: "ENGINE_CRASHED",
    FaultKind.INTERNAL: "INTERNAL",
    FaultKind.END: "STREAM_CUT",
    FaultKind.SILENCE: "STREAM_SILENT",
    FaultKind.MALFORMED: "MALFORMED_MESSAGE",
}
SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"a": {"type": "integer", "maximum": 99}, "b": {"enum": ["x", "yy"]}},
        "required": ["a", "b"],
        "additionalProperties": False,
    }
)


def ask(max_tokens: int = 14, **fields: Any) -> pb.GenerateRequest:
    stop = pb.StopConditions(max_tokens=max_tokens, **fields.pop("stop", {}))
    return pb.GenerateRequest(model="simulated", text="Once upon", stop=stop, **{"seed": 5, **fields})


def letters(stop: Sequence[str] = (), count: int = 24) -> pb.GenerateRequest:
    constraint = pb.OutputFormat(regex=f"[ab]{{{count}}}")
    return ask(count + 4, format=constraint, stop={"strings": stop})


VARIANTS = {
    "bytes, cut by max_tokens": ask(),
    "greedy": ask(sampling=pb.SamplingParams(temperature=0)),
    "seed and temperature": ask(seed=11, sampling=pb.SamplingParams(temperature=1.7, top_p=0.95, top_k=40)),
    "penalties": ask(
        sampling=pb.SamplingParams(repetition_penalty=1.4, presence_penalty=0.7, frequency_penalty=0.5),
        format=pb.OutputFormat(regex="[a-f]{13}"),
    ),
    "stop string": letters(["abb", "bab", "aaaa"]),
    "stop string that begins but does not complete": letters(["ab" * 7, "ba" * 9], count=14),
    "characters of several bytes": ask(24, format=pb.OutputFormat(regex="[äß€😀]{5}")),
    "logprobs": ask(10, logprobs=pb.LogprobsOptions(top=3)),
    "three choices": ask(9, n=3, logprobs=pb.LogprobsOptions(top=1)),
    "three choices of different lengths": ask(16, n=3, format=pb.OutputFormat(regex="[ab]{1,9}c")),
    "JSON schema": ask(40, format=pb.OutputFormat(json_schema=SCHEMA)),
    "minimum": ask(12, stop={"min_tokens": 9, "token_ids": list(range(128))}),
}


@dataclass
class Choice:
    """Everything that a client received of one choice."""

    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[pb.TokenLogprob] = field(default_factory=list)
    finished: list[tuple[object, ...]] = field(default_factory=list)


@dataclass
class Answer:
    """Everything that a client received."""

    choices: dict[int, Choice] = field(default_factory=dict)
    events: int = 0
    """Tokens and ends of choices."""
    started: list[pb.Started] = field(default_factory=list)
    failovers: list[pb.Failover] = field(default_factory=list)

    def take(self, event: pb.GenerateResponse) -> None:
        if event.HasField("started"):
            self.started.append(event.started)
            return
        self.events += max(1, len(event.delta.token_ids))  # a busy machine merges deltas of one token each
        if event.HasField("delta"):
            delta, choice = event.delta, self._open_choice(event.delta.choice)
            choice.text += delta.text
            choice.token_ids += delta.token_ids
            choice.logprobs += delta.logprobs
        else:
            finished, choice = event.finished, self._open_choice(event.finished.choice)
            usage = (finished.usage.prompt_tokens, finished.usage.completion_tokens, finished.usage.cached_tokens)
            choice.finished.append((finished.finish_reason, finished.stop, usage))
            self.failovers = list(finished.failovers)

    def _open_choice(self, index: int) -> Choice:
        choice = self.choices.setdefault(index, Choice())
        assert not choice.finished, "an event after the choice's end"
        return choice


async def generate(
    router: RunningRouter,
    request: pb.GenerateRequest,
    request_id: str,
    watch: Callable[[Answer], None] = lambda _: None,
) -> Answer:
    """Reads the whole answer; `watch` is called with it after each event."""
    answer = Answer()
    metadata = (("x-request-id", request_id),)
    async for event in pb_grpc.InferenceServiceStub(router.channel).Generate(request, metadata=metadata, timeout=60):
        answer.take(event)
        watch(answer)
    return answer


@asynccontextmanager
async def two_workers(**settings: Any) -> AsyncIterator[tuple[RunningRouter, dict[str, Fault], list[FaultyWorker]]]:
    faults: dict[str, Fault] = {}
    workers = [FaultyWorker(faults) for _ in range(2)]
    for worker in workers:
        await worker.start()
    try:
        async with running_router(*(worker.address for worker in workers), **{**SETTINGS, **settings}) as router:
            yield router, faults, workers
    finally:
        for worker in workers:
            await worker.stop()


async def check(
    router: RunningRouter, faults: dict[str, Fault], request: pb.GenerateRequest, whole: Answer, fault: Fault
) -> None:
    """Checks that a stream with a fault equals the undisturbed one and reports that it moved."""
    request_id = f"{fault.kind}-{fault.events}"
    faults[request_id] = fault
    answer = await generate(router, request, request_id)
    assert request_id not in faults, "the fault did not happen"
    assert answer.choices == whole.choices, fault
    assert len(answer.started) == 1
    if 0 < fault.events < whole.events:
        moved = [failover.reason for failover in answer.failovers]
        assert REASONS[fault.kind] in moved, (fault, moved)
        assert answer.failovers[0].from_endpoint == answer.started[0].endpoint


async def check_at_each_event(request: pb.GenerateRequest, kinds: Iterable[FaultKind], **settings: Any) -> None:
    """Checks a stream with a fault of each kind at each of its events."""
    async with two_workers(**settings) as (router, faults, _):
        whole = await generate(router, request, "undisturbed")
        assert all(choice.finished for choice in whole.choices.values())
        turns = asyncio.Semaphore(CONCURRENT)

        async def one(fault: Fault) -> None:
            async with turns:
                await check(router, faults, request, whole, fault)

        async with asyncio.TaskGroup() as group:
            for kind, index in itertools.product(kinds, range(whole.events + 1)):
                group.create_task(one(Fault(kind, index)))


@pytest.mark.parametrize("variant", VARIANTS)
async def test_a_fault_at_any_event_changes_nothing(variant: str) -> None:
    loud = [kind for kind in FaultKind if kind is not FaultKind.SILENCE]
    await check_at_each_event(VARIANTS[variant], loud, **PATIENT)


@pytest.mark.alone  # a stream counts as silent after 0.6 s
@pytest.mark.parametrize("variant", VARIANTS)
async def test_silence_at_any_event_changes_nothing(variant: str) -> None:
    await check_at_each_event(VARIANTS[variant], [FaultKind.SILENCE])


@pytest.mark.parametrize("variant", VARIANTS)
async def test_a_fault_between_guesses_changes_nothing(variant: str) -> None:
    """Workers that guess tokens ahead, most of them right, give what they give without, wherever a stream fails."""
    async with two_workers(**PATIENT) as (router, faults, workers):
        whole = await generate(router, VARIANTS[variant], "undisturbed")
        for worker in workers:
            worker.guesses = 4
        longest = max((choice.token_ids for choice in whole.choices.values()), key=len)
        guess = [token + (place % 6 == 5) for place, token in enumerate(longest)]
        request = pb.GenerateRequest()
        request.CopyFrom(VARIANTS[variant])
        request.prediction.token_ids.extend(guess)
        assert (await generate(router, request, "told")).choices == whole.choices
        assert sum(worker.right_guesses for worker in workers) > 0
        async with asyncio.TaskGroup() as group:
            for index in range(whole.events + 1):
                group.create_task(check(router, faults, request, whole, Fault(FaultKind.CRASH, index)))


@pytest.mark.parametrize("variant", ["stop string", "three choices"])
async def test_a_connection_cut_at_any_event_changes_nothing(variant: str) -> None:
    request = VARIANTS[variant]
    async with two_workers(**PATIENT) as (router, faults, workers):
        by_address = {worker.address: worker for worker in workers}
        whole = await generate(router, request, "undisturbed")

        async def cut_after(index: int) -> Answer:
            request_id = f"cut-{index}"
            faults[request_id] = Fault(FaultKind.SILENCE, index)

            def watch(answer: Answer) -> None:
                if answer.events == index:
                    by_address[answer.started[0].endpoint].link.cut()

            return await generate(router, request, request_id, watch)

        for index in range(1, whole.events + 1):
            await router.endpoints_when(lambda listed: all(endpoint.connected for endpoint in listed))
            answer = await cut_after(index)
            assert answer.choices == whole.choices
            assert index == whole.events or [moved.reason for moved in answer.failovers] == ["STREAM_CUT"]


@pytest.mark.alone  # same
async def test_a_stream_that_fails_twice_fails_where_the_test_says() -> None:
    """Faults count the events that the client has, so that a slow machine, which moves a stream early, changes none."""
    request = VARIANTS["greedy"]
    async with two_workers() as (router, faults, _):
        whole = await generate(router, request, "undisturbed")
        faults["twice"] = Fault(FaultKind.SILENCE, 5)

        def fail_again(answer: Answer) -> None:
            if answer.events == 5:
                faults["twice"] = Fault(FaultKind.CRASH, whole.events - 2)

        answer = await generate(router, request, "twice", fail_again)
        assert answer.choices == whole.choices
        assert {"STREAM_SILENT", "ENGINE_CRASHED"} <= {moved.reason for moved in answer.failovers}
        assert not faults

"""A worker that guesses tokens ahead: the same answers in fewer steps, and what it tells of that."""

from typing import Any

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_worker.testing.processes import connected, simulated_worker_process

SETTINGS: dict[str, Any] = {"model": "m", "sim_itl_s": 0.002, "sim_checks_drafts": True}


def request(**fields: Any) -> pb.GenerateRequest:
    return pb.GenerateRequest(text="hello there", stop=pb.StopConditions(max_tokens=40), n=2, seed=5, **fields)


async def ask(stubs: Any, asked: pb.GenerateRequest) -> tuple[list[list[int]], list[pb.Finished], int]:
    """The tokens and the end of each choice, and the number of deltas."""
    tokens: list[list[int]] = [[], []]
    ends, deltas = [], 0
    async for event in stubs.inference.Generate(asked):
        if event.HasField("delta"):
            tokens[event.delta.choice].extend(event.delta.token_ids)
            deltas += 1
        elif event.HasField("finished"):
            ends.append(event.finished)
    return tokens, sorted(ends, key=lambda end: end.choice), deltas


async def test_a_prediction_makes_the_same_answer_in_fewer_deltas() -> None:
    async with simulated_worker_process(**SETTINGS) as worker, connected(worker) as stubs:
        expected, ends, _ = await ask(stubs, request())
        assert ends[0].usage.accepted_prediction_tokens == 0
        told = request(prediction=pb.Prediction(token_ids=expected[0]))
        tokens, (first, second), deltas = await ask(stubs, told)
        assert tokens == expected
        assert deltas < 80  # how many are saved depends on measured times
        assert first.usage.accepted_prediction_tokens > 0
        assert first.timings.accepted_tokens >= first.usage.accepted_prediction_tokens
        assert second.usage.accepted_prediction_tokens == 0
        begun = [pb.Continuation(choice=choice, token_ids=tokens[choice][:9]) for choice in range(2)]
        rest, *_ = await ask(stubs, request(generated=begun, prediction=told.prediction))
        assert rest == [each[9:] for each in expected]


async def test_a_worker_told_not_to_guess_does_not() -> None:
    async with simulated_worker_process(**SETTINGS, speculation="off") as worker, connected(worker) as stubs:
        expected, *_ = await ask(stubs, request())
        tokens, (first, _), _ = await ask(stubs, request(prediction=pb.Prediction(token_ids=expected[0])))
        assert tokens == expected
        assert (first.timings.drafted_tokens, first.usage.rejected_prediction_tokens) == (0, 0)

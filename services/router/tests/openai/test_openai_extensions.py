"""What vLLM, llama.cpp and OpenAI's older API return beside text: echoes, token ids, timings, best choices."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.openai.answers.usage import TimingsSum, add_usage, usage_object
from infermesh_router.testing.dialects.openai import chat, complete, events
from infermesh_router.testing.router import StartRouter, StartWorker, delta, finished, started
from infermesh_runtime.rpc.context import RpcContext

PROMPT = (("<s>", 1, 0.0), ("hé", 2, -1.5), ("llo", 3, -0.25))


def token(text: str, token_id: int, logprob: float, *top: pb.TokenLogprob) -> pb.TokenLogprob:
    return pb.TokenLogprob(token_id=token_id, logprob=logprob, token=text.encode(), top=top)


async def speak(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
    """Tells of the prompt what was asked for, and says " you!" in every choice."""
    begun, options = started(request.model), request.prompt_options
    begun.started.prompt_text = "héllo" if options.return_text else ""
    begun.started.prompt_token_ids.extend([1, 2, 3] if options.return_token_ids else [])
    if options.HasField("logprobs"):
        for index, (text, token_id, logprob) in enumerate(PROMPT):
            scored = token(text, token_id, logprob, *([token("other", 9, -0.125)] if index else []))
            scored.rank = 2 if index else 0
            begun.started.prompt_logprobs.append(scored)
    yield begun
    for choice in range(request.n or 1):
        for text, logprob in ((" you", -1.0 - choice % 3), ("!", -0.5))[: request.stop.max_tokens or 2]:
            wanted = [token(text, 7, logprob)] if request.HasField("logprobs") else []
            yield delta(f"{text}", choice, wanted)
        end = finished(choice)
        end.finished.timings.CopyFrom(
            pb.Timings(prompt_tokens=2 * (choice == 0), prompt_ms=4, completion_tokens=2, completion_ms=8 + choice)
        )
        yield end


@pytest.fixture
async def router(start_worker: StartWorker, start_router: StartRouter) -> Any:
    return await start_router(await start_worker(script=speak))


def body_of(messages: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(messages[0].data)
    return found


async def test_an_echo_begins_with_the_prompt(router: Any) -> None:
    (choice,) = body_of((await complete(router, echo=True))[0])["choices"]
    assert (choice["text"], choice["logprobs"]) == ("héllo you!", None)


async def test_an_echo_with_log_probabilities(router: Any) -> None:
    """As lm-eval reads it: an entry for each token of prompt and output, and the scored one among its alternatives."""
    (choice,) = body_of((await complete(router, prompt=[1, 2, 3], echo=True, logprobs=1))[0])["choices"]
    assert choice["logprobs"] == {
        "tokens": ["<s>", "hé", "llo", " you", "!"],
        "token_logprobs": [None, -1.5, -0.25, -1.0, -0.5],
        "top_logprobs": [
            None,
            {"other": -0.125, "hé": -1.5},
            {"other": -0.125, "llo": -0.25},
            {" you": -1},
            {"!": -0.5},
        ],
        "text_offset": [0, 0, 2, 5, 9],
    }


async def test_an_echo_of_the_prompt_alone(router: Any) -> None:
    body = body_of((await complete(router, echo=True, logprobs=0, max_tokens=0))[0])
    (choice,) = body["choices"]
    assert (choice["text"], choice["logprobs"]["tokens"]) == ("héllo", ["<s>", "hé", "llo"])
    assert body["usage"]["completion_tokens"] == 0


async def test_a_stream_with_an_echo(router: Any) -> None:
    parsed = events((await complete(router, echo=True, logprobs=1, stream=True))[0])[:-1]
    choices = [event["choices"][0] for event in parsed]
    assert "".join(choice["text"] for choice in choices) == "héllo you!"
    assert choices[0]["logprobs"]["token_logprobs"] == [None, -1.5, -0.25]
    assert choices[1]["logprobs"]["text_offset"] == [5]
    alone = events((await complete(router, echo=True, max_tokens=0, stream=True))[0])[:-1]
    assert "".join(event["choices"][0]["text"] for event in alone) == "héllo"


async def test_prompt_logprobs_in_vllms_shape(router: Any) -> None:
    expected = [
        None,
        *(
            {
                "9": {"logprob": -0.125, "rank": 1, "decoded_token": "other"},
                str(token_id): {"logprob": logprob, "rank": 2, "decoded_token": text},
            }
            for text, token_id, logprob in PROMPT[1:]
        ),
    ]
    assert body_of((await chat(router, prompt_logprobs=1))[0])["prompt_logprobs"] == expected
    (choice,) = body_of((await complete(router, prompt_logprobs=1))[0])["choices"]
    assert choice["prompt_logprobs"] == expected


@pytest.mark.parametrize("ask", [chat, complete])
async def test_token_ids(router: Any, ask: Any) -> None:
    body = body_of((await ask(router, return_token_ids=True))[0])
    place = body if ask is chat else body["choices"][0]
    assert (place["prompt_token_ids"], body["choices"][0]["token_ids"]) == ([1, 2, 3], [1, 1])
    first, *rest = events((await ask(router, return_token_ids=True, stream=True))[0])[:-1]
    place = first if ask is chat else first["choices"][0]
    assert place["prompt_token_ids"] == [1, 2, 3]
    assert [i for event in rest for i in event["choices"][0].get("token_ids", ())] == [1, 1]


async def test_the_best_choices_are_returned(router: Any) -> None:
    """The worker's choices have cumulative log probabilities of -1.5, -2.5, -3.5, -1.5."""
    body = body_of((await complete(router, prompt=["a", "b"], n=2, best_of=4, logprobs=0))[0])
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2, 3]
    assert [choice["logprobs"]["token_logprobs"][0] for choice in body["choices"]] == [-1.0] * 4
    assert body["usage"]["completion_tokens"] == 16
    plain = body_of((await complete(router, best_of=3))[0])
    assert [(choice["text"], choice["logprobs"]) for choice in plain["choices"]] == [(" you!", None)]


async def test_timings_in_llama_cpps_shape(router: Any) -> None:
    expected = {
        "prompt_n": 2,
        "prompt_ms": 4.0,
        "prompt_per_token_ms": 2.0,
        "prompt_per_second": 500.0,
        "predicted_n": 4,
        "predicted_ms": 9.0,
        "predicted_per_token_ms": 2.25,
        "predicted_per_second": 444.444,
    }
    assert body_of((await chat(router, n=2))[0])["timings"] == expected
    plain = events((await chat(router, n=2, stream=True))[0])[:-1]
    with_usage = events((await chat(router, n=2, stream=True, stream_options={"include_usage": True}))[0])[:-1]
    for parsed in (plain, with_usage):
        assert parsed[-1]["timings"] == expected
        assert not any("timings" in event for event in parsed[:-1])


def test_guesses_are_told_where_there_were_any() -> None:
    total, usage = TimingsSum(), pb.Usage()
    for choice in range(2):
        end = pb.Finished(timings=pb.Timings(completion_tokens=5, drafted_tokens=3 * choice, accepted_tokens=choice))
        end.usage.accepted_prediction_tokens, end.usage.rejected_prediction_tokens = choice, 2
        total.add(end)
        add_usage(usage, end.usage)
    assert (total.member["timings"]["draft_n"], total.member["timings"]["draft_n_accepted"]) == (3, 1)
    details = usage_object(usage)["completion_tokens_details"]
    assert (details["accepted_prediction_tokens"], details["rejected_prediction_tokens"]) == (1, 4)


async def test_every_chunk_can_have_the_usage_so_far(router: Any) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    parsed = events((await complete(router, stream=True, stream_options=options))[0])[:-1]
    assert [event["usage"]["completion_tokens"] for event in parsed] == [1, 2, 2, 2]
    assert {event["usage"]["prompt_tokens"] for event in parsed} == {3}
    chatted = events((await chat(router, stream=True, stream_options=options, return_token_ids=True))[0])[:-1]
    assert chatted[0]["prompt_token_ids"] == [1, 2, 3]
    assert [event["usage"]["total_tokens"] for event in chatted] == [3, 4, 5, 5, 5]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_deadline_in_the_body(start_worker: StartWorker, start_router: StartRouter, stream: bool) -> None:
    worker = await start_worker(script=speak)
    await chat(await start_router(worker), deadline_ms=40_000, stream=stream)
    (remaining_s,) = worker.remaining_s
    assert remaining_s is not None
    assert 0 < remaining_s <= 40

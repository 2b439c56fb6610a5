"""However the messages of a stream are merged, calls of tools, reasoning, log probabilities and ends stay the same."""

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.fleet.frames import faults
from infermesh_router.fleet.frames.frame_call import FrameCall
from infermesh_router.openai.answers.chat import ChatShape
from infermesh_router.openai.answers.parsed import Answer, ParsedAnswer
from infermesh_router.openai.answers.sinks import SseSink
from infermesh_router.openai.job import Job
from infermesh_router.relay.streams.delivered import Delivered
from infermesh_router.relay.streams.event import read_event
from infermesh_router.requests.kinds.generate import from_generate
from infermesh_router.testing.dialects.messages import Written

TOOLS = {"f": {"type": "object", "properties": {"a": {"type": "string"}}}}
STARTED = pb.Started(
    model="m",
    prompt_tokens=3,
    answer_style=pb.AnswerStyle(tool_format="hermes", reasoning="think", reasoning_opened=True),
)
ENDS = (pb.FINISH_REASON_STOP, pb.FINISH_REASON_LENGTH)


def call_text(argument: str) -> str:
    call = {"name": "f", "arguments": {"a": argument}}
    return f"<tool_call>\n{orjson.dumps(call).decode()}\n</tool_call>"


words = st.text('ab"\\\n<é\U0001f642', max_size=6)
written = st.builds(
    lambda thought, text, calls: f"{thought}</think>{text}{''.join(map(call_text, calls))}",
    words,
    words,
    st.lists(words, max_size=2),
)


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """A stream whose tokens have up to four characters each."""
    text, events, index = draw(written), [pb.GenerateResponse(started=STARTED)], 0
    sizes = [*draw(st.lists(st.integers(0, 4), max_size=6)), 3]
    while text:
        size = sizes[index % len(sizes)]
        piece, text = text[:size], text[size:]
        logprob = pb.TokenLogprob(token_id=index, token=piece.encode(), logprob=-index)
        delta = pb.Delta(text=piece, token_ids=[index], logprobs=[logprob])
        events.append(pb.GenerateResponse(delta=delta))
        index += 1
    usage = pb.Usage(prompt_tokens=3, completion_tokens=index)
    events.append(
        pb.GenerateResponse(finished=pb.Finished(finish_reason=draw(st.sampled_from(ENDS)), stop="x", usage=usage))
    )
    return [event.SerializeToString() for event in events]


async def taken(stream: Sequence[bytes], waits: Sequence[int]) -> list[pb.GenerateResponse]:
    """What the reader of a call gets that takes a message after so many have come, and then the rest."""
    call, came, delivered = FrameCall(lambda: None), [], Delivered(1, 1000)
    for index, message in enumerate(stream):
        call.put(message, index)
        if (index + 1) % (waits[index % len(waits)] or 1) == 0:
            came.append(read_event(await anext(call)))
    call.end(faults.complete)
    came += [read_event(message) async for message in call]
    for event in came[1:]:
        delivered.take(event)
    assert delivered.tokens == came[-1][1].finished.usage.completion_tokens
    return [content for _, content in came]


def whole(stream: Sequence[pb.GenerateResponse]) -> Answer:
    """The answer as Responses, Messages and Ollama's API tell it."""
    parsed = ParsedAnswer(TOOLS)
    parsed.begin(stream[0].started)
    for event in stream[1:-1]:
        parsed.take(event.delta)
    parsed.finish(stream[-1].finished)
    for call in parsed.answer.calls:
        call.id = ""
    answer = parsed.answer
    answer.texts, answer.thoughts, answer.reasoning_tokens = [answer.text], [answer.reasoning], 0
    return answer


async def streamed(stream: Sequence[pb.GenerateResponse]) -> dict[str, Any]:
    """What a client of streamed chat has in the end."""
    job = Job(
        id="i",
        model="m",
        calls=(from_generate(pb.GenerateRequest(model="m", text="p")),),
        choices_per_prompt=1,
        returned_per_prompt=1,
        shape=ChatShape(),
        stream=True,
        include_usage=True,
        logprobs=True,
        token_ids=True,
        tools=TOOLS,
        field_names={},
    )

    async def send_headers(_started: pb.Started | None) -> None: ...

    out = Written()
    sink = SseSink(job, send_headers, out)
    await sink.begin(0, stream[0].started)
    for event in stream[1:-1]:
        await sink.take_delta(0, event.delta)
    await sink.take_finished(0, stream[-1].finished)
    await sink.end()
    told: dict[str, Any] = {"content": "", "reasoning": "", "calls": {}, "logprobs": [], "token_ids": [], "reason": ""}
    for data in out.data.split(b"\n\n")[:-2]:
        document = orjson.loads(data[6:])
        for choice in document["choices"]:
            _add(told, choice)
        usage = document["usage"]
    told["usage"] = usage["completion_tokens"]
    return told


def _add(told: dict[str, Any], choice: dict[str, Any]) -> None:
    delta = choice["delta"]
    told["content"] += delta.get("content") or ""
    told["reasoning"] += delta.get("reasoning") or ""
    for call in delta.get("tool_calls", ()):
        own = told["calls"].setdefault(call["index"], {"name": "", "arguments": ""})
        for member in own:
            own[member] += call["function"].get(member, "")
    told["logprobs"] += (choice["logprobs"] or {}).get("content", ())
    told["token_ids"] += choice.get("token_ids", ())
    told["reason"] += choice["finish_reason"] or ""


@settings(max_examples=80, deadline=None)
@given(streams(), st.lists(st.integers(0, 7), min_size=1, max_size=6))
def test_merged_messages_tell_the_same(stream: list[bytes], waits: list[int]) -> None:
    async def run() -> None:
        kept_up, behind = await taken(stream, [1]), await taken(stream, waits)
        assert len(kept_up) == len(stream) >= len(behind)
        assert whole(behind) == whole(kept_up)
        told = await streamed(behind)
        assert told == await streamed(kept_up)
        assert told["token_ids"] == list(range(told["usage"]))
        assert len(told["logprobs"]) == told["usage"]

    asyncio.run(run())

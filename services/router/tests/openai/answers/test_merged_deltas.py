"""Tests that a stream whose deltas were merged while it was behind tells the same as the one that kept up."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.openai.answers.chat import ChatShape
from infermesh_router.openai.answers.completions import CompletionShape
from infermesh_router.openai.answers.parsed import ChoiceParser, style_of
from infermesh_router.openai.answers.sinks import SseSink
from infermesh_router.openai.job import Job
from infermesh_router.requests.kinds.generate import from_generate
from infermesh_router.testing.dialects.messages import Written
from infermesh_runtime.answer_parsing.parts import OutputStyle

STARTED = pb.Started(model="m", prompt_tokens=3)
THINKING = style_of(
    pb.Started(answer_style=pb.AnswerStyle(reasoning="think", reasoning_opened=True)), offers_tools=False
)


class Asked(NamedTuple):
    """What a stream is asked to tell."""

    chat: bool
    logprobs: bool
    token_ids: bool
    running_usage: bool


class Told(NamedTuple):
    """What a client has of one choice at its end."""

    text: str
    token_ids: list[int]
    logprobs: list[Any]
    finish_reason: str


def token(index: int) -> pb.TokenLogprob:
    text = b"t%d" % index
    return pb.TokenLogprob(token_id=index, token=text, logprob=-index, top=[pb.TokenLogprob(token=text, logprob=-1)])


@st.composite
def streams(draw: st.DrawFn) -> list[pb.Delta]:
    """Deltas of two choices; their tokens are numbered through, and some have no text yet."""
    choices = draw(st.lists(st.integers(0, 1), max_size=12))
    texts = st.text('ab"\\\n\u00e9\U0001f642', max_size=3)
    return [pb.Delta(choice=choice, text=draw(texts), token_ids=[index]) for index, choice in enumerate(choices)]


def merged(deltas: Sequence[pb.Delta], cuts: Iterable[int]) -> list[pb.Delta]:
    """The deltas between two cuts as one for each choice."""
    edges = sorted({0, len(deltas), *(cut for cut in cuts if cut < len(deltas))})
    found: list[pb.Delta] = []
    for begin, end in pairwise(edges):
        groups: defaultdict[int, list[pb.Delta]] = defaultdict(list)
        for delta in deltas[begin:end]:
            groups[delta.choice].append(delta)
        found += [
            pb.Delta(
                choice=choice,
                text="".join(each.text for each in group),
                token_ids=[index for each in group for index in each.token_ids],
                logprobs=[logprob for each in group for logprob in each.logprobs],
            )
            for choice, group in groups.items()
        ]
    return found


async def tell(asked: Asked, deltas: Sequence[pb.Delta]) -> tuple[list[Told], Any]:
    """What the client of a stream has of each choice, and the usage that it was told last."""
    job = Job(
        id="i",
        model="m",
        calls=(from_generate(pb.GenerateRequest(model="m", text="p", n=2)),),
        choices_per_prompt=2,
        returned_per_prompt=2,
        shape=ChatShape() if asked.chat else CompletionShape(top=1),
        stream=True,
        include_usage=True,
        running_usage=asked.running_usage,
        logprobs=asked.logprobs,
        token_ids=asked.token_ids,
        field_names={},
    )

    async def send_headers(_started: pb.Started | None) -> None: ...

    written = Written()
    sink = SseSink(job, send_headers, written)
    await sink.begin(0, STARTED)
    for delta in deltas:
        await sink.take_delta(0, delta)
    for choice in range(2):
        usage = pb.Usage(completion_tokens=sum(delta.choice == choice for delta in deltas))
        await sink.take_finished(0, pb.Finished(choice=choice, finish_reason=pb.FINISH_REASON_STOP, usage=usage))
    running = [orjson.loads(event[6:]) for event in written.data.split(b"\n\n") if event]
    await sink.end()
    documents = [orjson.loads(event[6:]) for event in written.data.split(b"\n\n")[:-2]]
    return [read(documents, choice) for choice in range(2)], running[-1]["usage"] if running else None


def read(documents: Sequence[dict[str, Any]], choice: int) -> Told:
    chunks = [each for document in documents for each in document["choices"] if each["index"] == choice]
    told = [chunk["logprobs"] for chunk in chunks if chunk.get("logprobs")]
    lists = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
    logprobs = [
        each
        for member in told
        for each in (member["content"] if "content" in member else zip(*(member[name] for name in lists), strict=True))
    ]
    return Told(
        "".join(chunk["text"] if "text" in chunk else chunk["delta"].get("content", "") for chunk in chunks),
        [index for chunk in chunks for index in chunk.get("token_ids", ())],
        logprobs,
        "".join(chunk["finish_reason"] or "" for chunk in chunks),
    )


@settings(max_examples=60, deadline=None)
@given(
    asked=st.builds(Asked, st.booleans(), st.booleans(), st.booleans(), st.booleans()),
    deltas=streams(),
    cuts=st.sets(st.integers(0, 12)),
)
def test_merged_deltas_tell_the_same(asked: Asked, deltas: list[pb.Delta], cuts: set[int]) -> None:
    if asked.logprobs:
        for delta in deltas:
            delta.logprobs.extend(token(index) for index in delta.token_ids)
    kept_up, _ = asyncio.run(tell(asked, deltas))
    behind, _ = asyncio.run(tell(asked, merged(deltas, cuts)))
    assert behind == kept_up
    for choice, told in enumerate(kept_up):
        own = [delta for delta in deltas if delta.choice == choice]
        assert told.text == "".join(delta.text for delta in own)
        assert told.token_ids == ([index for delta in own for index in delta.token_ids] if asked.token_ids else [])
        assert len(told.logprobs) == (len(own) if asked.logprobs else 0)
        assert told.finish_reason == "stop"


async def test_the_usage_so_far_counts_all_tokens_of_a_merged_delta() -> None:
    deltas = [pb.Delta(text="a", token_ids=[index]) for index in range(5)]
    asked = Asked(chat=True, logprobs=False, token_ids=False, running_usage=True)
    _, kept_up = await tell(asked, deltas)
    _, behind = await tell(asked, merged(deltas, ()))
    assert behind == kept_up
    assert behind["completion_tokens"] == 5


@pytest.mark.parametrize("cuts", [(), (4,), (10,), range(60)])
def test_reasoning_keeps_its_share_of_the_tokens_that_come_at_once(cuts: Iterable[int]) -> None:
    words = ["hmm "] * 20 + ["</think>"] + ["word "] * 20
    deltas = [pb.Delta(text=word, token_ids=[index]) for index, word in enumerate(words)]
    assert reasoning_tokens(THINKING, merged(deltas, cuts)) == pytest.approx(20, abs=4)


def reasoning_tokens(style: OutputStyle, deltas: Sequence[pb.Delta]) -> int:
    parser = ChoiceParser(style, {})
    for delta in deltas:
        parser.take(delta)
    parser.finish(pb.Finished(finish_reason=pb.FINISH_REASON_STOP))
    return parser.reasoning_tokens

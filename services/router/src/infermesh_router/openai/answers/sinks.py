"""Turns the events of a job into its answer: one body, or server-sent events as they come."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import orjson
from google.api.httpbody_pb2 import HttpBody

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.openai.answers.chat_parts import answer_message
from infermesh_router.openai.answers.chat_parts import finish_reason as chat_finish_reason
from infermesh_router.openai.answers.chunks import (
    DONE,
    ChunkEncoder,
    comment,
    data_event,
    failovers_member,
    finish_reason_name,
    with_members,
)
from infermesh_router.openai.answers.parsed import PLAIN, ParsedAnswer, style_of
from infermesh_router.openai.answers.parsed_chunks import ParsedChunks
from infermesh_router.openai.answers.usage import TimingsSum, add_usage, usage_object
from infermesh_router.openai.errors import error_object
from infermesh_router.openai.job import Job, WholeChoice
from infermesh_runtime.errors import InfermeshError

EVENTS = "text/event-stream; charset=utf-8"

SendHeaders = Callable[[pb.Started | None], Awaitable[None]]
"""Sends the response's headers, which say what `started` says. None: no endpoint answers yet."""


class Writer(Protocol):
    """What a stream needs of the RPC."""

    async def write(self, message: HttpBody) -> None:
        """Sends a message. Must not be called again before it returns."""


class WholeSink:
    """Gathers the events; `body` is then the answer."""

    def __init__(self, job: Job, send_headers: SendHeaders) -> None:
        self._job = job
        self._send_headers = send_headers
        self._begun = False
        self._choices = [WholeChoice() for _ in range(job.choices)]
        self._detailed = job.logprobs or job.token_ids or job.choices_per_prompt > job.returned_per_prompt
        self._usage = pb.Usage()
        self._timings = TimingsSum()
        self._failovers = _Failovers()
        self._parsed: dict[int, ParsedAnswer] = {}
        """Those of the choices that need a parser."""

    async def begin(self, base: int, started: pb.Started) -> None:
        """Sends the headers, once."""
        plain = style_of(started, offers_tools=bool(self._job.tools)) == PLAIN
        for index in range(base, base + self._job.choices_per_prompt):
            self._choices[index].prompt = started
            if not plain:
                self._parsed[index] = parsed = ParsedAnswer(self._job.tools, single_call=self._job.single_call)
                parsed.begin(started)
        if not self._begun:
            self._begun = True
            await self._send_headers(started)

    async def take_delta(self, base: int, delta: pb.Delta) -> None:
        """Takes new output."""
        choice = self._choices[base + delta.choice]
        if self._parsed:
            self._parsed[base + delta.choice].take(delta)
        choice.texts.append(delta.text)
        if self._detailed:
            choice.logprobs.extend(delta.logprobs)
            choice.token_ids.extend(delta.token_ids)

    async def take_finished(self, base: int, finished: pb.Finished) -> None:
        """Takes the end of a choice."""
        choice = self._choices[base + finished.choice]
        choice.finish_reason = finish_reason_name(finished.finish_reason)
        if (parsed := self._parsed.get(base + finished.choice)) is not None:
            parsed.finish(finished)
            functions = self._job.functions
            choice.message = answer_message(parsed.answer, functions=functions)
            choice.finish_reason = chat_finish_reason(parsed.answer.finish_reason, functions=functions)
        add_usage(self._usage, finished.usage)
        self._timings.add(finished)
        self._failovers.note(base, finished)

    def body(self) -> bytes:
        """The answer as JSON."""
        job = self._job
        if job.prompt_only:
            self._usage.completion_tokens = 0
        answer = job.shape.whole(job, self._best()) | job.shape.prompt_members(job, self._choices[0].prompt)
        thought = sum(parsed.answer.reasoning_tokens for parsed in self._parsed.values())
        answer["usage"] = usage_object(self._usage, thought)
        return orjson.dumps(answer | self._timings.member | failovers_member(self._failovers.all))

    def _best(self) -> list[WholeChoice]:
        """The choices to return: of each prompt, those with the largest cumulative log probability."""
        made, kept = self._job.choices_per_prompt, self._job.returned_per_prompt
        if made == kept:
            return self._choices
        prompts = (self._choices[base : base + made] for base in range(0, len(self._choices), made))
        ranked = (sorted(prompt, key=lambda choice: -choice.cumulative_logprob) for prompt in prompts)
        return [choice for prompt in ranked for choice in prompt[:kept]]


class SseSink:
    """Writes each event as it comes. The end of a choice is held back, so that an answer ends in one write."""

    def __init__(self, job: Job, send_headers: SendHeaders, writer: Writer) -> None:
        self._job = job
        self._encoder = encoder = ChunkEncoder(job)
        self._encode = encoder.detailed_delta if encoder.is_detailed else encoder.delta
        self._parsed: ParsedChunks | None = None
        """Encodes what the model writes, if that needs a parser."""
        self._send_headers = send_headers
        self._writer = writer if len(job.calls) == 1 else _InTurn(writer)
        self._beginning = asyncio.Lock()
        self._usage = pb.Usage()
        self._timings = TimingsSum()
        self._open_choices = job.choices
        self._failovers = _Failovers()
        self._content_type = EVENTS
        self._pending = b""
        self.begun = False
        """Whether something was sent, so that an error can no longer be a status."""

    async def begin(self, base: int, started: pb.Started) -> None:
        """Sends the headers, once, and opens the prompt's choices."""
        await self._open(started)
        style = style_of(started, offers_tools=bool(self._job.tools))
        if style != PLAIN and self._parsed is None:
            self._parsed = ParsedChunks(self._job, self._encoder, style)
            self._encode = self._parsed.delta
        choices = range(base, base + self._job.choices_per_prompt)
        self._pending += self._encoder.begin(started, choices)

    async def take_delta(self, base: int, delta: pb.Delta) -> None:
        """Takes new output."""
        data = self._encode(base + delta.choice, delta)
        if self._pending:
            data, self._pending = self._pending + data, b""
        if data:
            await self._writer.write(self._message(data))

    async def take_finished(self, base: int, finished: pb.Finished) -> None:
        """Takes the end of a choice."""
        event = (self._parsed or self._encoder).finish(base + finished.choice, finished)
        add_usage(self._usage, finished.usage)
        self._timings.add(finished)
        self._failovers.note(base, finished)
        self._open_choices -= 1
        is_last = self._open_choices == 0 and not self._job.include_usage
        self._pending += with_members(event, self._timings.member) if is_last else event

    async def tell(self, text: str) -> None:
        """Writes a comment, which clients skip; before anything else, it begins the answer."""
        await self._open(None)
        await self._writer.write(self._message(comment(text)))

    async def end(self) -> None:
        """Ends the answer."""
        if self._job.include_usage:
            if self._job.prompt_only:
                self._usage.completion_tokens = 0
            thought = self._parsed.reasoning_tokens if self._parsed is not None else 0
            event = self._encoder.usage(self._usage, self._failovers.all, thought)
            self._pending += with_members(event, self._timings.member)
        await self._writer.write(self._message(self._pending + DONE))

    async def fail(self, error: InfermeshError) -> None:
        """Ends an answer that failed after it had begun."""
        await self._writer.write(self._message(self._pending + data_event(error_object(error)) + DONE))

    async def _open(self, started: pb.Started | None) -> None:
        async with self._beginning:
            if not self.begun:
                await self._send_headers(started)
                self.begun = True

    def _message(self, data: bytes) -> HttpBody:
        """The next message; the first one has the content type."""
        message = HttpBody(content_type=self._content_type, data=data)
        self._content_type = ""
        return message


class _InTurn:
    """A writer for several tasks: each waits until the other's message is sent."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._turn = asyncio.Lock()

    async def write(self, message: HttpBody) -> None:
        """Sends a message."""
        async with self._turn:
            await self._writer.write(message)


class _Failovers:
    """How a job's streams moved. Each end of a choice tells the moves until then, so the longest list has all."""

    def __init__(self) -> None:
        self._by_stream: dict[int, Sequence[pb.Failover]] = {}

    @property
    def all(self) -> list[pb.Failover]:
        """Every move once, in the order of the prompts."""
        return [move for base in sorted(self._by_stream) for move in self._by_stream[base]]

    def note(self, base: int, finished: pb.Finished) -> None:
        """Records the moves that the end of a choice tells."""
        if len(finished.failovers) > len(self._by_stream.get(base, ())):
            self._by_stream[base] = list(finished.failovers)

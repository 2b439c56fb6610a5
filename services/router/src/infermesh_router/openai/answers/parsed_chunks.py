"""Encodes the chunks of a streamed chat whose model reasons or calls tools; others need no parser."""

from typing import Any

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.openai.answers.chat_parts import finish_reason, part_delta
from infermesh_router.openai.answers.chunks import ChunkEncoder, failovers_member, with_members
from infermesh_router.openai.answers.logprobs import chat_logprobs
from infermesh_router.openai.answers.parsed import ChoiceParser
from infermesh_router.openai.job import Job
from infermesh_runtime.answer_parsing.parts import OutputStyle, Part, Text


class ParsedChunks:
    """Encodes the events of one stream, as `ChunkEncoder` does for others.

    Tokens whose text is still held back are told with the next chunk of their choice, so that log probabilities and
    token ids are complete and in order.
    """

    def __init__(self, job: Job, encoder: ChunkEncoder, style: OutputStyle) -> None:
        self._job = job
        self._encoder = encoder
        self._parsers = [ChoiceParser(style, job.tools, single_call=job.single_call) for _ in range(job.choices)]
        self._untold: list[pb.Delta] = [pb.Delta() for _ in range(job.choices)]
        self._tells_tokens = job.logprobs or job.token_ids

    @property
    def reasoning_tokens(self) -> int:
        """How many tokens all choices have thought with."""
        return sum(parser.reasoning_tokens for parser in self._parsers)

    def delta(self, choice: int, delta: pb.Delta) -> bytes:
        """The events of new output; b"" if nothing is certain yet."""
        parser = self._parsers[choice]
        self._encoder.count(delta)
        if self._tells_tokens:
            untold = self._untold[choice]
            untold.logprobs.extend(delta.logprobs)
            untold.token_ids.extend(delta.token_ids)
        return b"".join([self._part(choice, part, parser.call_ids) for part in parser.take(delta)])

    def finish(self, choice: int, finished: pb.Finished) -> bytes:
        """The events that close a choice."""
        parser = self._parsers[choice]
        events = b"".join([self._part(choice, part, parser.call_ids) for part in parser.finish(finished)])
        reason = finish_reason(parser.finish_reason, functions=self._job.functions)
        end = self._encoder.chunk(choice, self._with_tokens(choice, {}) | {"finish_reason": reason})
        return events + with_members(end, failovers_member(finished.failovers))

    def _part(self, choice: int, part: Part, call_ids: list[str]) -> bytes:
        if isinstance(part, Text) and not self._tells_tokens:
            return self._encoder.text(choice, part.text)
        delta = part_delta(part, call_ids, functions=self._job.functions)
        return b"" if delta is None else self._encoder.chunk(choice, self._with_tokens(choice, delta))

    def _with_tokens(self, choice: int, delta: dict[str, Any]) -> dict[str, Any]:
        """The members of a chunk, with the tokens that were not told yet."""
        members: dict[str, Any] = {"delta": delta, "logprobs": None, "finish_reason": None}
        untold = self._untold[choice]
        if untold.logprobs:
            members["logprobs"] = {"content": chat_logprobs(list(untold.logprobs)), "refusal": None}
        if self._job.token_ids:
            members["token_ids"] = list(untold.token_ids)
        untold.Clear()
        return members

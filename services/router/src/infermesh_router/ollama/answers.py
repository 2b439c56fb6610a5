"""Makes Ollama's answers: one body, or lines of JSON as the answer grows."""

import time
from collections.abc import Callable
from typing import Any

import orjson

from infermesh_router.ollama.context import write_context
from infermesh_router.ollama.convert import AskedOf
from infermesh_router.ollama.schema import Said
from infermesh_router.openai.answers.logprobs import chat_logprobs
from infermesh_router.openai.answers.parsed import Answer, Call
from infermesh_runtime.answer_parsing.parts import CallEnds, Part, Reasoning, Text
from infermesh_runtime.errors import InfermeshError

LINES = "application/x-ndjson"
_NS_PER_MS = 1_000_000


class OllamaAnswer:
    """Makes the bodies and lines of one answer; it is an `Events`."""

    content_type = LINES

    def __init__(self, asked: AskedOf, *, since_s: float, now_ns: Callable[[], int] = time.time_ns) -> None:
        """`since_s` is when the request arrived, as `time.perf_counter` counts; `now_ns` returns Unix time."""
        self._asked = asked
        self._since_s = since_s
        self._clock = _Clock(now_ns)
        self._told_logprobs = 0
        self._begun_s = since_s
        self._model = b'{"model":' + orjson.dumps(asked.model) + b',"created_at":"'
        before = b'"message":{"role":"assistant","content":' if asked.is_chat else b'"response":'
        self._before_text = b'Z",' + before
        self._after_text = b'},"done":false}\n' if asked.is_chat else b',"done":false}\n'

    def started(self) -> None:
        """An endpoint has begun to answer."""
        self._begun_s = time.perf_counter()

    def begin(self, answer: Answer) -> bytes:  # noqa: ARG002 - the signature of Events
        """Nothing: the first line has the first token."""
        return b""

    def wait(self, text: str) -> bytes:  # noqa: ARG002
        """Nothing: lines of JSON have no comments."""
        return b""

    def part(self, part: Part, answer: Answer) -> bytes:
        """The line of a new part. A tool call has one when it is whole."""
        if isinstance(part, Text):
            if answer.logprobs:
                return self._line(self._said(part.text) | self._new_logprobs(answer))
            text = orjson.dumps(part.text)
            return self._model + self._clock.show().encode() + self._before_text + text + self._after_text
        if isinstance(part, Reasoning):
            return self._line(self._said("", thinking=part.text) | self._new_logprobs(answer))
        if isinstance(part, CallEnds) and part.complete and self._asked.is_chat:
            call = _show_call(part.index, answer.calls[part.index])
            return self._line(self._said("", tool_calls=[call]) | self._new_logprobs(answer))
        return b""

    def end(self, answer: Answer) -> bytes:
        """The last line, with figures."""
        return self._line(self._said("") | self._new_logprobs(answer), **self._ending(answer))

    def fail(self, error: InfermeshError, answer: Answer) -> bytes:  # noqa: ARG002 - the signature of Events
        """The line of an error, which is the last one."""
        return orjson.dumps({"error": error.message}) + b"\n"

    def body(self, answer: Answer) -> dict[str, Any]:
        """The whole answer."""
        calls = [_show_call(index, call) for index, call in enumerate(answer.calls) if call.complete]
        members: dict[str, Any] = {"thinking": answer.reasoning} if answer.reasoning else {}
        members |= {"tool_calls": calls} if calls and self._asked.is_chat else {}
        logprobs = self._new_logprobs(answer)
        return self._named() | self._said(answer.text, **members) | logprobs | self._ending(answer)

    def loaded(self, reason: str) -> dict[str, Any]:
        """The answer to a request that asks for nothing but loading or unloading its model: "load" or "unload"."""
        return self._named() | self._said("") | {"done": True, "done_reason": reason}

    def _named(self) -> dict[str, Any]:
        return {"model": self._asked.model, "created_at": f"{self._clock.show()}Z"}

    def _said(self, text: str, **members: Any) -> dict[str, Any]:
        """What the model said, where chats and prompts have it."""
        if self._asked.is_chat:
            return {"message": {"role": "assistant", "content": text, **members}}
        return {"response": text, **members}

    def _line(self, members: dict[str, Any], **ending: Any) -> bytes:
        return orjson.dumps(self._named() | members | (ending or {"done": False})) + b"\n"

    def _new_logprobs(self, answer: Answer) -> dict[str, Any]:
        """The log probabilities since the last line; nothing if they were not asked for."""
        new = answer.logprobs[self._told_logprobs :]
        self._told_logprobs += len(new)
        return {"logprobs": chat_logprobs(new)} if new else {}

    def _ending(self, answer: Answer) -> dict[str, Any]:
        """Why the answer ended, and its figures: durations in nanoseconds."""
        now_s = time.perf_counter()
        members: dict[str, Any] = {
            "done": True,
            "done_reason": "length" if answer.finish_reason == "length" else "stop",
            "total_duration": int((now_s - self._since_s) * 1e9),
            "load_duration": answer.started.loading_ms * _NS_PER_MS,
            "prompt_eval_count": answer.usage.prompt_tokens,
            "eval_count": answer.usage.completion_tokens,
        }
        return members | self._durations(answer, now_s) | self._context(answer)

    def _durations(self, answer: Answer, now_s: float) -> dict[str, int]:
        """How long prompt and answer took: in the engine, or as the router saw it if the engine did not measure it."""
        timings = answer.finished.timings
        prompt_ms, answer_ms = timings.prompt_ms, timings.completion_ms
        if not answer.finished.HasField("timings"):
            prompt_ms = (self._begun_s - self._since_s) * 1000 - answer.started.loading_ms
            answer_ms = (now_s - self._begun_s) * 1000
        return {
            "prompt_eval_duration": max(0, int(prompt_ms * _NS_PER_MS)),
            "eval_duration": int(answer_ms * _NS_PER_MS),
        }

    def _context(self, answer: Answer) -> dict[str, list[int]]:
        """The conversation with this answer, for the next prompt; nothing if there is no such, or it is too long."""
        if not self._asked.said:
            return {}
        context = write_context([*self._asked.said, Said(role="assistant", content=answer.text)])
        return {} if context is None else {"context": context}


def _show_call(index: int, call: Call) -> dict[str, Any]:
    arguments = orjson.loads(call.arguments) if call.arguments else {}
    return {"id": call.id, "function": {"index": index, "name": call.name, "arguments": arguments}}


class _Clock:
    """The time in UTC. Each second's date is written once, since every line has the time."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._second = -1
        self._date = ""

    def show(self) -> str:
        """The time in microseconds, without the zone's name."""
        second, nanoseconds = divmod(self._now_ns(), 10**9)
        if second != self._second:
            self._second, self._date = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._date}.{nanoseconds // 1000:06d}"

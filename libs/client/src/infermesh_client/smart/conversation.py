"""The rounds of a `smart_chat`: asks, takes the answer's events, and tells the model what its calls gave.

It knows nothing of connections: whoever drives it sends its requests, which may happen in coroutines or in threads.
"""

import time
from collections.abc import Callable, Sequence
from typing import Unpack

from infermesh.inference.v1 import inference_pb2
from infermesh_client.answer import AnswerReader, ToolCall
from infermesh_client.request import AnswerOptions, ChatMessage, Event, GenerateOptions
from infermesh_client.smart.answer import FunctionCall, SmartAnswer, Timings, device_kind
from infermesh_client.smart.functions import Function, FunctionTool, error_text, read_functions
from infermesh_client.smart.stopwatch import Clock, Stopwatch
from infermesh_runtime.answer_parsing.parts import Part
from infermesh_runtime.errors import InvalidArgument

MAX_ROUNDS = 8
"""How often the model is asked at most, unless the caller says: in the last round it may not call."""
OnPart = Callable[[Part], None]
"""Called with each part of an answer as it becomes certain."""


class Conversation:
    """One `smart_chat` as it goes on. `answer` may be asked for at any time, also after an interruption."""

    def __init__(
        self,
        model: str,
        messages: str | Sequence[ChatMessage],
        *,
        tools: Sequence[Function] = (),
        device: str = "auto",
        max_rounds: int = MAX_ROUNDS,
        on_part: OnPart | None = None,
        coroutines: bool = True,
        clock: Clock = time.monotonic,
        **options: Unpack[AnswerOptions],
    ) -> None:
        """`coroutines`: whether tools may be coroutine functions.

        Raises InvalidArgument for a tool that cannot be one, and for a bad prompt or option.
        """
        if max_rounds < 1:
            raise InvalidArgument(f"max_rounds must be at least 1, not {max_rounds}")
        self._functions = read_functions(tools, coroutines=coroutines)
        offered = [function.tool for function in self._functions.values()]
        self._options: GenerateOptions = GenerateOptions(
            **options, model=model, device="" if device == "auto" else device, tools=offered
        )
        self._history = [ChatMessage(role="user", content=messages)] if isinstance(messages, str) else list(messages)
        self._rounds_left = max_rounds
        self._on_part = on_part
        self._clock = clock
        self._begun_s = clock()
        self._watch = Stopwatch(clock)
        self._used = inference_pb2.Usage()
        self._calls: list[FunctionCall] = []
        self._waiting: list[ToolCall] = []
        self._reader = self._new_reader()

    def next_request(self) -> inference_pb2.GenerateRequest | None:
        """The request to send now; None when the answer is complete."""
        if not self._rounds_left:
            return None
        self._rounds_left -= 1
        self._reader = self._new_reader()
        self._watch = Stopwatch(self._clock)
        return self._reader.request

    def take(self, event: Event) -> None:
        """Takes an event of the answer to the last request."""
        if isinstance(event, inference_pb2.Delta):
            self._watch.take(event)
        for part in self._reader.take(event):
            if self._on_part is not None:
                self._on_part(part)
        if isinstance(event, inference_pb2.Finished):
            self._end_round()

    def next_call(self) -> tuple[ToolCall, FunctionTool | None] | None:
        """The next call that the model waits for, and its function, if there is one; None when there is no call."""
        if not self._waiting:
            return None
        call = self._waiting[0]
        return call, self._functions.get(call.name)

    def tell(self, call: ToolCall, outcome: str | Exception, took_s: float) -> None:
        """Tells the model what a call of `next_call` gave: its `result_text`, or the exception that was raised."""
        self._waiting.remove(call)
        failed = isinstance(outcome, Exception)
        text = error_text(outcome) if isinstance(outcome, Exception) else outcome
        self._calls.append(FunctionCall(call.name, call.arguments, text, failed, took_s))
        self._history.append({"role": "tool", "content": text, "tool_call_id": call.id, "name": call.name})

    def answer(self) -> SmartAnswer:
        """All that is known of the answer so far."""
        last, started = self._reader.answer, self._reader.answer.started
        return SmartAnswer(
            text=last.text,
            reasoning=last.reasoning,
            model=started.model,
            device=device_kind(started.device),
            endpoint=started.endpoint,
            reason=started.reason,
            finish_reason=last.finish_reason,
            timings=self._timings(started, last.finished.timings),
            prompt_tokens=self._used.prompt_tokens,
            completion_tokens=self._used.completion_tokens or self._watch.tokens,
            failovers=tuple(last.finished.failovers),
            calls=tuple(self._calls),
            messages=tuple(self._history),
        )

    def _new_reader(self) -> AnswerReader:
        options = GenerateOptions(**self._options)
        if self._functions and not self._rounds_left:
            options["tool_choice"] = "none"
        elif self._calls and options.get("tool_choice", "none") != "none":
            options["tool_choice"] = "auto"  # what must be called has been; the model may answer now
        return AnswerReader(self._history, options)

    def _end_round(self) -> None:
        answer = self._reader.answer
        self._used.prompt_tokens += answer.usage.prompt_tokens
        self._used.completion_tokens += answer.usage.completion_tokens
        self._history.append(answer.message())
        if answer.finish_reason == "tool_calls" and self._functions and self._rounds_left:
            self._waiting = list(answer.tool_calls)
        else:
            self._rounds_left = 0

    def _timings(self, started: inference_pb2.Started, computed: inference_pb2.Timings) -> Timings:
        return Timings(
            total_s=self._clock() - self._begun_s,
            ttft_s=self._watch.ttft_s,
            tokens_per_s=self._watch.tokens_per_s,
            queued_ms=started.queued_ms,
            loading_ms=started.loading_ms,
            overhead_ms=started.overhead_ms,
            prompt_ms=computed.prompt_ms,
            completion_ms=computed.completion_ms,
        )

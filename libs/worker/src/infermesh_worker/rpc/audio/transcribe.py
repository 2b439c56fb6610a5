"""Answers Transcribe: gives the model a sound, and writes the segments of its text as they come."""

import asyncio
import secrets
from collections.abc import Mapping
from typing import Any

import numpy as np

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_runtime.manifest.model_kind import TRANSCRIBE
from infermesh_runtime.rpc.context import RpcContext
from infermesh_runtime.tensors import to_numpy
from infermesh_worker.engine_client.work import Work
from infermesh_worker.executors.wire_tensors import Flat, flatten
from infermesh_worker.rpc.audio.streaming import Order, answers, check_name, check_range, deadline, to_started
from infermesh_worker.rpc.convert import check_device
from infermesh_worker.rpc.prompts.prompt import THREAD_FROM_BYTES, invalid
from infermesh_worker.rpc.texts.checks import check_priority
from infermesh_worker.worker import Worker

MOST_PROMPT_CHARS = 65_536
"""Models read the last few hundred tokens of it."""
_TASKS = {
    pb.SPEECH_TASK_UNSPECIFIED: "transcribe",
    pb.SPEECH_TASK_TRANSCRIBE: "transcribe",
    pb.SPEECH_TASK_TRANSLATE: "translate",
}
_TIMES = {
    pb.SPEECH_TIMES_UNSPECIFIED: "segments",
    pb.SPEECH_TIMES_SEGMENTS: "segments",
    pb.SPEECH_TIMES_WORDS: "words",
}


async def transcribe(worker: Worker, request: pb.TranscribeRequest, context: RpcContext) -> None:
    """Writes the events of the answer; `started` comes with the first part, so an earlier failure has no event."""
    with worker.use(request.model, TRANSCRIBE) as hosted:
        check_device(request.device, hosted.client.require_ready())
        params = _params(request)
        with worker.models.place(hosted, 1):
            is_large = request.ByteSize() >= THREAD_FROM_BYTES
            sound = await asyncio.to_thread(_sound, request) if is_large else _sound(request)
        work = Work(
            params=params,
            tensors=[sound],
            priority=request.priority,
            deadline_s=deadline(context.time_remaining()),
        )
        order, begun = Order(request.delivered_segments), False
        async with answers(hosted, work) as parts:
            async for part in parts:
                response = _last(part.params) if part.last else _segment(part.params["segment"], order)
                if not begun:
                    begun = True
                    await context.write(pb.TranscribeResponse(started=to_started(hosted)))
                await context.write(response)


def _params(request: pb.TranscribeRequest) -> dict[str, Any]:
    """What the model is told. Raises InvalidArgument."""
    check_priority(request.priority)
    check_name("language", request.language)
    if len(request.prompt) > MOST_PROMPT_CHARS:
        raise invalid("prompt", f"must have at most {MOST_PROMPT_CHARS} characters, not {len(request.prompt)}")
    temperature = request.temperature if request.HasField("temperature") else None
    if temperature is not None:
        check_range("temperature", temperature, 0, 1)
    return {
        "task": _known("task", request.task, _TASKS),
        "language": request.language.strip(),
        "prompt": request.prompt,
        "temperature": temperature,
        "times": _known("times", request.times, _TIMES),
        "seed": request.seed if request.HasField("seed") else secrets.randbits(63),
        "delivered_segments": request.delivered_segments,
    }


def _known(field: str, value: int, names: Mapping[Any, str]) -> str:
    if value not in names:
        raise invalid(field, f"there is no value {value}")
    return names[value]


def _sound(request: pb.TranscribeRequest) -> Flat:
    """The sound file, or the samples. Raises InvalidArgument."""
    if bool(request.audio) == request.HasField("samples"):
        given = "both are given" if request.audio else "neither is given"
        raise invalid("audio", f"exactly one of audio and samples is required, and {given}")
    if request.audio:
        return flatten("audio", np.frombuffer(request.audio, np.uint8))
    samples = to_numpy(request.samples, field="samples")
    if samples.dtype != np.float32 or samples.ndim != 1 or not samples.size:
        raise invalid("samples", f"must be FP32 of shape [samples], not {samples.dtype} of shape {list(samples.shape)}")
    if not np.isfinite(samples).all():
        raise invalid("samples", "must be finite numbers")
    return flatten("samples", samples)


def _segment(found: Mapping[str, Any], order: Order) -> pb.TranscribeResponse:
    order.take(found["index"])
    words = [pb.SpeechWord(**word) for word in found.get("words") or ()]
    fields = {name: value for name, value in found.items() if name != "words"}
    return pb.TranscribeResponse(segment=pb.SpeechSegment(**fields, words=words))


def _last(found: Mapping[str, Any]) -> pb.TranscribeResponse:
    usage = pb.Usage(prompt_tokens=found.get("prompt_tokens", 0), completion_tokens=found.get("completion_tokens", 0))
    return pb.TranscribeResponse(
        finished=pb.TranscribeFinished(
            language=found["language"],
            language_probability=found.get("language_probability", 0.0),
            duration_s=found["duration_s"],
            usage=usage,
        )
    )

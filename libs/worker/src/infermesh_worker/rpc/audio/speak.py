"""Answers Speak: gives the model a text, and writes its sound piece by piece."""

import asyncio
from collections.abc import Sequence
from typing import Any

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_runtime.errors import DeadlineExceeded
from infermesh_runtime.manifest.model_kind import SPEAK
from infermesh_runtime.rpc.context import RpcContext
from infermesh_runtime.tensors import from_numpy
from infermesh_worker.engine_client.work import Answer, Work
from infermesh_worker.rpc.audio.streaming import Order, answers, check_name, check_range, deadline, to_started
from infermesh_worker.rpc.convert import check_device
from infermesh_worker.rpc.prompts.prompt import invalid
from infermesh_worker.rpc.texts.checks import check_priority
from infermesh_worker.speaking.voice_mix import voice_named
from infermesh_worker.worker import Worker

MOST_CHARS = 65_536
"""About an hour of speech."""
MOST_VOICES = 16
"""Voices that may be joined."""
MOST_UNREAD_S = 300.0
"""How long a client may take no event of its stream: it holds memory, and in the end one of the model's threads, that
others need. A player that is paused for longer asks again for the rest (delivered_pieces)."""
_SAMPLE_RATE = "sample_rate"


async def speak(worker: Worker, request: pb.SpeakRequest, context: RpcContext) -> None:
    """Writes the events of the answer; `started` comes with the first piece, which tells the samples a second."""
    with worker.use(request.model, SPEAK) as hosted:
        check_device(request.device, hosted.client.require_ready())
        work = Work(
            params=_params(request, hosted.opened.voices),
            priority=request.priority,
            deadline_s=deadline(context.time_remaining()),
        )
        order, begun = Order(request.delivered_pieces), False
        async with answers(hosted, work) as parts:
            async for part in parts:
                response = _last(part) if part.last else _piece(part, order)
                if not begun:
                    begun = True
                    started = to_started(hosted, part.params.get(_SAMPLE_RATE, 0))
                    await _write(context, pb.SpeakResponse(started=started))
                await _write(context, response)


async def _write(context: RpcContext, response: pb.SpeakResponse) -> None:
    """Writes an event. Raises DeadlineExceeded when the client has stopped reading."""
    try:
        async with asyncio.timeout(MOST_UNREAD_S):
            await context.write(response)
    except TimeoutError:
        message = f"The sound was not read for {MOST_UNREAD_S:g} s. Ask for the rest with delivered_pieces."
        raise DeadlineExceeded(message, reason="ANSWER_NOT_READ") from None


def _params(request: pb.SpeakRequest, voices: Sequence[str]) -> dict[str, Any]:
    """What the model is told. Raises InvalidArgument."""
    check_priority(request.priority)
    check_name("language", request.language)
    if not request.text.strip():
        raise invalid("text", "must not be empty")
    if len(request.text) > MOST_CHARS:
        raise invalid("text", f"must have at most {MOST_CHARS} characters, not {len(request.text)}")
    speed = request.speed if request.HasField("speed") else 1.0
    check_range("speed", speed, 0.25, 4)
    _check_voice(request.voice, voices)
    return {
        "text": request.text,
        "voice": request.voice,
        "speed": speed,
        "language": request.language.strip(),
        "delivered_pieces": request.delivered_pieces,
    }


def _check_voice(wanted: str, voices: Sequence[str]) -> None:
    """Raises InvalidArgument for a voice that the model does not have. A model that names none decides itself."""
    check_name("voice", wanted)
    names = wanted.split("+") if wanted else []
    if len(names) > MOST_VOICES:
        raise invalid("voice", f"must join at most {MOST_VOICES} voices, not {len(names)}")
    if voices and (unknown := [name for name in names if voice_named(name, voices) is None]):
        raise invalid("voice", f"there is no voice {unknown[0]!r}; the model has {', '.join(voices)}")


def _piece(part: Answer, order: Order) -> pb.SpeakResponse:
    samples = from_numpy(part.tensors["samples"])
    return pb.SpeakResponse(audio=pb.SpeechAudio(index=order.take(part.params["piece"]), samples=samples))


def _last(part: Answer) -> pb.SpeakResponse:
    params = part.params
    return pb.SpeakResponse(finished=pb.SpeakFinished(duration_s=params["duration_s"], characters=params["characters"]))

"""Transcribe and Speak are relayed as Generate is: retried before the first part, moved after it, no part twice."""

from typing import Any

import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.openai.v1 import openai_pb2
from infermesh_router.fleet.faults import STREAM_SILENT
from infermesh_router.relay.poison import ENGINE_CRASHED, POISONED
from infermesh_router.relay.request_digest import digest
from infermesh_router.requests.kinds.sound import read_speak, read_transcribe
from infermesh_router.testing.router import RunningRouter, StartRouter
from infermesh_router.testing.speech import SAMPLE_RATE, SEGMENTS, SpeechWorker, StartSpeech, speak, transcribe
from infermesh_runtime.errors import DeviceNotAvailable, FailedPrecondition, InvalidArgument, NotFound, Unavailable

Fault = tuple[int, Exception | None]
WORDS = "one two three four"
LOST = Unavailable("The engine process ended.", reason="ENGINE_RESTARTING")
CRASH = Unavailable("This request was cut off.", reason=ENGINE_CRASHED)


def heard(events: list[pb.TranscribeResponse]) -> str:
    return "".join(event.segment.text for event in events)


def order(events: list[Any]) -> list[str]:
    return [event.WhichOneof("event") for event in events]


async def test_the_start_says_where_and_why(start_speech: StartSpeech, start_router: StartRouter) -> None:
    worker = await start_speech()
    router = await start_router(worker)
    events = await transcribe(router, prompt="names")
    assert order(events) == ["started", *["segment"] * 4, "finished"]
    started = events[0].started
    assert (started.model, started.endpoint, started.device) == ("ears", worker.address, pb.DEVICE_KIND_CPU)
    assert started.reason
    assert heard(events) == "".join(SEGMENTS)
    assert not events[-1].finished.failovers
    (request,) = worker.heard
    assert (request.audio, request.prompt) == (b"sound", "names")
    assert request.HasField("seed")
    sound = await speak(router, voice="ada")
    assert order(sound) == ["started", *["audio"] * 4, "finished"]
    assert (sound[0].started.endpoint, sound[0].started.sample_rate) == (worker.address, SAMPLE_RATE)
    assert worker.said[0].voice == "ada"


async def test_a_seed_that_was_given_is_kept(start_speech: StartSpeech, start_router: StartRouter) -> None:
    worker = await start_speech()
    await transcribe(await start_router(worker), seed=7)
    assert worker.heard[0].seed == 7


async def test_a_call_without_a_model_gets_the_only_one_of_its_kind(
    start_speech: StartSpeech, start_router: StartRouter
) -> None:
    router = await start_router(await start_speech())
    assert (await transcribe(router, model=""))[0].started.model == "ears"
    assert (await speak(router, model=""))[0].started.model == "mouth"


async def test_the_device_that_is_asked_for_answers(start_speech: StartSpeech, start_router: StartRouter) -> None:
    kinds = (pb.DEVICE_KIND_CPU, pb.DEVICE_KIND_CUDA)
    cpu, cuda = [await start_speech(device=kind) for kind in kinds]
    router = await start_router(cpu, cuda)
    for device, worker in (("cpu", cpu), ("gpu", cuda), ("cuda", cuda), (cpu.address, cpu)):
        assert (await transcribe(router, device=device))[0].started.endpoint == worker.address
        assert (await speak(router, device=device))[0].started.endpoint == worker.address
    assert cpu.heard[-1].device == "auto"  # the endpoint itself knows no addresses
    with pytest.raises(DeviceNotAvailable):
        await transcribe(router, device="xpu")
    with pytest.raises(NotFound):
        await speak(router, model="nobody")


async def test_requests_are_counted_by_model_and_status(start_speech: StartSpeech, start_router: StartRouter) -> None:
    router = await start_router(await start_speech())
    await transcribe(router)
    await speak(router, text="one")
    with pytest.raises(NotFound):
        await speak(router, model="nobody")
    text = (await router.openai.GetMetrics(openai_pb2.GetMetricsRequest())).data.decode()
    for model, code in (("ears", "OK"), ("mouth", "OK"), ("", "NOT_FOUND")):
        assert f'infermesh:router_requests_total{{code="{code}",model_name="{model}"}} 1.0' in text


async def pair(
    start_speech: StartSpeech, start_router: StartRouter, *faults: Fault, **settings: Any
) -> tuple[list[SpeechWorker], RunningRouter]:
    """Two workers and their router. The faults are those of the next calls, whichever worker gets them."""
    shared = list(faults)
    workers = [await start_speech(faults=shared) for _ in range(2)]
    return workers, await start_router(*workers, **settings)


@pytest.mark.parametrize("after", [0, 1, 3, 4])
async def test_what_fails_goes_on_elsewhere_and_no_part_comes_twice(
    start_speech: StartSpeech, start_router: StartRouter, after: int
) -> None:
    workers, router = await pair(start_speech, start_router, (after, LOST), (9, None), (after, LOST))
    for ask, part in ((transcribe, "segment"), (speak, "audio")):
        events: list[Any] = await ask(router)
        assert order(events) == ["started", *[part] * 4, "finished"]
        assert [getattr(event, part).index for event in events[1:-1]] == [0, 1, 2, 3]
        moves = [(move.from_endpoint, move.to_endpoint) for move in events[-1].finished.failovers]
        addresses = {worker.address for worker in workers}
        if ask is speak:
            assert events[-1].finished.duration_s == pytest.approx(0.4)
        begun = events[0].started.endpoint
        assert moves == ([(begun, (addresses - {begun}).pop())] if after else [])
    heard_from = sorted(request.delivered_segments for worker in workers for request in worker.heard)
    said_from = sorted(request.delivered_pieces for worker in workers for request in worker.said)
    assert heard_from == said_from == [0, after]


async def test_a_stream_that_its_client_continues_goes_on_from_there(
    start_speech: StartSpeech, start_router: StartRouter
) -> None:
    workers, router = await pair(start_speech, start_router, (1, LOST))
    events = await transcribe(router, delivered_segments=1)
    assert [event.segment.index for event in events[1:-1]] == [1, 2, 3]
    assert sorted(request.delivered_segments for worker in workers for request in worker.heard) == [1, 2]


async def test_parts_out_of_order_are_a_fault_of_the_endpoint(
    start_speech: StartSpeech, start_router: StartRouter
) -> None:
    workers, router = await pair(start_speech, start_router)
    for worker in workers:
        worker.skip = 1
    events = await speak(router, text="one two three")
    assert [event.audio.index for event in events[1:-1]] == [0, 1, 2]
    assert {move.reason for move in events[-1].finished.failovers} == {"MALFORMED_MESSAGE"}
    assert sorted(request.delivered_pieces for worker in workers for request in worker.said) == [0, 1, 2]


async def test_sound_does_not_go_on_at_another_rate(start_speech: StartSpeech, start_router: StartRouter) -> None:
    workers, router = await pair(start_speech, start_router, (2, LOST))
    workers[0].sample_rate = 16_000
    events = await speak(router)
    begun = events[0].started
    assert [event.audio.index for event in events[1:-1]] == [0, 1, 2, 3]
    assert [(move.from_endpoint, move.to_endpoint) for move in events[-1].finished.failovers] == [
        (begun.endpoint, begun.endpoint)
    ]
    assert all(worker.said for worker in workers)


async def test_a_request_that_engines_die_of_is_refused(start_speech: StartSpeech, start_router: StartRouter) -> None:
    workers = [await start_speech(faults=[(0, CRASH)]) for _ in range(3)]
    router = await start_router(*workers, attempts=4)
    for seed in (1, 2):
        with pytest.raises(FailedPrecondition) as caught:
            await transcribe(router, audio=b"poison", seed=seed)
        assert caught.value.reason == POISONED
    assert sum(len(worker.heard) for worker in workers) == 2
    for worker in workers:
        worker.faults.clear()
    assert heard(await transcribe(router, audio=b"another")) == "".join(SEGMENTS)


def test_the_digest_tells_what_is_asked_for() -> None:
    def transcription(**fields: Any) -> bytes:
        return digest(read_transcribe(pb.TranscribeRequest(**fields).SerializeToString()))

    large = bytes(range(251)) * 9000
    same = {transcription(audio=large, seed=seed, delivered_segments=seed, device="cpu") for seed in (1, 2)}
    assert len(same) == 1
    others = {
        transcription(audio=large, prompt="x"),
        transcription(audio=large + b"x"),
        transcription(audio=b"x" + large[1:]),
        transcription(audio=large[:-1] + b"x"),
    }
    assert len(others | same) == 5

    def speech(**fields: Any) -> bytes:
        return digest(read_speak(pb.SpeakRequest(**fields).SerializeToString()))

    assert speech(text="a", delivered_pieces=3, priority=1) == speech(text="a")
    assert speech(text="a") != speech(text="b")


async def test_a_pause_between_segments_is_no_silence(start_speech: StartSpeech, start_router: StartRouter) -> None:
    workers, router = await pair(start_speech, start_router, stall_timeout_s=0.1, stall_timeout_max_s=0.1)
    for worker in workers:
        worker.pause_s = 0.4
    events = await transcribe(router)
    assert not events[-1].finished.failovers
    assert heard(events) == "".join(SEGMENTS)


async def test_a_stream_that_is_silent_for_ever_is_moved(start_speech: StartSpeech, start_router: StartRouter) -> None:
    short = {"stall_timeout_max_s": 0.1, "first_token_timeout_s": 0.5, "first_token_timeout_max_s": 0.5}
    _, router = await pair(start_speech, start_router, (2, None), stall_timeout_s=0.1, **short)
    events = await transcribe(router)
    assert heard(events) == "".join(SEGMENTS)
    assert [move.reason for move in events[-1].finished.failovers] == [STREAM_SILENT]


def test_what_is_no_request_is_refused() -> None:
    for body in (b"\xff\xff", b"\x0a\xff"):
        with pytest.raises(InvalidArgument):
            read_speak(body)
        with pytest.raises(InvalidArgument):
            read_transcribe(body)
    with pytest.raises(InvalidArgument, match="more than 64 fields"):
        read_transcribe(pb.TranscribeRequest(prompt="x").SerializeToString() * 65)


def test_what_is_beside_the_sound_is_bounded() -> None:
    with pytest.raises(InvalidArgument, match="beside its sound"):
        read_transcribe(pb.TranscribeRequest(prompt="x" * (1 << 20)).SerializeToString())
    with pytest.raises(InvalidArgument, match="beside its sound"):
        read_speak(pb.SpeakRequest(text="x" * (1 << 20)).SerializeToString())
    with pytest.raises(InvalidArgument, match="priority"):
        read_speak(pb.SpeakRequest(text="x", priority=101).SerializeToString())

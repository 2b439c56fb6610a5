"""/props says what llama.cpp's user interfaces read of a model, where it is true of a mesh."""

import grpc
import orjson
import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.openai.v1 import openai_pb2
from infermesh_router.openai.props import show_props
from infermesh_router.testing.loading.loading_worker import LoadingWorker
from infermesh_router.testing.router import StartRouter
from infermesh_runtime.errors import InvalidArgument, ModelNotFound
from infermesh_runtime.rpc.status import from_rpc_error

READY = pb.ENDPOINT_STATE_READY
NEUTRAL = {
    "temperature": 1,
    "top_k": 0,
    "top_p": 1,
    "min_p": 0,
    "repeat_penalty": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "max_tokens": -1,
    "n_predict": -1,
    "seed": 4294967295,
    "stop": [],
}


def report(*loaded: str, on_disk: tuple[str, ...] = ("a", "b")) -> pb.HealthReport:
    return pb.HealthReport(
        state=READY,
        version="1.2",
        models=[
            pb.ModelStatus(name=name, state=READY, context_length=8, load=pb.Load(max_running=32)) for name in loaded
        ],
        available=[pb.AvailableModel(name=name, context_length=4) for name in on_disk],
    )


def test_a_loaded_model() -> None:
    assert show_props(report("a"), "a", {}) == {
        "default_generation_settings": {"n_ctx": 8, "params": NEUTRAL},
        "total_slots": 32,
        "model_alias": "a",
        "model_path": "a",
        "modalities": {"vision": False, "audio": False},
        "build_info": "infermesh 1.2",
        "is_sleeping": False,
    }


def test_a_model_on_disk_sleeps_and_has_no_slots_yet() -> None:
    props = show_props(report("a"), "b", {})
    assert (props["is_sleeping"], props["default_generation_settings"]["n_ctx"]) == (True, 4)
    assert "total_slots" not in props


def test_the_defaults_of_the_model_are_those_of_its_requests() -> None:
    told = report("a")
    told.available[0].defaults.sampling.temperature = 0.2
    told.available[0].defaults.sampling.repetition_penalty = 1.1
    told.available[0].defaults.max_tokens = 512
    params = show_props(told, "a", {})["default_generation_settings"]["params"]
    changed = {"temperature": 0.2, "repeat_penalty": 1.1, "max_tokens": 512, "n_predict": 512}
    assert params == NEUTRAL | changed


def test_without_a_name_the_only_model_is_meant_or_the_only_loaded_one() -> None:
    assert show_props(report(on_disk=("a",)), "", {})["model_alias"] == "a"
    assert show_props(report("b"), "", {})["model_alias"] == "b"
    for several in (report(), report("a", "b")):
        with pytest.raises(InvalidArgument, match=r"/props\?model=NAME; available: a, b") as caught:
            show_props(several, "", {})
        assert list(caught.value.fields) == ["model"]


def test_an_alias_has_the_slots_of_its_models_and_is_no_second_model() -> None:
    told = report("a", on_disk=("a",))
    told.models.append(pb.ModelStatus(name="chat", state=READY, context_length=8))
    aliases = {"chat": ["a"]}
    assert show_props(told, "", aliases)["model_alias"] == "a"
    assert show_props(told, "chat", aliases)["total_slots"] == 32


def test_an_unknown_model_is_refused_with_the_names_of_others() -> None:
    with pytest.raises(ModelNotFound, match="The model 'z' does not exist; available: a, b"):
        show_props(report(), "z", {})


async def test_the_name_comes_in_the_query(start_router: StartRouter) -> None:
    worker = LoadingWorker()
    await worker.start()
    try:
        router = await start_router(worker.address)
        call, request = router.openai.GetProps, openai_pb2.GetPropsRequest()
        answer = orjson.loads((await call(request, metadata=(("x-infermesh-query", "model=n"),))).data)
        assert answer["model_path"] == "n"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(request, metadata=(("x-infermesh-query", "model=%7A"),))
        assert isinstance(from_rpc_error(caught.value), ModelNotFound)
    finally:
        await worker.stop()

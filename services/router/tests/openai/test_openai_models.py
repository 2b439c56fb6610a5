"""/v1/models says what a request may name: what is ready, and what would be loaded for it."""

from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.ollama.listing.models import show_model
from infermesh_router.openai.models import ModelDirectory, find_model, list_models
from infermesh_runtime.errors import ModelNotFound

READY, LOADING = pb.ENDPOINT_STATE_READY, pb.ENDPOINT_STATE_LOADING


def report(state: pb.EndpointState = READY) -> pb.HealthReport:
    return pb.HealthReport(
        state=state,
        models=[
            pb.ModelStatus(name="loaded", state=READY, context_length=8),
            pb.ModelStatus(name="coming", state=LOADING, context_length=8),
        ],
        available=[
            pb.AvailableModel(name=name, context_length=4, created_at=Timestamp(seconds=1767312000))
            for name in ("coming", "disk", "loaded")
        ],
    )


def ids(body: dict[str, Any]) -> list[str]:
    return [model["id"] for model in body["data"]]


def test_models_on_disk_are_listed_where_an_endpoint_could_load_them() -> None:
    assert ids(list_models(report())) == ["coming", "disk", "loaded"]
    assert find_model(report(), "disk")["max_model_len"] == 4
    assert find_model(report(), "loaded")["max_model_len"] == 8
    assert ids(list_models(report(LOADING))) == ["loaded"]


def test_a_model_on_disk_says_when_it_was_imported() -> None:
    assert find_model(report(), "disk")["created"] == 1767312000


def test_a_model_says_how_its_answers_are_sampled() -> None:
    with_defaults = report()
    defaults = pb.GenerationDefaults(sampling=pb.SamplingParams(temperature=0.2, top_p=0.9, top_k=0), max_tokens=512)
    for model in with_defaults.available:
        model.defaults.CopyFrom(defaults)
    for name in ("disk", "loaded"):
        shown = find_model(with_defaults, name)["sampling_defaults"]
        assert shown == {"temperature": 0.2, "top_p": 0.9, "top_k": 0, "max_tokens": 512}
    assert find_model(report(), "disk")["sampling_defaults"] == {}


def test_a_model_says_what_it_is_and_by_what_other_names() -> None:
    told = report()
    told.models[0].size_bytes = 5
    told.available[2].has_chat_template = told.available[2].takes_images = True
    directory = ModelDirectory(lambda: {"chat": ["loaded"], "other": ["x"]}, {"loaded": ["a:1"]}.__getitem__)
    found = directory.find(told, "loaded")
    assert (found["size_bytes"], found["loaded"], found["aliases"]) == (5, True, ["chat"])
    capabilities = {
        "completions": True,
        "chat_completions": True,
        "images": True,
        "tool_calls": None,
        "reasoning": None,
    }
    assert capabilities.items() <= found["capabilities"].items()
    assert found["endpoints"] == ["a:1"]
    assert find_model(told, "disk")["loaded"] is False
    assert find_model(told, "disk")["capabilities"]["chat_completions"] is None


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (pb.MODEL_KIND_EMBED, "embed"),
        (pb.MODEL_KIND_RERANK, "rerank"),
        (pb.MODEL_KIND_INFER, "infer"),
        (pb.MODEL_KIND_TRANSCRIBE, "transcribe"),
    ],
)
def test_a_model_of_another_kind_generates_no_text(number: pb.ModelKind, kind: str) -> None:
    told = report()
    for model in told.available:
        model.kind = number
        model.context_length = 0
    found = find_model(told, "disk")
    able = {"embed": ["embeddings"], "rerank": ["rerank"], "infer": ["infer"]}.get(kind, [])
    assert (found["kind"], found["max_model_len"]) == (kind, None)
    assert [name for name, can in found["capabilities"].items() if can is not False] == able
    assert show_model(told, "disk", {})["capabilities"] == (["embedding"] if kind == "embed" else [])


@pytest.mark.parametrize(
    ("style", "calls", "thinks"),
    [
        (pb.AnswerStyle(), False, False),
        (pb.AnswerStyle(tool_format="hermes", reasoning="think"), True, True),
        (pb.AnswerStyle(tool_format="harmony"), True, True),
    ],
)
def test_a_model_says_whether_it_calls_tools_and_reasons(style: pb.AnswerStyle, calls: bool, thinks: bool) -> None:
    told = report()
    for model in told.available:
        model.answer_style.CopyFrom(style)
    capabilities = find_model(told, "disk")["capabilities"]
    assert (capabilities["tool_calls"], capabilities["reasoning"]) == (calls, thinks)


def test_a_name_that_nobody_has_is_refused_with_those_there_are() -> None:
    with pytest.raises(ModelNotFound, match="'x' does not exist; available: coming, disk, loaded"):
        find_model(report(), "x")

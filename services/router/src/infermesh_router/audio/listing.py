"""Lists voices, and models that speak or transcribe, in the shapes that clients of speech servers read."""

from collections.abc import Iterator
from typing import Any

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.fleet.reports.kinds import KINDS

_AUDIO = frozenset({"speak", "transcribe"})


def list_voices(report: pb.HealthReport, model: str = "") -> dict[str, Any]:
    """The body of /v1/audio/voices: the voices of one model, or of all."""
    listed = [
        {"id": voice, "name": voice, "object": "voice", "model": each.name}
        for each in report.available
        if model in ("", each.name)
        for voice in each.voices
    ]
    return {"object": "list", "voices": listed}


def list_audio_models(report: pb.HealthReport) -> dict[str, Any]:
    """The body of /v1/audio/models."""
    found = {each.name: KINDS.get(each.kind) for each in _models(report)}
    models = [{"id": name, "object": "model", "kind": found[name]} for name in sorted(found)]
    return {"object": "list", "models": [model for model in models if model["kind"] in _AUDIO]}


def _models(report: pb.HealthReport) -> Iterator[pb.ModelStatus | pb.AvailableModel]:
    yield from report.models
    yield from report.available

"""Which models are language models for the protocol: as for the rest of the router."""

import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.fleet.reports.kinds import KINDS
from infermesh_router.kserve.models import generates
from infermesh_runtime.manifest.model_kind import GENERATE


@pytest.mark.parametrize("kind", [*pb.ModelKind.values(), max(pb.ModelKind.values()) + 1])
def test_the_fleets_kinds_say_which_models_generate(kind: pb.ModelKind, monkeypatch: pytest.MonkeyPatch) -> None:
    model = pb.ModelStatus(kind=kind)
    assert generates(model) == (kind in (pb.MODEL_KIND_UNSPECIFIED, pb.MODEL_KIND_GENERATE))
    monkeypatch.setitem(KINDS, kind, GENERATE)
    assert generates(model)

"""Which model is meant by a call that names none, as far as its kind tells."""

from types import SimpleNamespace
from typing import Any

import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.fleet.reports.kinds import KINDS, only_model
from infermesh_runtime.manifest.model_kind import ModelKind

NUMBERS = {kind: number for number, kind in KINDS.items()}


def endpoint(
    *, loaded: dict[str, ModelKind] | None = None, available: dict[str, ModelKind] | None = None, connected: bool = True
) -> Any:
    """An endpoint, as far as it is looked at."""
    report = pb.HealthReport()
    for name, kind in (loaded or {}).items():
        report.models.add(name=name, kind=NUMBERS[kind], state=pb.ENDPOINT_STATE_READY)
    for name, kind in (available or {}).items():
        report.available.add(name=name, kind=NUMBERS[kind])
    return SimpleNamespace(connected=connected, last_report=report)


@pytest.mark.parametrize(
    ("kind", "found"),
    [("transcribe", "ears"), ("speak", "mouth"), ("embed", ""), ("rerank", ""), ("generate", "")],
)
def test_a_model_that_could_be_loaded_is_meant_where_none_of_its_kind_is(kind: ModelKind, found: str) -> None:
    endpoints = [
        endpoint(
            loaded={"ears": "transcribe", "r1": "rerank", "r2": "rerank"},
            available={"other ears": "transcribe", "mouth": "speak", "c": "generate"},
        ),
        endpoint(available={"mouth": "speak", "e1": "embed", "e2": "embed"}),
        endpoint(available={"r": "rerank"}, connected=False),
    ]
    assert only_model(endpoints, kind) == found


def test_the_only_model_of_all_is_found_elsewhere() -> None:
    assert only_model([endpoint(loaded={"ears": "transcribe"})], "transcribe") == ""

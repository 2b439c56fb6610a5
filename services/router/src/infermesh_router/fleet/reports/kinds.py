"""Says what the endpoints' models do, from their reports."""

from collections.abc import Iterable

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.fleet.endpoint import Endpoint
from infermesh_runtime.manifest.model_kind import GENERATE, ModelKind

KINDS: dict[int, ModelKind] = {
    pb.MODEL_KIND_UNSPECIFIED: GENERATE,
    pb.MODEL_KIND_GENERATE: GENERATE,
    pb.MODEL_KIND_EMBED: "embed",
    pb.MODEL_KIND_RERANK: "rerank",
    pb.MODEL_KIND_INFER: "infer",
    pb.MODEL_KIND_TRANSCRIBE: "transcribe",
    pb.MODEL_KIND_SPEAK: "speak",
}
"""The kinds by their number in the contract; a newer worker may report others."""


def only_model(endpoints: Iterable[Endpoint], kind: ModelKind) -> str:
    """The only model of its kind, where the endpoints serve models of other kinds too; "" if the kind does not tell.

    If they serve none of that kind, the only one that could be loaded; but not for text, which most models make.
    """
    reports = [each.last_report for each in endpoints if each.connected and each.last_report is not None]
    served = {
        status.name: KINDS.get(status.kind)
        for report in reports
        for status in report.models
        if status.state != pb.ENDPOINT_STATE_FAILED
    }
    of_kind = [name for name, found in served.items() if found == kind]
    if not of_kind and kind != GENERATE:
        of_kind = list(
            {model.name for report in reports for model in report.available if KINDS.get(model.kind) == kind}
        )
        return of_kind[0] if len(of_kind) == 1 else ""
    return of_kind[0] if len(of_kind) == 1 < len(served) else ""

"""Finds the model of a call that names none: the only one of the kind that the call is for."""

from collections.abc import Callable, Mapping

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.requests.call import EMBED, INFER, SCORE, Call

_KINDS: Mapping[str, pb.ModelKind] = {
    EMBED: pb.MODEL_KIND_EMBED,
    SCORE: pb.MODEL_KIND_RERANK,
    INFER: pb.MODEL_KIND_INFER,
}


def name_only_model(call: Call, make_report: Callable[[], pb.HealthReport]) -> Call:
    """The call, addressed to the only model of its kind; as it is if it names one, or if there is not exactly one."""
    if call.wanted.model:
        return call
    kind = _KINDS.get(call.method, pb.MODEL_KIND_GENERATE)
    names = {model.name for model in make_report().models if (model.kind or pb.MODEL_KIND_GENERATE) == kind}
    return call.for_model(names.pop()) if len(names) == 1 else call

"""Refuses a model that computes NaN or infinity, right after it was built, and names the tensor to blame."""

from infermesh_engine.runners.first_pass import is_finite
from infermesh_engine.sampling.broken import LOGITS_NOT_FINITE
from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker.engine_process.broken_weights import find_broken_weight
from infermesh_worker.engine_process.built_model import BuiltModel


def check_first_pass(model: BuiltModel) -> None:
    """Runs the model once. Raises FailedPrecondition when its logits are not finite."""
    if is_finite(model.runner):
        return
    tensor = find_broken_weight(model.folder) if model.folder is not None else ""
    where = f": the tensor {tensor} holds NaN or infinity" if tensor else ""
    raise FailedPrecondition(
        f"model {model.name!r} computes logits that are not finite (NaN or infinity){where}. Import it again from a "
        "sound source; if its weights are sound, its precision is too low for it",
        reason=LOGITS_NOT_FINITE,
        metadata={"model": model.name},
    )

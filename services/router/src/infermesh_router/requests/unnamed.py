"""Names the model of a call that names none, where what the call asks for tells which one it can be."""

from collections.abc import Callable

from infermesh_router.requests.call import EMBED, INFER, SCORE, SPEAK, TRANSCRIBE, Call
from infermesh_runtime.manifest.model_kind import GENERATE, ModelKind

_KINDS: dict[str, ModelKind] = {
    EMBED: "embed",
    SCORE: "rerank",
    INFER: "infer",
    TRANSCRIBE: "transcribe",
    SPEAK: "speak",
}
"""What the other methods ask of a model; the rest asks it to generate text."""


def name_model(call: Call, only_model: Callable[[ModelKind], str]) -> Call:
    """The call to the only model of its kind, which `only_model` returns; "": the call stays as it is."""
    if call.wanted.model:
        return call
    found = only_model(_KINDS.get(call.method, GENERATE))
    return call.for_model(found) if found else call

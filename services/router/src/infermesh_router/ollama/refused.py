"""Answers the calls of Ollama's API that a mesh does not offer: each says what to use instead."""

from infermesh_runtime.errors import Unimplemented

_INSTEAD = {
    "PullModel": "The mesh does not download models through this API. Fetch it on the mesh's machine: "
    "`infermesh models import hf:OWNER/NAME`, or `infermesh models import --help` for other sources.",
    "PushModel": "The mesh does not publish models. Copy the model's folder instead.",
    "CreateModel": "The mesh does not create models from a Modelfile. Import weights with `infermesh models import`, "
    "and send 'system' and 'options' with each request.",
    "CreateBlob": "The mesh does not take files through this API. Import weights with `infermesh models import`.",
    "CopyModel": "The mesh does not copy models. To give a model another name, add an alias to mesh.yaml.",
    "DeleteModel": "The mesh does not delete models through this API. Use `infermesh models remove NAME`.",
}
CALLS = tuple(_INSTEAD)
ALWAYS_REFUSED = {call: instead for call, instead in _INSTEAD.items() if call != "PullModel"}
"""Calls that are refused whatever they ask for, and what each says."""


def not_offered(call: str) -> Unimplemented:
    """The error of a call."""
    return Unimplemented(_INSTEAD[call], reason="NOT_OFFERED")

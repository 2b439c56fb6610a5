"""Describes models in the protocol's words: metadata, configuration, readiness and the index of the repository."""

from collections.abc import Sequence
from typing import cast

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.open_inference.v2 import open_inference_pb2 as oip
from infermesh.tensor.v1.tensor_pb2 import TensorMetadata
from infermesh_router.fleet.reports.kinds import KINDS
from infermesh_router.kserve.infer.parameters import check_version
from infermesh_router.kserve.tensors.datatypes import NAMES
from infermesh_router.kserve.tensors.values import VERSION
from infermesh_router.kserve.text.schema import EXCLUDE, INPUT, OUTPUT, SAMPLING, STREAM
from infermesh_runtime.errors import ModelNotFound
from infermesh_runtime.manifest.model_kind import GENERATE

SERVER = "infermesh"
EXTENSIONS = (
    "model_repository",
    "model_repository(unload_dependents)",
    "model_configuration",
    "system_shared_memory",
    "binary_tensor_data",
    "parameters",
    "statistics",
    "generate",
    "schedule_policy",
)
"""Triton's names of the extensions that there are."""
Model = pb.ModelStatus | pb.AvailableModel

_TEXT_INPUTS = ((INPUT, "BYTES", False), (STREAM, "BOOL", True), (SAMPLING, "BYTES", True), (EXCLUDE, "BOOL", True))
_ELEMENTS = {"BYTES": "STRING"}
_TRITON_TYPES = {name: cast("oip.DataType", value) for name, value in oip.DataType.items()}
_READY, _LOADING, _UNAVAILABLE = "READY", "LOADING", "UNAVAILABLE"


def generates(model: Model) -> bool:
    """Whether it is a language model."""
    return KINDS.get(model.kind) == GENERATE


def find(report: pb.HealthReport, name: str, version: str) -> Model:
    """The model of this name, with the tensors that are known of it. Raises ModelNotFound."""
    found = known_model(report, name)
    if found is None:
        known = ", ".join(each.name for each in show_index(report, ready=False)) or "none"
        raise ModelNotFound(
            f"The model '{name}' does not exist; available: {known}.",
            metadata={"model": name, "available": known},
            fields={"model": f"available: {known}"},
        )
    check_version(name, version)
    return found


def known_model(report: pb.HealthReport, name: str) -> Model | None:
    """The same; None if there is none."""
    entries: list[Model] = [each for each in report.models if each.name == name]
    entries += [each for each in report.available if each.name == name]
    return max(entries, key=lambda each: len(each.inputs), default=None)


def is_ready(report: pb.HealthReport, name: str) -> bool:
    """Whether an endpoint has the model ready."""
    return any(each.name == name and each.state == pb.ENDPOINT_STATE_READY for each in report.models)


def show_metadata(model: Model, platform: str) -> oip.ModelMetadataResponse:
    """Names, types and shapes of its inputs and outputs."""
    response = oip.ModelMetadataResponse(name=model.name, versions=[VERSION], platform=platform)
    for name, datatype, shape, _ in _inputs(model):
        response.inputs.add(name=name, datatype=datatype, shape=shape)
    for name, datatype, shape in _outputs(model):
        response.outputs.add(name=name, datatype=datatype, shape=shape)
    return response


def show_config(model: Model, platform: str) -> oip.ModelConfig:
    """Its configuration."""
    config = oip.ModelConfig(name=model.name, platform=platform, backend=SERVER)
    for name, datatype, shape, optional in _inputs(model):
        config.input.add(name=name, data_type=_element(datatype), dims=shape, optional=optional)
    for name, datatype, shape in _outputs(model):
        config.output.add(name=name, data_type=_element(datatype), dims=shape)
    config.model_transaction_policy.decoupled = generates(model)
    return config


def show_index(report: pb.HealthReport, *, ready: bool) -> list[oip.RepositoryIndexResponse.ModelIndex]:
    """All models that are loaded or could be, sorted by name; with `ready` those that are loaded."""
    entries = {
        each.name: _entry(each.name, _UNAVAILABLE, "it is not loaded; a request loads it") for each in report.available
    }
    for each in report.models:
        loading = each.state == pb.ENDPOINT_STATE_LOADING
        state = _READY if each.state == pb.ENDPOINT_STATE_READY else _LOADING if loading else _UNAVAILABLE
        entries[each.name] = _entry(each.name, state, "" if state == _READY else "it is not ready")
    return [entries[name] for name in sorted(entries) if not ready or entries[name].state == _READY]


def _entry(name: str, state: str, reason: str) -> oip.RepositoryIndexResponse.ModelIndex:
    return oip.RepositoryIndexResponse.ModelIndex(name=name, version=VERSION, state=state, reason=reason)


def _inputs(model: Model) -> list[tuple[str, str, Sequence[int], bool]]:
    if generates(model):
        return [(name, datatype, (1,), optional) for name, datatype, optional in _TEXT_INPUTS]
    return [(*_tensor(each), False) for each in model.inputs]


def _outputs(model: Model) -> list[tuple[str, str, Sequence[int]]]:
    return [(OUTPUT, "BYTES", (1,))] if generates(model) else [_tensor(each) for each in model.outputs]


def _tensor(described: TensorMetadata) -> tuple[str, str, Sequence[int]]:
    return described.name, NAMES.get(described.dtype, ""), (-1,) if described.any_rank else described.shape


def _element(datatype: str) -> oip.DataType:
    """Triton's number of a type in a configuration; TYPE_INVALID if it has none."""
    return _TRITON_TYPES.get(f"TYPE_{_ELEMENTS.get(datatype, datatype)}", oip.TYPE_INVALID)

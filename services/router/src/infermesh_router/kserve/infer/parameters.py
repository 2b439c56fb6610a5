"""What the parameters of requests, inputs and outputs mean, and which are refused because nothing here honours them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from infermesh_router.kserve.tensors.values import VERSION, Parameters, Value, Window
from infermesh_router.requests.call import MAX_PRIORITY
from infermesh_runtime.errors import InvalidArgument, ModelNotFound

_SEQUENCE = "sequence_"
_REGION, _SIZE, _OFFSET = "shared_memory_region", "shared_memory_byte_size", "shared_memory_offset"
BINARY_OUTPUT = "binary_data_output"
EMPTY_FINAL = "triton_enable_empty_final_response"
_MAX_TIMEOUT_US = 24 * 3600 * 1_000_000
CARRIED = frozenset({"priority", "timeout", "device", BINARY_OUTPUT, EMPTY_FINAL})
"""Those that say how a request is carried, whatever the model."""


@dataclass(frozen=True, slots=True)
class Carriage:
    """How a request is carried."""

    device: str = ""
    priority: int = 0
    """As in the gRPC contract: larger is served first."""
    timeout_s: float | None = None


def read_carriage(parameters: Parameters) -> Carriage:
    """How a request is to be carried. Raises InvalidArgument.

    `priority`: smaller is served first, as in Triton; 0, the default, comes before all others. `timeout` is in
    microseconds. `device` is as in GenerateRequest.
    """
    for name in parameters:
        if name.startswith(_SEQUENCE):
            raise bad_parameter(name, "is not supported: models here keep nothing from one request to the next")
    priority = _whole(parameters, "priority", 0, MAX_PRIORITY) or 0
    timeout_us = _whole(parameters, "timeout", 0, _MAX_TIMEOUT_US)
    device = parameters.get("device", "")
    if not isinstance(device, str):
        raise bad_parameter("device", "must be a text such as cpu or gpu")
    return Carriage(device, -priority, timeout_us / 1e6 if timeout_us else None)


def refuse_others(parameters: Collection[str]) -> None:
    """Raises InvalidArgument for a parameter that says nothing to a model that takes tensors."""
    for name in parameters:
        if name not in CARRIED:
            known = ", ".join(sorted(CARRIED))
            raise bad_parameter(name, f"has no meaning for this model; the parameters of a request are {known}")


def read_window(parameters: Mapping[str, Value], tensor: str, others: Collection[str]) -> Window | None:
    """The part of shared memory that the parameters of an input or output name; None if they name none.

    `others` are the parameters that it may have besides. Raises InvalidArgument.
    """
    for name in parameters:
        if name not in (_REGION, _SIZE, _OFFSET) and name not in others:
            raise bad_parameter(name, f"is not supported for the tensor '{tensor}'")
    region = parameters.get(_REGION)
    if region is None:
        if _SIZE in parameters or _OFFSET in parameters:
            raise bad_parameter(_REGION, f"is required for the tensor '{tensor}', which has a size or an offset")
        return None
    size = _whole(parameters, _SIZE, 0, 1 << 62)
    if not isinstance(region, str) or size is None:
        problem = f"of the tensor '{tensor}' must be the name of a region, and {_SIZE} a number of bytes"
        raise bad_parameter(_REGION, problem)
    return Window(region, _whole(parameters, _OFFSET, 0, 1 << 62) or 0, size)


def window_parameters(window: Window) -> dict[str, Value]:
    """The parameters of an output that was put there."""
    return {_REGION: window.region, _OFFSET: window.offset, _SIZE: window.size_bytes}


def check_version(model: str, version: str) -> None:
    """Raises ModelNotFound for a version that there is not."""
    if version not in ("", VERSION):
        raise ModelNotFound(
            f"The model '{model}' has no version '{version}'; it has the version {VERSION} alone.",
            metadata={"model": model},
            fields={"model_version": f"must be {VERSION} or empty"},
        )


def read_flag(parameters: Parameters, name: str) -> bool | None:
    """A parameter that is true or false; None if it is not there. Raises InvalidArgument."""
    value = parameters.get(name)
    if value is None or isinstance(value, bool):
        return value
    raise bad_parameter(name, "must be true or false")


def bad_parameter(name: str, problem: str) -> InvalidArgument:
    """The error for a parameter, with a sentence of which it is the subject."""
    return InvalidArgument(
        f"The parameter '{name}' {problem}.", reason="UNSUPPORTED_PARAMETER", fields={f"parameters.{name}": problem}
    )


def _whole(parameters: Mapping[str, Value], name: str, least: int, most: int) -> int | None:
    value = parameters.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise bad_parameter(name, f"must be a whole number from {least} to {most}")
    return value

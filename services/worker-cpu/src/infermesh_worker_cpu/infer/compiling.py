"""Compiles a model of tensors for the CPU, with the compiled form kept on disk beside the model."""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import openvino as ov

from infermesh_runtime import machine
from infermesh_runtime.errors import FailedPrecondition, ResourceExhausted

CACHE = ".compiled"
"""Folder in a model folder; hidden, so that it is no part of the model."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class InferOptions:
    """How a model of tensors is compiled."""

    numerics: Literal["fast", "exact"] = "fast"
    """fast: the precision that the processor is quickest in, such as bf16; exact: that of the model."""
    threads: int = 0
    """Number of threads; 0: one for each processor that this process may use."""
    batched: bool = False
    """Whether requests are batched. Then one batch at a time has all threads; else each request has its share."""
    float32: bool = False
    """Whether to compute in float32 even where weights are of 16 bits, whatever `numerics` says."""
    keep_shapes: bool = True
    """Whether kernels are kept for each shape of input; False for a model whose lengths hardly ever come again."""


def read(core: ov.Core, graph: Path) -> ov.Model:
    """Reads a model file. Raises FailedPrecondition, with OpenVINO's reason, for one that it cannot read."""
    try:
        return core.read_model(graph)
    except RuntimeError as error:
        raise FailedPrecondition(
            f"OpenVINO cannot read {graph.name}: {reason_of(error)}", reason="MODEL_NOT_SUPPORTED"
        ) from error


def compile_for_cpu(core: ov.Core, model: ov.Model, options: InferOptions, folder: Path | None) -> ov.CompiledModel:
    """Compiles a model. `folder`: the model folder, where the compiled form is kept; None: nowhere.

    Raises ResourceExhausted, and FailedPrecondition with OpenVINO's reason.
    """
    properties: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY" if options.batched else "THROUGHPUT",
        "INFERENCE_NUM_THREADS": options.threads or machine.usable_processors(),
    }
    if options.numerics == "exact":
        properties["EXECUTION_MODE_HINT"] = "ACCURACY"
    if options.float32:
        properties["INFERENCE_PRECISION_HINT"] = "f32"
    if not options.keep_shapes:
        properties["CPU_RUNTIME_CACHE_CAPACITY"] = 0
    cache = _cache(folder)
    try:
        if cache is not None:
            try:
                return core.compile_model(model, "CPU", {**properties, "CACHE_DIR": str(cache)})
            except RuntimeError as error:  # the kept form may be damaged
                _log.warning("compiling without what was kept", extra={"reason": reason_of(error)})
                shutil.rmtree(cache, ignore_errors=True)
        return core.compile_model(model, "CPU", properties)
    except MemoryError as error:
        raise ResourceExhausted("there is too little memory for this model", reason="OUT_OF_MEMORY") from error
    except RuntimeError as error:
        raise FailedPrecondition(
            f"OpenVINO cannot compile it: {reason_of(error)}", reason="MODEL_NOT_SUPPORTED"
        ) from error


def reason_of(error: BaseException) -> str:
    """The last line of an OpenVINO message, which tells what was wrong; source locations come before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _cache(folder: Path | None) -> Path | None:
    """The folder for compiled forms; None where it cannot be written."""
    if folder is None:
        return None
    try:
        (folder / CACHE).mkdir(exist_ok=True)
        probe = folder / CACHE / ".probe"
        probe.touch()
        probe.unlink()
    except OSError:
        return None
    return folder / CACHE

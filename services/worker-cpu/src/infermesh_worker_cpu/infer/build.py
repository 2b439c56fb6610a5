"""Builds a model of tensors in the engine process, from a model folder."""

from collections.abc import Mapping
from typing import Any

import openvino as ov

from infermesh_runtime.manifest.model_kind import ALONE
from infermesh_worker.executors.executor import BuiltExecutor
from infermesh_worker.models.model_folder import ModelFolder
from infermesh_worker.tensor_models.files import graph_file

from .compiling import InferOptions, compile_for_cpu, read
from .executor import OpenVinoExecutor
from .model_files import SUFFIXES


def build_infer(folder: ModelFolder, options: Mapping[str, Any]) -> BuiltExecutor:
    """Builds the model. `options`: those of worker-cpu, of which "numerics" and "threads" count.

    Raises FailedPrecondition, and ResourceExhausted when it does not fit in the memory.
    """
    manifest = folder.manifest
    limits = manifest.batching or ALONE
    batched = limits.max_size > 1
    chosen = InferOptions(numerics=options["numerics"], threads=options["threads"], batched=batched)
    core = ov.Core()
    model = read(core, graph_file(folder.path, manifest, SUFFIXES))
    compiled = compile_for_cpu(core, model, chosen, folder.path)
    executor = OpenVinoExecutor(compiled, batched=batched, weights_bytes=manifest.size_bytes)
    return BuiltExecutor(
        executor=executor,
        kind="infer",
        name=manifest.name,
        inputs=executor.inputs,
        outputs=executor.outputs,
        limits=limits,
    )

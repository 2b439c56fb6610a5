"""Builds a model of kind embed or rerank in the engine process: a Hugging Face folder, or an ONNX export."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import openvino as ov

from infermesh_runtime.errors import FailedPrecondition
from infermesh_runtime.manifest.model_kind import RERANK, ModelKind
from infermesh_runtime.manifest.text_encoder import EncoderFacts
from infermesh_worker.executors.executor import BuiltExecutor
from infermesh_worker.executors.text_executor import built_text_model
from infermesh_worker.models.encoder_export import stated
from infermesh_worker.models.model_folder import ModelFolder
from infermesh_worker_cpu.infer.compiling import InferOptions, compile_for_cpu

from .config import read_config
from .encoder import OpenVinoEncoder
from .graph import encoder_graph
from .onnx_export import open_export

MOST_TOKENS = 4096
"""In a batch, padding included: with more, a CPU is not quicker, and others wait longer."""


def build_encoder(folder: ModelFolder, options: Mapping[str, Any]) -> BuiltExecutor:
    """Builds the model. `options`: those of worker-cpu, of which "numerics" and "threads" count.

    Raises FailedPrecondition, and ResourceExhausted when it does not fit in the memory.
    """
    manifest = folder.manifest
    chosen = InferOptions(numerics=options["numerics"], threads=options["threads"], batched=True)
    encoder = load_encoder(folder.path, manifest.kind, chosen, manifest.context_length, manifest.size_bytes)
    facts = manifest.encoder or EncoderFacts()
    return built_text_model(
        encoder, kind=manifest.kind, name=manifest.name, most_tokens=MOST_TOKENS, activation=facts.activation
    )


def load_encoder(
    folder: Path, kind: ModelKind, options: InferOptions, context_length: int, weights_bytes: int
) -> OpenVinoEncoder:
    """Compiles the model in a folder, as imported or before. Raises FailedPrecondition and ResourceExhausted."""
    core = ov.Core()
    scores = kind == RERANK
    if any(folder.glob("*.safetensors")):
        config = read_config(folder)
        model, output = encoder_graph(folder, config, scores=scores), 0
        pad_id, offset, vocab_size = config.pad_id, config.position_offset, config.vocab_size
        if scores and config.labels != 1:
            raise FailedPrecondition(
                f"its head has {config.labels} outputs; a model that scores has one", reason="MODEL_NOT_SUPPORTED"
            )
    else:
        model, output = open_export(core, folder, scores=scores)
        pad_id, offset, vocab_size = stated(folder, "pad_token_id"), 0, stated(folder, "vocab_size")
    return OpenVinoEncoder(
        compile_for_cpu(core, model, options, None),
        pad_id=pad_id,
        position_offset=offset,
        output=output,
        context_length=context_length,
        vocab_size=vocab_size,
        weights_bytes=weights_bytes,
    )

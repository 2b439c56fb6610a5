"""Builds a model of kind transcribe in the engine process: a Hugging Face folder of Whisper."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import openvino as ov

from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker.executors.executor import BuiltExecutor
from infermesh_worker.models.model_folder import ModelFolder
from infermesh_worker.speech.config import SpeechConfig, read_speech_config
from infermesh_worker.speech.executor import built_speech_model
from infermesh_worker.speech.footprint import PARALLEL
from infermesh_worker.speech.transcriber import Transcriber
from infermesh_worker_cpu.encoders.weights import FolderWeights
from infermesh_worker_cpu.infer.compiling import InferOptions, compile_for_cpu, reason_of

from .decoder_graph import decoder_graph
from .encoder_graph import encoder_graph
from .session import OpenVinoSpeech


def build_speech(folder: ModelFolder, options: Mapping[str, Any]) -> BuiltExecutor:
    """Builds the model. `options`: those of worker-cpu, of which "numerics" and "threads" count.

    Raises FailedPrecondition, and ResourceExhausted when it does not fit in the memory.
    """
    chosen = InferOptions(numerics=options["numerics"], threads=options["threads"], batched=True)
    tokenizer = folder.load_tokenizer()
    config = read_speech_config(folder.path, tokenizer)
    device = load_speech(folder.path, config, chosen, folder.manifest.size_bytes)
    return built_speech_model(Transcriber(device, config, tokenizer), name=folder.manifest.name, parallel=PARALLEL)


def load_speech(folder: Path, config: SpeechConfig, options: InferOptions, weights_bytes: int) -> OpenVinoSpeech:
    """Compiles the model in a folder, as imported or before. Raises FailedPrecondition and ResourceExhausted."""
    core = ov.Core()
    weights = FolderWeights(folder, ("model.",))
    try:
        encoder, decoder = encoder_graph(config, weights), decoder_graph(config, weights)
    except (RuntimeError, IndexError, ValueError) as error:
        raise FailedPrecondition(
            f"the weights do not fit config.json: {reason_of(error)}", reason="MODEL_NOT_SUPPORTED"
        ) from error
    return OpenVinoSpeech(
        compile_for_cpu(core, encoder, options, None),
        compile_for_cpu(core, decoder, options, None),
        config,
        weights_bytes,
    )

"""Builds a model of kind transcribe in the engine process, from a Hugging Face folder of Whisper."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from infermesh_runtime import machine
from infermesh_worker.executors.executor import BuiltExecutor
from infermesh_worker.models.model_folder import ModelFolder
from infermesh_worker.speech.config import SpeechConfig, read_speech_config
from infermesh_worker.speech.executor import built_speech_model
from infermesh_worker.speech.footprint import PARALLEL
from infermesh_worker.speech.transcriber import Transcriber
from infermesh_worker_xpu import device as devices
from infermesh_worker_xpu.options import TorchOptions
from infermesh_worker_xpu.whisper.loading import load, precision
from infermesh_worker_xpu.whisper.session import TorchSpeech


def build_speech(folder: ModelFolder, options: Mapping[str, Any]) -> BuiltExecutor:
    """Builds the model. `options`: fields of TorchOptions. Raises FailedPrecondition."""
    tokenizer = folder.load_tokenizer()
    config = read_speech_config(folder.path, tokenizer)
    transcriber = Transcriber(load_speech(folder.path, config, TorchOptions(**options)), config, tokenizer)
    return built_speech_model(transcriber, name=folder.manifest.name, parallel=PARALLEL)


def load_speech(folder: Path, config: SpeechConfig, options: TorchOptions) -> TorchSpeech:
    """Loads the model in a folder, as imported or before. Raises FailedPrecondition."""
    device = devices.select(options.device, options.device_index)
    torch.set_num_threads(options.threads or machine.usable_processors())
    return TorchSpeech(load(folder, device, precision(device, options)), device, config)

"""Refuses checkpoints whose weights are quantised in a way that transformers would load as something else."""

import json
from pathlib import Path

from infermesh_runtime.errors import FailedPrecondition


def check_quantisation(folder: Path) -> None:
    """Raises FailedPrecondition that names the method by which the weights were quantised, if config.json has one.

    Without a GPU, transformers loads some of them as something else, and it ignores methods that it does not know.
    """
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return  # transformers says what is wrong
    for part in (config, config.get("text_config") or {}):
        if described := part.get("quantization_config") or part.get("compression_config"):
            raise FailedPrecondition(
                "worker-xpu cannot load this model: its weights are quantised with "
                f"{described.get('quant_method', 'an unknown method')}; import the model that it was made from, or a "
                "GGUF file of it",
                reason="MODEL_NOT_SUPPORTED",
            )

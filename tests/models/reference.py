"""Makes a folder of a GGUF file's dequantised weights with transformers alone, and says what such a folder computes.

`python -m tests.models.reference dequantise GGUF FOLDER` reads the weights with transformers' own reader of GGUF files.
`python -m tests.models.reference follow FOLDER` reads {"prompts", "outputs"} from stdin. It is a process of its own,
with nothing of infermesh in it. The last line that it prints is one JSON document.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GgufConfig


def dequantise(gguf: Path, folder: Path) -> dict[str, Any]:
    """Writes config.json and float32 weights; returns the configuration."""
    model: Any = AutoModelForCausalLM.from_pretrained(
        str(gguf.parent), gguf_file=gguf.name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    model.save_pretrained(folder)
    configuration: dict[str, Any] = model.config.to_dict()
    return configuration


def follow(folder: Path, asked: dict[str, list[list[int]]]) -> dict[str, list[list[float]]]:
    """For each token of each output, after those before it: its log probability, and how far it is below the highest.

    Both come from one forward pass over prompt and output in float32, with transformers' plain attention.
    """
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    found: dict[str, list[list[float]]] = {"log_probabilities": [], "behind": []}
    for prompt, output in zip(asked["prompts"], asked["outputs"], strict=True):
        with torch.inference_mode():
            rows = model(torch.tensor([[*prompt, *output][:-1]])).logits[0, len(prompt) - 1 :].log_softmax(-1)
        chosen = rows[torch.arange(len(output)), torch.tensor(output)]
        found["log_probabilities"].append(chosen.tolist())
        found["behind"].append((rows.max(-1).values - chosen).tolist())
    return found


if __name__ == "__main__":
    command, *paths = sys.argv[1:]
    if command == "dequantise":
        told: dict[str, Any] = dequantise(*map(Path, paths))
    else:
        told = follow(Path(paths[0]), json.load(sys.stdin))
    print(json.dumps(told), flush=True)

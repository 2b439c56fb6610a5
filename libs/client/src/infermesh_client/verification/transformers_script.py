"""Compares answers with transformers: `python transformers_script.py FOLDER`, in the converter environment.

Reads {"answers": [[[prompt ids], [output ids]], ...], "near_tie": 0.01} from stdin and prints, for each token of each
output, whether it is the most probable one: {"agreements": [[true, ...], ...]}, or {"error": "..."}. What libraries
print goes to stderr.
"""

import json
import os
import sys
from typing import Any


def agreements(folder: str, answers: list[list[list[int]]], near_tie: float) -> list[list[bool]]:
    """One forward pass of each answer on the folder's own weights, in float32."""
    import torch  # noqa: PLC0415 - only in the converter environment
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText  # noqa: PLC0415 - same

    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    writes = type(AutoConfig.from_pretrained(folder, **options)) in AutoModelForCausalLM._model_mapping
    kind = AutoModelForCausalLM if writes else AutoModelForImageTextToText
    model: Any = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", **options)
    found = []
    for prompt, output in answers:
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *output][:-1]])).logits[0]
        rows = logits[len(prompt) - 1 :]
        chosen = rows[torch.arange(len(output)), torch.tensor(output, dtype=torch.long)]
        found.append((chosen >= rows.max(-1).values - near_tie).tolist())
    return found


def main() -> int:
    """Returns the exit code: 0, or 1 after an error that it has told."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    asked = json.load(sys.stdin)
    try:
        answer: dict[str, object] = {"agreements": agreements(sys.argv[1], asked["answers"], asked["near_tie"])}
    except Exception as error:  # a boundary: what the parent is told is all that the user sees
        answer = {"error": (str(error).strip().splitlines() or [type(error).__name__])[-1]}
    json.dump(answer, channel)
    channel.close()
    return 1 if "error" in answer else 0


if __name__ == "__main__":
    sys.exit(main())

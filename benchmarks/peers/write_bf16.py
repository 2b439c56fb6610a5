"""Writes a GGUF model as a Hugging Face folder in bf16, once; runs in the venv of vLLM, which has transformers.

`python write_bf16.py FOLDER TARGET`: FOLDER has model.gguf, tokenizer.json, config.json and chat_template.jinja.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM


def main(folder: Path, target: Path) -> None:
    if (target / "tokenizer_config.json").exists():  # the last file that is written
        return
    target.mkdir(parents=True, exist_ok=True)
    model = AutoModelForCausalLM.from_pretrained(str(folder), gguf_file="model.gguf", dtype=torch.bfloat16)
    # The weights are bf16 now, but transformers writes no model that it remembers as a GGUF one.
    del model.hf_quantizer
    del model.config.quantization_config
    model.save_pretrained(str(target))
    for name in ("tokenizer.json", "chat_template.jinja"):
        shutil.copy(folder / name, target / name)
    special = json.loads((folder / "config.json").read_text())["special_tokens"]
    (target / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **special}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

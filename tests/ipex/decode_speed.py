"""Measures decoding with and without IPEX in the lane's venv; the last stdout line is one JSON document.

    build/venv-ipex/bin/python tests/ipex/decode_speed.py [model folder]

Every round measures four variants: torch's own linear layers; the worker's packed ones; packed ones with IPEX on top,
which is what the worker runs; IPEX alone. Attention and KV cache are transformers'.
"""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "0")  # read when torch is loaded; waiting threads then use no CPU time

import copy
import json
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, DynamicCache, GgufConfig, PreTrainedModel

from infermesh_worker_xpu.loading import ipex, packing

DEFAULT_MODEL = Path("build/models/smollm2-135m-instruct")
PROMPT_TOKENS, STEPS, ROUNDS, THREADS = 64, 16, 6, 2


@dataclass(slots=True)
class Figures:
    """Times of every decode step of every round."""

    wall_s: list[float] = field(default_factory=list)
    processor_s: list[float] = field(default_factory=list)

    def report(self, sequences: int) -> dict[str, float]:
        return {
            "best_tokens_per_s": round(sequences / min(self.wall_s), 1),
            "median_tokens_per_s": round(sequences / statistics.median(self.wall_s), 1),
            "median_processor_ms_per_step": round(1e3 * statistics.median(self.processor_s), 1),
        }


def load(folder: Path) -> dict[str, PreTrainedModel]:
    """The model in each variant, in bf16."""
    plain: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file="model.gguf", quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
    )
    plain.train(mode=False)
    models = {"torch": plain}
    for way, packed, extended in (("packed", True, False), ("packed + ipex", True, True), ("ipex", False, True)):
        model = models[way] = copy.deepcopy(plain)
        if packed:
            packing.pack(model)
        if extended and not ipex.optimise(model, device=torch.device("cpu"), dtype=torch.bfloat16).runtime:
            raise SystemExit(f"IPEX did not optimise: {ipex.why_unusable(torch.device('cpu'))}")
    return models


@torch.inference_mode()
def decode(model: PreTrainedModel, sequences: int, figures: Figures) -> None:
    cache = DynamicCache()
    ids = torch.arange(100, 100 + PROMPT_TOKENS).repeat(sequences, 1)
    for step in range(STEPS + 1):
        wall, processor = time.perf_counter(), time.process_time()
        logits = model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        ids = logits[:, -1].argmax(-1, keepdim=True)
        if step:  # the first is the prompt
            figures.wall_s.append(time.perf_counter() - wall)
            figures.processor_s.append(time.process_time() - processor)


def main() -> None:
    torch.set_num_threads(THREADS)
    models = load(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_MODEL)
    report: dict[str, object] = {"runtime": f"torch {torch.__version__}, {ipex.runtime_name()}", "threads": THREADS}
    for sequences in (1, 8):
        figures = {way: Figures() for way in models}
        for _ in range(ROUNDS):
            for way, model in models.items():
                decode(model, sequences, figures[way])
        report[f"{sequences} sequences"] = {way: taken.report(sequences) for way, taken in figures.items()}
    print(json.dumps(report))


if __name__ == "__main__":
    main()

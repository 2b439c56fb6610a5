"""Contestant: openvino-genai's ContinuousBatchingPipeline, in process, on the same GGUF file."""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino_genai as genai

from benchmarks.contest.contestant import answer_rounds
from benchmarks.contest.prompts import NEW_TOKENS, prompts


def main(model_folder: Path) -> None:
    scheduler = genai.SchedulerConfig()
    scheduler.cache_size = 1
    scheduler.max_num_batched_tokens = 4096
    pipeline = genai.ContinuousBatchingPipeline(str(model_folder / "model.gguf"), scheduler, "CPU", {})
    config = genai.GenerationConfig()
    config.max_new_tokens = NEW_TOKENS
    config.ignore_eos = True
    config.do_sample = False

    def run(round_number: int, streams: int) -> dict[str, Any]:
        inputs = [ov.Tensor(np.array([ids], np.int64)) for ids in prompts(round_number, streams)]
        began = time.perf_counter()
        results = pipeline.generate(inputs, [config] * streams)
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "tokens": sum(len(r.m_generation_ids[0]) for r in results)}

    answer_rounds(run)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

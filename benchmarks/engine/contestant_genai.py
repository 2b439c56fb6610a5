"""Contestant: openvino-genai's ContinuousBatchingPipeline, in process, on the same GGUF file."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino_genai as genai

from benchmarks.contest.contestant import answer_rounds
from benchmarks.engine.questions import DRAWN, NEW_TOKENS, TEMPERATURE, TOP_P, Asked, Asker


def config_of(asked: Asked, eos_token_ids: list[int]) -> genai.GenerationConfig:
    config = genai.GenerationConfig()
    config.max_new_tokens = NEW_TOKENS
    config.ignore_eos = asked.ignore_eos
    config.do_sample = asked.sampled
    config.stop_strings = set(asked.stop)
    if not asked.ignore_eos:
        config.eos_token_id = eos_token_ids[-1]
        config.stop_token_ids = set(eos_token_ids)
    if asked.sampled:
        config.temperature, config.top_p, config.rng_seed = TEMPERATURE, TOP_P, asked.seed
    return config


def main(model_folder: Path) -> None:
    scheduler = genai.SchedulerConfig()
    scheduler.cache_size = 1
    scheduler.max_num_batched_tokens = 4096
    pipeline = genai.ContinuousBatchingPipeline(str(model_folder / "model.gguf"), scheduler, "CPU", {})
    eos_token_ids = json.loads((model_folder / "config.json").read_text())["eos_token_id"]
    asker = Asker(model_folder)

    def run(round_number: int, streams: int, name: str = DRAWN) -> dict[str, Any]:
        requests = asker(round_number, streams, name)
        inputs = [ov.Tensor(np.array([asked.token_ids], np.int64)) for asked in requests]
        configs = [config_of(asked, eos_token_ids) for asked in requests]
        began = time.perf_counter()
        results = pipeline.generate(inputs, configs)
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "tokens": sum(len(r.m_generation_ids[0]) for r in results)}

    answer_rounds(run)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

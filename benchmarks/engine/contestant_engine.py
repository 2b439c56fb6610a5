"""Contestant: our engine on OpenVINO, in process; also measures the Python work of a step."""

import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.contest.contestant import answer_rounds
from benchmarks.contest.prompts import NEW_TOKENS, prompts
from infermesh_engine.engine import Engine, EngineConfig
from infermesh_engine.requests.output import Delta
from infermesh_engine.requests.request import GenerationRequest, SamplingParams, StopConditions
from infermesh_engine.runners.runner import Batch, Logits, ModelRunner, RunnerInfo
from infermesh_worker_cpu.build_model import build_model


class TimedRunner:
    """A runner that adds up the time spent in the device; the rest of a step is the engine's own work."""

    def __init__(self, runner: ModelRunner) -> None:
        self._runner = runner
        self.seconds = 0.0
        self.thread_seconds = 0.0
        """CPU time of the calling thread: unlike `seconds`, it does not grow when other programs need the processor."""

    @property
    def info(self) -> RunnerInfo:
        return self._runner.info

    def run(self, batch: Batch) -> Logits:
        began, thread_began = time.perf_counter(), time.thread_time()
        logits = self._runner.run(batch)
        self.seconds += time.perf_counter() - began
        self.thread_seconds += time.thread_time() - thread_began
        return logits

    def memory_free_bytes(self) -> int:
        return self._runner.memory_free_bytes()

    def close(self) -> None:
        self._runner.close()


def request(number: int, token_ids: list[int]) -> GenerationRequest:
    return GenerationRequest(
        request_id=str(number),
        prompt_token_ids=tuple(token_ids),
        seed=0,
        sampling=SamplingParams(temperature=0.0),
        stop=StopConditions(max_tokens=NEW_TOKENS, ignore_eos=True),
    )


def main(model_folder: Path, numerics: str) -> None:
    model = build_model({"folder": str(model_folder), "numerics": numerics, "kv_cache_bytes": 1 << 30})
    runner = TimedRunner(model.runner)
    engine = Engine(runner, model.tokenizer, model.eos_token_ids, EngineConfig(max_batched_tokens=2048))

    def run(round_number: int, streams: int) -> dict[str, Any]:
        runner.seconds, steps, tokens = 0.0, 0, 0
        began = time.perf_counter()
        for number, token_ids in enumerate(prompts(round_number, streams)):
            engine.submit(request(number, token_ids))
        while engine.has_work:
            tokens += sum(len(output.token_ids) for output in engine.step() if isinstance(output, Delta))
            steps += 1
        seconds = time.perf_counter() - began
        python_ms = (seconds - runner.seconds) / steps * 1e3
        return {"seconds": seconds, "tokens": tokens, "steps": steps, "python_ms_per_step": python_ms}

    answer_rounds(run)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "fast")

"""Contestant: our engine on OpenVINO, in process; also measures the Python work of a step."""

import argparse
import time
from pathlib import Path
from typing import Any, Literal

from benchmarks.contest.contestant import answer_rounds
from benchmarks.engine.questions import DRAWN, NEW_TOKENS, TEMPERATURE, TOP_P, Asked, Asker
from infermesh_engine.engine import Engine, EngineConfig
from infermesh_engine.requests.output import Delta, Failed
from infermesh_engine.requests.request import GenerationRequest, SamplingParams, StopConditions
from infermesh_engine.runners.runner import Batch, Logits, ModelRunner, RunnerInfo
from infermesh_engine.speculation.options import SpeculationOptions
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


def request(number: int, asked: Asked) -> GenerationRequest:
    sampled, greedy = SamplingParams(temperature=TEMPERATURE, top_p=TOP_P), SamplingParams(temperature=0.0)
    return GenerationRequest(
        request_id=str(number),
        prompt_token_ids=asked.token_ids,
        seed=asked.seed,
        sampling=sampled if asked.sampled else greedy,
        stop=StopConditions(max_tokens=NEW_TOKENS, ignore_eos=asked.ignore_eos, strings=asked.stop),
    )


def main(model_folder: Path, numerics: str, speculation: Literal["off", "auto"]) -> None:
    model = build_model({"folder": str(model_folder), "numerics": numerics, "kv_cache_bytes": 1 << 30})
    runner = TimedRunner(model.runner)
    config = EngineConfig(max_batched_tokens=2048, speculation=SpeculationOptions(mode=speculation))
    engine = Engine(runner, model.tokenizer, model.eos_token_ids, config)
    asker = Asker(model_folder)

    def run(round_number: int, streams: int, name: str = DRAWN) -> dict[str, Any]:
        runner.seconds, steps, tokens = 0.0, 0, 0
        requests = [request(number, asked) for number, asked in enumerate(asker(round_number, streams, name))]
        began = time.perf_counter()
        for each in requests:
            engine.submit(each)
        while engine.has_work:
            for output in engine.step():
                if isinstance(output, Failed):
                    raise output.error
                tokens += len(output.token_ids) if isinstance(output, Delta) else 0
            steps += 1
        seconds = time.perf_counter() - began
        python_ms = (seconds - runner.seconds) / steps * 1e3
        return {"seconds": seconds, "tokens": tokens, "steps": steps, "python_ms_per_step": python_ms}

    answer_rounds(run)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--numerics", choices=("fast", "exact"), default="fast")
    parser.add_argument("--speculation", choices=("off", "auto"), default="off")
    options = parser.parse_args()
    main(options.folder, options.numerics, options.speculation)

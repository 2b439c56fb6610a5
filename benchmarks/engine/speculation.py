"""Measures what guessing tokens ahead gains on worker-cpu: the same requests with and without, in one run.

`python -m benchmarks.engine.speculation [--rounds 3] [--streams 1 8] [--tokens 128] [--numerics fast] [--sets …]`. The
engine of worker-cpu runs in this process. In each round, each set of questions is answered with the setting
INFERMESH_SPECULATION=off and auto, one after the other in an order that turns around with each round. `ratio` is the
median over the rounds of the ratio of their tokens per second; `cpu_ratio` that of their tokens per second of processor
time, which holds on a busy machine, too, as far as the choice of guesses does, for which the engine measures times.
Code edits and summaries are greedy; free chat is sampled at temperature 0.8. The last line is one JSON document.

The model is SmolLM2-135M below build/models, which `make bench` imports.
"""

import argparse
import json
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.engine.speculation_prompts import BEGINNINGS, SETS, STOPS
from infermesh_engine.engine import Engine, EngineConfig
from infermesh_engine.requests.output import Delta, Failed, Finished
from infermesh_engine.requests.request import GenerationRequest, SamplingParams, StopConditions
from infermesh_engine.speculation.options import SpeculationOptions
from infermesh_worker.engine_process.built_model import BuiltModel
from infermesh_worker_cpu.build_model import build_model

MODEL = Path(__file__).parents[2] / "build" / "models" / "smollm2-135m-instruct"
Mode = Literal["off", "auto"]
_GREEDY = SamplingParams(temperature=0.0)
_SAMPLED = SamplingParams(temperature=0.8, top_p=0.95)


@dataclass(frozen=True, slots=True)
class Measured:
    """One set in one round."""

    tokens_per_s: float
    tokens_per_cpu_s: float
    steps: int
    drafted: int
    accepted: int


class Bench:
    """Answers sets of questions on one engine for each mode; they share the runner, one at a time."""

    def __init__(self, model: BuiltModel, tokens: int) -> None:
        self._tokenizer = model.tokenizer
        self._tokens = tokens
        self._engines = {mode: self._engine(model, mode) for mode in ("off", "auto")}

    @staticmethod
    def _engine(model: BuiltModel, mode: Mode) -> Engine:
        # Without the prefix cache, so that no mode finds the prompts of the one before, in blocks that both write.
        config = EngineConfig(
            max_batched_tokens=2048, prefix_caching=False, speculation=SpeculationOptions(mode=mode, max_tokens=8)
        )
        return Engine(model.runner, model.tokenizer, model.eos_token_ids, config)

    def run(self, mode: str, name: str, streams: int, round_number: int, most: int) -> Measured:
        """Answers `most` of the set's questions, `streams` at a time: one that ends makes room for the next.

        They begin again where they end, each time with other seeds.
        """
        engine, questions = self._engines[mode], [SETS[name][at % len(SETS[name])] for at in range(most)]
        before = engine.load()
        tokens = steps = 0
        asked = [self._request(name, number, question, round_number) for number, question in enumerate(questions)]
        running = 0
        began_s, cpu_began_s = time.perf_counter(), time.process_time()
        while asked or running:
            while asked and running < streams:
                engine.submit(asked.pop())
                running += 1
            for output in engine.step():
                if isinstance(output, Failed):
                    raise output.error
                tokens += len(output.token_ids) if isinstance(output, Delta) else 0
                running -= isinstance(output, Finished)
            steps += 1
        seconds, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_began_s
        load = engine.load()
        drafted, accepted = load.drafted_tokens - before.drafted_tokens, load.accepted_tokens - before.accepted_tokens
        return Measured(tokens / seconds, tokens / cpu_s, steps, drafted, accepted)

    def _request(self, name: str, number: int, question: str, round_number: int) -> GenerationRequest:
        text = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n{BEGINNINGS.get(name, '')}"
        return GenerationRequest(
            request_id=str(number),
            prompt_token_ids=tuple(self._tokenizer.encode(text, add_special_tokens=False).ids),
            seed=1000 * round_number + number,
            sampling=_SAMPLED if name == "free chat" else _GREEDY,
            stop=StopConditions(max_tokens=self._tokens, strings=STOPS.get(name, ())),
        )


def measure(bench: Bench, rounds: int, streams: list[int], sets: list[str], most: int) -> list[dict[str, Any]]:
    """A warm-up round and then `rounds`, for each set and number of streams."""
    found: dict[tuple[str, int], list[tuple[Measured, Measured]]] = {}
    for number in range(rounds + 1):
        for name in sets:
            for count in streams:
                order = ("off", "auto") if number % 2 else ("auto", "off")
                figures = {mode: bench.run(mode, name, count, number, most) for mode in order}
                print(f"round {number} {name:10s} {count} streams {figures}", file=sys.stderr, flush=True)
                if number:
                    found.setdefault((name, count), []).append((figures["off"], figures["auto"]))
    return [_summary(name, count, pairs) for (name, count), pairs in found.items()]


def _summary(name: str, streams: int, pairs: list[tuple[Measured, Measured]]) -> dict[str, Any]:
    drafted = sum(auto.drafted for _, auto in pairs)
    return {
        "set": name,
        "streams": streams,
        "ratio": round(statistics.median(auto.tokens_per_s / off.tokens_per_s for off, auto in pairs), 3),
        "cpu_ratio": round(statistics.median(auto.tokens_per_cpu_s / off.tokens_per_cpu_s for off, auto in pairs), 3),
        "tokens_per_s": round(statistics.median(auto.tokens_per_s for _, auto in pairs), 1),
        "accepted": round(sum(auto.accepted for _, auto in pairs) / drafted, 3) if drafted else None,
        "steps": round(sum(auto.steps for _, auto in pairs) / sum(off.steps for off, _ in pairs), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.engine.speculation", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how many rounds to measure, after one to warm up")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8], help="how many streams to run at once")
    parser.add_argument("--tokens", type=int, default=128, help="most tokens of an answer")
    parser.add_argument("--numerics", choices=("fast", "exact"), default="fast", help="INFERMESH_NUMERICS")
    parser.add_argument("--sets", choices=SETS, nargs="+", default=list(SETS), help="which sets to measure")
    parser.add_argument("--questions", type=int, default=16, help="how many questions of each set; there are 16")
    options = parser.parse_args()
    model = build_model({"folder": str(MODEL), "numerics": options.numerics, "kv_cache_bytes": 1 << 30})
    bench = Bench(model, options.tokens)
    results = measure(bench, options.rounds, options.streams, options.sets, options.questions)
    model.runner.close()
    document = {"benchmark": "speculation", "numerics": options.numerics, "rounds": options.rounds}
    print(json.dumps(document | {"tokens": options.tokens, "results": results}))


if __name__ == "__main__":
    main()

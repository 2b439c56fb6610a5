"""Measures what log probabilities, sampling and JSON schemas cost beside greedy decoding, on the default model.

`python -m benchmarks.engine.features [--rounds 3] [--streams 32]`. The engine of worker-cpu runs in this process. Each
round gives all kinds the same prompts and the same number of new tokens, one kind after another in an order that moves
on each round, so that whatever disturbs the machine disturbs them all. `cost` is greedy's speed divided by the kind's,
less one, in the same round; the figure is the median over the rounds. `host_cost` is an estimate that holds on a busy
machine, too: the CPU time that the engine's thread needs beyond greedy's, as a share of the step that greedy's CPU time
makes on all processors. The last line is one JSON document.

The model is SmolLM2-135M below build/models, which `make bench` imports.
"""

import argparse
import json
import os
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.contest.prompts import NEW_TOKENS
from benchmarks.engine.contestant_engine import TimedRunner
from benchmarks.engine.json_schemas import INTEGER, NUMBER, STRING, prompts, record
from infermesh_engine.engine import Engine, EngineConfig
from infermesh_engine.requests.output import Delta, Failed
from infermesh_engine.requests.request import GenerationRequest, OutputFormat, SamplingParams, StopConditions
from infermesh_worker.engine_process.built_model import BuiltModel
from infermesh_worker_cpu.build_model import build_model

MODEL = Path(__file__).parents[2] / "build" / "models" / "smollm2-135m-instruct"
GREEDY = "greedy"

_ITEM = record(
    name=STRING | {"maxLength": 24},
    price=NUMBER,
    stars=INTEGER | {"minimum": 1, "maximum": 5},
    unit={"enum": ["m", "kg", "s"]},
    in_stock={"type": "boolean"},
    tags={"type": "array", "items": STRING | {"maxLength": 12}, "maxItems": 3},
)
_SCHEMA = OutputFormat(
    kind="json_schema", spec=json.dumps({"type": "array", "items": _ITEM, "minItems": 50, "maxItems": 50})
)
"""No output of it ends within NEW_TOKENS, so that all kinds give the same number of tokens."""
_SAMPLED = SamplingParams(temperature=0.8, top_p=0.95)
_GREEDY = SamplingParams(temperature=0.0)

KINDS: dict[str, dict[str, Any]] = {
    GREEDY: {"sampling": _GREEDY},
    "logprobs=5": {"sampling": _GREEDY, "logprobs": 5},
    "temperature+top_p": {"sampling": _SAMPLED},
    "json_schema": {"sampling": _GREEDY, "output_format": _SCHEMA},
    "json_schema+temperature": {"sampling": _SAMPLED, "output_format": _SCHEMA},
    "all": {"sampling": _SAMPLED, "output_format": _SCHEMA, "logprobs": 5},
}


@dataclass(frozen=True, slots=True)
class Measured:
    """One kind in one round, or its medians."""

    tokens_per_s: float
    host_ms_per_step: float
    """The engine's own work, outside the device."""
    host_cpu_ms_per_step: float
    """The same in CPU time of the engine's thread, which does not depend on what else the machine does."""
    cpu_ms_per_token: float
    """All threads of this process, the device's included."""


class Bench:
    """Runs rounds of requests on one engine."""

    def __init__(self, model: BuiltModel, streams: int) -> None:
        self._tokenizer = model.tokenizer
        self._runner = TimedRunner(model.runner)
        # Without the prefix cache, so that no kind finds the prompts of the one before.
        config = EngineConfig(max_sequences=streams, max_batched_tokens=2048, prefix_caching=False)
        self._engine = Engine(self._runner, model.tokenizer, model.eos_token_ids, config)
        self._engine.prepare()
        self._streams = streams

    def run(self, kind: str, questions: list[str]) -> Measured:
        """Answers the questions, all at once."""
        for number, question in enumerate(questions):
            self._engine.submit(self._request(kind, number, question))
        self._runner.seconds, self._runner.thread_seconds, tokens, steps = 0.0, 0.0, 0, 0
        began_s, cpu_began_s, thread_began_s = time.perf_counter(), time.process_time(), time.thread_time()
        while self._engine.has_work:
            for output in self._engine.step():
                if isinstance(output, Failed):
                    raise output.error
                tokens += len(output.token_ids) if isinstance(output, Delta) else 0
            steps += 1
        seconds, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_began_s
        host_s = seconds - self._runner.seconds
        host_cpu_s = time.thread_time() - thread_began_s - self._runner.thread_seconds
        if tokens != len(questions) * NEW_TOKENS:
            raise SystemExit(f"{kind} made {tokens} tokens where {len(questions) * NEW_TOKENS} were asked for.")
        return Measured(tokens / seconds, host_s / steps * 1e3, host_cpu_s / steps * 1e3, cpu_s / tokens * 1e3)

    def _request(self, kind: str, number: int, question: str) -> GenerationRequest:
        text = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
        return GenerationRequest(
            request_id=str(number),
            prompt_token_ids=tuple(self._tokenizer.encode(text, add_special_tokens=False).ids),
            seed=number,
            stop=StopConditions(max_tokens=NEW_TOKENS, ignore_eos=True),
            **KINDS[kind],
        )


def measure(bench: Bench, kinds: list[str], rounds: int, streams: int) -> dict[str, list[Measured]]:
    """A warm-up round and then `rounds`: by kind, what each round gave."""
    questions = prompts(500)
    measured: dict[str, list[Measured]] = {kind: [] for kind in kinds}
    for number in range(rounds + 1):
        asked = [questions[(number * streams + i) % len(questions)] for i in range(streams)]
        turn = number % len(kinds)
        for kind in kinds[turn:] + kinds[:turn]:
            figures = bench.run(kind, asked)
            print(f"round {number} {kind:24s} {figures}", file=sys.stderr, flush=True)
            if number:
                measured[kind].append(figures)
    return measured


def summary(rounds: list[Measured], greedy: list[Measured], streams: int) -> dict[str, float]:
    """The medians of one kind, and what it costs beside greedy: 0.05 is five in a hundred."""
    own, base = medians(rounds), medians(greedy)
    slower = [base.tokens_per_s / own.tokens_per_s - 1 for own, base in zip(rounds, greedy, strict=True)]
    step_ms = base.cpu_ms_per_token * streams / len(os.sched_getaffinity(0))
    costs = {
        "cost": statistics.median(slower),
        "host_cost": (own.host_cpu_ms_per_step - base.host_cpu_ms_per_step) / step_ms,
    }
    return {name: round(value, 4) for name, value in (asdict(own) | costs).items()}


def medians(rounds: list[Measured]) -> Measured:
    """The median of each figure."""
    columns = [asdict(figures) for figures in rounds]
    return Measured(**{name: statistics.median(column[name] for column in columns) for name in columns[0]})


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.engine.features", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how many rounds to measure, after one to warm up")
    parser.add_argument("--streams", type=int, default=32, help="how many streams to run at once")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="which kinds to measure")
    options = parser.parse_args()
    kinds = list(dict.fromkeys([GREEDY, *options.kinds]))
    model = build_model({"folder": str(MODEL), "kv_cache_bytes": 1 << 30})
    bench = Bench(model, options.streams)
    measured = measure(bench, kinds, options.rounds, options.streams)
    model.runner.close()
    results = {kind: summary(rounds, measured[GREEDY], options.streams) for kind, rounds in measured.items()}
    document = {"benchmark": "features", "streams": options.streams, "new_tokens": NEW_TOKENS, "rounds": options.rounds}
    print(json.dumps(document | {"results": results}))


if __name__ == "__main__":
    main()

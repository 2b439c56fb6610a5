"""Contestant: our engine on worker-xpu's runner, in process. Needs no package beyond torch, triton and transformers."""

# ruff: noqa: E402 - our packages are found once the checkout is on the path

import gc
import time
from pathlib import Path
from typing import Any

from benchmarks.contest.contestant import answer_rounds
from benchmarks.contest.prompts import prompts
from benchmarks.torch_worker.task import CHECK_ROUND, Task, use_checkout

use_checkout()

from tokenizers import Tokenizer

from infermesh_engine.engine import Engine, EngineConfig
from infermesh_engine.requests.output import Delta
from infermesh_engine.requests.request import GenerationRequest, SamplingParams, StopConditions
from infermesh_worker_xpu.load_runner import load_runner
from infermesh_worker_xpu.options import TorchOptions

MAX_BATCHED_TOKENS = 4096


def request(number: int, token_ids: list[int], tokens: int, logprobs: int | None) -> GenerationRequest:
    return GenerationRequest(
        request_id=str(number),
        prompt_token_ids=tuple(token_ids),
        seed=0,
        sampling=SamplingParams(temperature=0.0),
        stop=StopConditions(max_tokens=tokens, ignore_eos=True),
        logprobs=logprobs,
    )


def build_engine(task: Task) -> tuple[Engine, dict[str, Any]]:
    options = TorchOptions(
        device=task.device,
        dtype=task.dtype,
        kv_cache_bytes=task.kv_cache_bytes,
        max_sequences=task.max_streams,
        max_batched_tokens=max(MAX_BATCHED_TOKENS, task.max_streams),
        context_length=task.context_length,
    )
    began = time.perf_counter()
    runner = load_runner(Path(task.folder), options)
    facts = {
        "runtime": runner.info.runtime,
        "device_name": runner.info.device_name,
        "weights_bytes": runner.info.weights_bytes,
        "load_s": round(time.perf_counter() - began, 2),
    }
    tokenizer = Tokenizer.from_file(str(Path(task.folder) / "tokenizer.json"))
    config = EngineConfig(max_sequences=task.max_streams, max_batched_tokens=options.max_batched_tokens)
    return Engine(runner, tokenizer, frozenset(), config), facts


def run_all(engine: Engine, requests: list[GenerationRequest]) -> list[list[Delta]]:
    """Runs the requests together; returns the deltas of each, in order."""
    deltas: list[list[Delta]] = [[] for _ in requests]
    for each in requests:
        engine.submit(each)
    while engine.has_work:
        for output in engine.step():
            if isinstance(output, Delta):
                deltas[int(output.request_id)].append(output)
    return deltas


def main(task: Task) -> None:
    engine, facts = build_engine(task)
    gc.collect()
    gc.freeze()  # as the worker's engine process does

    def run(round_number: int, streams: int) -> dict[str, Any]:
        checking = round_number == CHECK_ROUND
        inputs = prompts(round_number, streams, tokens=task.prompt_tokens, vocabulary=task.vocabulary)
        tokens = task.check_tokens if checking else task.new_tokens
        requests = [request(i, ids, tokens, 0 if checking else None) for i, ids in enumerate(inputs)]
        began = time.perf_counter()
        deltas = run_all(engine, requests)
        seconds = time.perf_counter() - began
        answered = {"seconds": seconds, "tokens": sum(len(d.token_ids) for each in deltas for d in each)}
        if not checking:
            return answered
        answers = [
            {
                "token_ids": [token for delta in each for token in delta.token_ids],
                "logprobs": [token.logprob for delta in each for token in delta.logprobs],
            }
            for each in deltas
        ]
        return {**answered, **facts, "answers": answers}

    answer_rounds(run)


if __name__ == "__main__":
    main(Task.of_arguments())

"""Contestant: transformers' continuous batching, on the same weights and prompts; its `generate` checks tokens."""

import os
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

from benchmarks.contest.contestant import answer_rounds
from benchmarks.contest.prompts import prompts
from benchmarks.torch_worker.task import CHECK_ROUND, Task

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from transformers import AutoModelForCausalLM, GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
MEMORY_SHARE = 0.5
"""Share of an accelerator's free memory for its KV cache: more than it needs, and the other contestant still fits."""


def load(task: Task) -> Any:
    folder = Path(task.folder)
    chosen: dict[str, Any] = {}
    if not any(folder.glob("*.safetensors")):
        chosen = {"gguf_file": "model.gguf", "quantization_config": transformers.GgufConfig(dequantize=True)}
    transformers.logging.set_verbosity_error()
    model: Any = AutoModelForCausalLM.from_pretrained(
        str(folder), dtype=DTYPES[task.dtype], local_files_only=True, **chosen
    )
    return model.to(task.device).eval()


class Peer:
    """A model whose continuous batching starts with the first measured round and keeps running."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._model = load(task)
        self._config = GenerationConfig(
            do_sample=False, max_new_tokens=task.new_tokens, eos_token_id=-1, pad_token_id=0
        )
        self._manager: Any = None

    def run(self, round_number: int, streams: int) -> dict[str, Any]:
        task = self._task
        inputs = prompts(round_number, streams, tokens=task.prompt_tokens, vocabulary=task.vocabulary)
        if round_number == CHECK_ROUND:
            return {"answers": [self._greedy(ids) for ids in inputs]}
        if self._manager is None:
            self._manager = self._start()
        began = time.perf_counter()
        tokens = self._batch(inputs)
        return {"seconds": time.perf_counter() - began, "tokens": tokens}

    def _start(self) -> Any:
        known = {field.name for field in fields(ContinuousBatchingConfig)}
        # Left alone on processors, it would allocate and touch most of the machine's memory.
        memory: dict[str, Any] = (
            {"num_blocks": self._blocks()} if self._task.device == "cpu" else {"max_memory_percent": MEMORY_SHARE}
        )
        config = ContinuousBatchingConfig(**{name: value for name, value in memory.items() if name in known})
        manager = self._model.init_continuous_batching(
            generation_config=self._config, continuous_batching_config=config
        )
        manager.start()
        return manager

    def _blocks(self) -> int:
        """Returns how many of its pages of 256 tokens hold all streams at once."""
        task = self._task
        return task.max_streams * (1 - (task.prompt_tokens + task.new_tokens) // -256)

    def _batch(self, inputs: list[list[int]]) -> int:
        wanted = set(self._manager.add_requests(inputs, max_new_tokens=self._task.new_tokens))
        tokens = 0
        while wanted:
            result = self._manager.get_result(timeout=1)
            if result is None:
                if not self._manager.is_running():
                    raise RuntimeError("transformers' continuous batching ended before every request was done.")
            elif result.is_finished() and result.request_id in wanted:
                if result.error:
                    raise RuntimeError(result.error)
                wanted.discard(result.request_id)
                tokens += len(result.generated_tokens)
        return tokens

    @torch.inference_mode()
    def _greedy(self, token_ids: list[int]) -> dict[str, list[float]]:
        """Returns `generate`'s tokens, their log probabilities, each lead over the second, and its rounding step."""
        task = self._task
        given = torch.tensor([token_ids], device=task.device)
        out = self._model.generate(
            given,
            attention_mask=torch.ones_like(given),
            generation_config=self._config,
            max_new_tokens=task.check_tokens,
            return_dict_in_generate=True,
            output_logits=True,
        )
        logits = torch.cat(out.logits).float()
        tokens = out.sequences[0, len(token_ids) :]
        best = logits.topk(2, dim=1).values
        return {
            "token_ids": tokens.tolist(),
            "logprobs": logits.log_softmax(1).gather(1, tokens[:, None])[:, 0].tolist(),
            "gaps": (best[:, 0] - best[:, 1]).tolist(),
            "spacings": (best[:, 0].abs().log2().floor().exp2() * torch.finfo(DTYPES[task.dtype]).eps).tolist(),
        }


if __name__ == "__main__":
    answer_rounds(Peer(Task.of_arguments()).run)

"""Answers prompts greedily: `python -m tests.models.worker_answers openvino|torch FOLDER exact|fast`.

It is a process of its own, because a runner keeps its memory. The last line that it prints is one JSON document.
"""

import json
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from infermesh_engine.requests.output import Delta, Failed
from infermesh_worker.engine_process.built_model import BuiltModel
from infermesh_worker.testing.harness import PROMPTS, Harness

TOKENS = 64
_BUILDERS = {"openvino": "infermesh_worker_cpu.build_model", "torch": "infermesh_worker_xpu.build_model"}
_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "openvino": {},
    "torch": {"device": "cpu", "compile": "off"},  # compiled layers would take minutes, for the same arithmetic
}
_KV_CACHE_BYTES = 1 << 30


def main(runner: str, folder: str, numerics: str) -> dict[str, Any]:
    """Token ids of PROMPTS and of the answers, the answers' log probabilities, and whether texts come back from ids."""
    options = {**_OPTIONS[runner], "folder": folder, "numerics": numerics, "kv_cache_bytes": _KV_CACHE_BYTES}
    model: BuiltModel = import_module(_BUILDERS[runner]).build_model(options)
    harness = Harness(model, max_sequences=len(PROMPTS))
    requests = [harness.request(str(i), text, tokens=TOKENS, logprobs=0) for i, text in enumerate(PROMPTS)]
    outputs: list[list[int]] = [[] for _ in requests]
    log_probabilities: list[list[float]] = [[] for _ in requests]
    for output in harness.run(*requests):
        if isinstance(output, Failed):
            raise output.error
        if isinstance(output, Delta):
            outputs[int(output.request_id)] += output.token_ids
            log_probabilities[int(output.request_id)] += [each.logprob for each in output.logprobs]
    model.runner.close()
    return {
        "prompts": [request.prompt_token_ids for request in requests],
        "outputs": outputs,
        "log_probabilities": log_probabilities,
        "texts_kept": [model.tokenizer.decode(list(request.prompt_token_ids)) for request in requests] == list(PROMPTS),
    }


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])), flush=True)

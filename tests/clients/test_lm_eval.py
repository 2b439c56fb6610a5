"""lm-eval local-completions: a small multiple-choice task, with log likelihoods as the weights give them."""

import json
import subprocess
from pathlib import Path
from typing import Any

import lm_eval
import pytest
from lm_eval.api.task import ConfigurableTask
from transformers import AutoTokenizer

from tests.clients.running import DEV_VENV, MODEL, MODELS

pytestmark = pytest.mark.timeout(300)

HERE = Path(__file__).parent
QUESTIONS = HERE / "multiple_choice" / "questions.jsonl"


@pytest.fixture(scope="module")
def tokenizer_folder(mesh_url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's tokenizer as transformers loads it."""
    folder = tmp_path_factory.mktemp("tokenizer")
    (folder / "tokenizer.json").write_bytes((MODELS / MODEL / "tokenizer.json").read_bytes())
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def samples(mesh_url: str, tokenizer_folder: Path) -> list[dict[str, Any]]:
    """What lm-eval found for each question; it sends token ids, two prompts a request."""
    task = ConfigurableTask(
        config={
            "task": "small_choice",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(QUESTIONS)}},
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "{{question}}",
            "doc_to_choice": "{{choices}}",
            "doc_to_target": "answer",
            "metric_list": [{"metric": "acc"}],
        }
    )
    arguments = {
        "model": MODEL,
        "base_url": f"{mesh_url}/v1/completions",
        "tokenizer": str(tokenizer_folder),
        "tokenizer_backend": "huggingface",
        "batch_size": 2,
    }
    found = lm_eval.simple_evaluate(
        model="local-completions", model_args=arguments, tasks=[task], bootstrap_iters=0, log_samples=True
    )
    assert found is not None
    assert found["results"]["small_choice"]["acc,none"] >= 0.5
    samples: list[dict[str, Any]] = found["samples"]["small_choice"]
    return samples


def test_log_likelihoods_are_those_of_the_weights(samples: list[dict[str, Any]], tokenizer_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(str(tokenizer_folder))
    pairs, measured = [], []
    for sample in samples:
        for (context, continuation), ((score, _),) in zip(sample["arguments"], sample["resps"], strict=True):
            whole, before = tokenizer.encode(context + continuation), tokenizer.encode(context)
            pairs.append([before, whole[len(before) :]])
            measured.append(float(score))
    command = [str(DEV_VENV / "bin" / "python"), str(HERE / "reference.py"), str(MODELS / MODEL / "model.gguf")]
    done = subprocess.run(command, input=json.dumps(pairs), capture_output=True, text=True, check=False, timeout=250)
    assert done.returncode == 0, done.stderr
    assert len(measured) == 18
    assert measured == pytest.approx(json.loads(done.stdout), abs=2e-2)

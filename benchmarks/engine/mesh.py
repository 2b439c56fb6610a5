"""Compares the engine and the mesh with openvino-genai, on one model; the last line is a JSON document.

Engine and mesh are measured without and with guessing tokens ahead (INFERMESH_SPECULATION off and auto). `results` are
of drawn tokens, each answer of full length; `questions` of free chat, code edits and summaries with quotes, whose
answers end where the model ends them. Each round runs the contestants one after another, in turned order every other
round, so that whatever disturbs the machine disturbs them all. Ratios are medians over the rounds. Speed is generated
tokens divided by wall time, prefill included. `--rounds 1` is for trying.
"""

# ruff: noqa: E402 - `benchmarks` is found once the checkout is on the path

import argparse
import json
import os
import signal
import statistics
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

from benchmarks.contest.contestant import ContestantProcess
from benchmarks.contest.prompts import PROMPT_TOKENS
from benchmarks.engine.questions import NEW_TOKENS, SETS
from benchmarks.engine.rounds import Contestant, ratio, run_rounds, speeds
from benchmarks.engine.running_mesh import KV_BYTES, MODEL, model_folder, resident_mb, running_mesh, supervisor_pid

ROOM = Path(__file__).resolve().parent
RATIOS = (
    ("engine", "genai"),
    ("mesh", "engine"),
    ("engine_speculating", "engine"),
    ("mesh_speculating", "mesh"),
    ("mesh_speculating", "genai"),
)


def summary(found: Mapping[str, list[dict[str, Any]]], streams: int) -> dict[str, Any]:
    """Tokens per second, and the ratios between those contestants that took part."""
    measured = speeds(found)
    return {
        "streams": streams,
        "tokens_per_s": {name: round(statistics.median(values), 1) for name, values in measured.items()},
        **{
            f"{ours}_over_{theirs}": ratio(measured[ours], measured[theirs])
            for ours, theirs in RATIOS
            if {ours, theirs} <= measured.keys()
        },
    }


def measure_drawn(contestants: Mapping[str, Contestant], streams: int, rounds: int) -> dict[str, Any]:
    """Answers of full length to drawn tokens; also what the mesh's clients see and Python's share of a step."""
    found = run_rounds(contestants, streams, rounds)
    engine, mesh = found["engine"][-1], found["mesh"][-1]
    measured = speeds(found)
    return summary(found, streams) | {
        "exact_over_fast": ratio(measured["engine_exact"], measured["engine"]),
        "python_ms_per_step": round(engine["python_ms_per_step"], 3),
        "python_share_of_step": round(engine["python_ms_per_step"] / (engine["seconds"] / engine["steps"] * 1e3), 4),
        "mesh_ttft_ms": round(mesh["ttft_ms"], 1),
        "mesh_itl_ms": round(mesh["itl_ms"], 2),
    }


def measure_questions(contestants: Mapping[str, Contestant], name: str, streams: int, rounds: int) -> dict[str, Any]:
    """Answers to a set of questions."""
    asked = {contestant: each for contestant, each in contestants.items() if contestant != "engine_exact"}
    return {"set": name} | summary(run_rounds(asked, streams, rounds, name), streams)


def start(parts: ExitStack, folder: Path, mesh_ports: Mapping[str, str]) -> dict[str, ContestantProcess]:
    """Starts a process for each contestant, which ends with `parts`."""
    engine, http = ROOM / "contestant_engine.py", ROOM / "contestant_http.py"
    commands: dict[str, tuple[Path, tuple[str, ...]]] = {
        "genai": (ROOM / "contestant_genai.py", (str(folder),)),
        "engine": (engine, (str(folder),)),
        "engine_speculating": (engine, (str(folder), "--speculation", "auto")),
        **{name: (http, (port, MODEL, str(folder))) for name, port in mesh_ports.items()},
        "engine_exact": (engine, (str(folder), "--numerics", "exact")),
    }
    return {
        name: parts.enter_context(ContestantProcess(script, *arguments))
        for name, (script, arguments) in commands.items()
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=REPOSITORY / "build" / "models", help="folder of the models")
    parser.add_argument("--rounds", type=int, default=5, help="how many rounds to measure for each number of streams")
    parser.add_argument("--streams", type=int, nargs="*", default=[1, 8, 32], help="how many streams of drawn tokens")
    parser.add_argument("--sets", choices=SETS, nargs="*", default=list(SETS), help="which sets of questions to ask")
    parser.add_argument("--set-streams", type=int, nargs="+", default=[1, 8], help="how many streams of questions")
    return parser.parse_args()


def shown(result: dict[str, Any]) -> dict[str, Any]:
    """Prints what was measured, for those who wait."""
    print(json.dumps(result), file=sys.stderr, flush=True)
    return result


def main() -> None:
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the meshes end, too
    folder = model_folder(options.models)
    with ExitStack() as parts:
        plain, ready_s = parts.enter_context(running_mesh(options.models, SPECULATION="off"))
        speculating, _ = parts.enter_context(running_mesh(options.models, SPECULATION="auto"))
        states = {"mesh": plain, "mesh_speculating": speculating}
        ports = {name: str(state["http"].rpartition(":")[2]) for name, state in states.items()}
        contestants = start(parts, folder, ports)
        results = [shown(measure_drawn(contestants, streams, options.rounds)) for streams in options.streams]
        questions = [
            shown(measure_questions(contestants, name, streams, options.rounds))
            for name in options.sets
            for streams in options.set_streams
        ]
        memory = resident_mb(supervisor_pid(plain["http"]))
    model_mb = (folder / "openvino" / "openvino_model.bin").stat().st_size / 1e6
    document = {
        "benchmark": "mesh",
        "model": MODEL,
        "prompt_tokens": PROMPT_TOKENS,
        "new_tokens": NEW_TOKENS,
        "rounds": options.rounds,
        "processors": len(os.sched_getaffinity(0)),
        "ready_s": round(ready_s, 2),
        "resident_mb": memory,
        "engine_process_over_model_and_kv_mb": round(memory["engine_process"] - model_mb - KV_BYTES / 1e6, 1),
        "results": results,
        "questions": questions,
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main()

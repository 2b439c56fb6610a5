"""Compares two contestants on torch: their speed in alternating rounds, and whether their greedy tokens agree."""

import json
import statistics
import sys
from typing import Any

from benchmarks.contest.contestant import ContestantProcess
from benchmarks.torch_worker.task import CHECK_ROUND, Task

NEAR_TIE = 1e-2
"""Two best logits closer than this are a near tie: either token may be chosen."""
LOGPROB_TOLERANCE = 2e-2


def measure(ours: ContestantProcess, peer: ContestantProcess, task: Task, streams: int, rounds: int) -> dict[str, Any]:
    """Runs a warm-up round and then `rounds`, both contestants in each; returns tokens/s and the median ratio."""
    speeds: dict[str, list[float]] = {"engine": [], "transformers": []}
    for round_number in range(rounds + 1):
        for name, contestant in (("engine", ours), ("transformers", peer)):
            found = contestant.run(round_number, streams)
            if found["tokens"] != streams * task.new_tokens:
                wanted = streams * task.new_tokens
                raise SystemExit(f"{name} made {found['tokens']} tokens where {wanted} were asked for.")
            if round_number:
                speeds[name].append(found["tokens"] / found["seconds"])
    ratios = [a / b for a, b in zip(speeds["engine"], speeds["transformers"], strict=True)]
    result = {
        "streams": streams,
        "tokens_per_s": {name: round(statistics.median(values), 1) for name, values in speeds.items()},
        "engine_over_transformers": round(statistics.median(ratios), 2),
        "lowest_ratio": round(min(ratios), 2),
    }
    print(json.dumps(result), file=sys.stderr, flush=True)
    return result


def check(ours: ContestantProcess, peer: ContestantProcess, streams: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns how the greedy tokens compare, and what our contestant says of itself."""
    facts = ours.run(CHECK_ROUND, streams)
    answers = facts.pop("answers")
    return compare(answers, peer.run(CHECK_ROUND, streams)["answers"]), facts


def compare(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> dict[str, Any]:
    """Compares each answer with the peer's, up to the peer's first near tie or the first token that differs.

    Neighbouring bf16 values from 16 on are 0.125 or more apart, so each gap is also given in such rounding steps.
    """
    compared = ties = 0
    mismatches: list[float] = []
    roundings: list[float] = []
    differences: list[float] = []
    for answer, expected in zip(ours, theirs, strict=True):
        for i, gap in enumerate(expected["gaps"]):
            if gap < NEAR_TIE:
                ties += 1
                break
            compared += 1
            if answer["token_ids"][i] != expected["token_ids"][i]:
                mismatches.append(gap)
                roundings.append(gap / expected["spacings"][i])
                break
            differences.append(abs(answer["logprobs"][i] - expected["logprobs"][i]))
    return {
        "answers": len(theirs),
        "tokens_compared": compared,
        "ended_by_near_tie": ties,
        "mismatches": len(mismatches),
        "gaps_at_mismatches": [round(gap, 4) for gap in mismatches],
        "roundings_at_mismatches": [round(steps, 2) for steps in roundings],
        "largest_logprob_difference": round(max(differences, default=0.0), 5),
        "agrees": not mismatches and max(differences, default=0.0) <= LOGPROB_TOLERANCE,
    }

"""Owns how two contestants on torch are compared: interleaved rounds, medians, ratios, and whether tokens agree."""

import json
import statistics
import sys
from typing import Any

from contestant import Contestant
from torch_task import CHECK_ROUND, Task

NEAR_TIE = 1e-2
"""Gap of the two best logits below which either may be chosen."""
LOGPROB_TOLERANCE = 2e-2


def measure(ours: Contestant, peer: Contestant, task: Task, streams: int, rounds: int) -> dict[str, Any]:
    """A warm-up round and then `rounds`, one contestant after the other in each; tokens/s and the median ratio."""
    speeds: dict[str, list[float]] = {"engine": [], "transformers": []}
    for round_number in range(rounds + 1):
        for name, contestant in (("engine", ours), ("transformers", peer)):
            found = contestant.run(round_number, streams)
            if found["tokens"] != streams * task.new_tokens:
                raise SystemExit(f"{name} made {found['tokens']} tokens, not {streams * task.new_tokens}")
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


def check(ours: Contestant, peer: Contestant, streams: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """(what comparing greedy tokens found, what our contestant says of itself)."""
    facts = ours.run(CHECK_ROUND, streams)
    answers = facts.pop("answers")
    return compare(answers, peer.run(CHECK_ROUND, streams)["answers"]), facts


def compare(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> dict[str, Any]:
    """Each answer of ours beside the peer's up to its first near-tie or the first token that differs.

    Logits in bf16 are up to 0.125 apart at 16 and more, so a gap is also told in such steps of rounding.
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

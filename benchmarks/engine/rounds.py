"""Runs the contestants of a benchmark in rounds, one after another, and compares their speeds."""

import statistics
from collections.abc import Mapping
from typing import Any, Protocol

from benchmarks.engine.questions import DRAWN, NEW_TOKENS


class Contestant(Protocol):
    """What answers rounds: a ContestantProcess, or a stand-in in tests."""

    def run(self, round_number: int, streams: int, **more: str) -> dict[str, Any]: ...


def run_rounds(
    contestants: Mapping[str, Contestant], streams: int, rounds: int, name: str = DRAWN
) -> dict[str, list[dict[str, Any]]]:
    """Runs a warm-up round and then `rounds`; returns what each contestant measured in each of the latter."""
    found: dict[str, list[dict[str, Any]]] = {contestant: [] for contestant in contestants}
    for number in range(rounds + 1):
        order = list(contestants) if number % 2 else list(contestants)[::-1]
        for contestant in order:
            figures = contestants[contestant].run(number, streams, name=name)
            check_tokens(contestant, figures["tokens"], streams, whole=name == DRAWN)
            if number:
                found[contestant].append(figures)
    return found


def check_tokens(contestant: str, tokens: int, streams: int, *, whole: bool) -> None:
    """Raises SystemExit if a contestant did not make the tokens that were asked for."""
    most = streams * NEW_TOKENS
    if not (tokens == most if whole else 0 < tokens <= most):
        wanted = most if whole else f"1 to {most}"
        raise SystemExit(
            f"{contestant} made {tokens} tokens where {wanted} were asked for; its speed would mean nothing."
        )


def speeds(found: Mapping[str, list[dict[str, Any]]]) -> dict[str, list[float]]:
    """Each contestant's tokens per second, round for round."""
    return {name: [each["tokens"] / each["seconds"] for each in rounds] for name, rounds in found.items()}


def ratio(ours: list[float], theirs: list[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(ours, theirs, strict=True)), 3)

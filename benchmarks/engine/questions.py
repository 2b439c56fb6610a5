"""What each contestant of a round is asked: drawn token ids, or questions that people and agents ask, as token ids."""

from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from benchmarks.contest.prompts import NEW_TOKENS, prompts
from benchmarks.engine.speculation_prompts import BEGINNINGS, SETS, STOPS

DRAWN = "drawn tokens"
SAMPLED = "free chat"
TEMPERATURE = 0.8
TOP_P = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request, the same for every contestant; greedy, or sampled at TEMPERATURE and TOP_P."""

    token_ids: tuple[int, ...]
    seed: int = 0
    sampled: bool = False
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    """Whether the answer has NEW_TOKENS in any case, rather than at most."""


class Asker:
    """Makes the requests of a round, for a model in a folder."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def __call__(self, round_number: int, streams: int, name: str = DRAWN) -> list[Asked]:
        """Returns `streams` requests of the set `name`.

        No prefix cache can answer those of another round, or those of another number of streams.
        """
        if name == DRAWN:
            drawn = prompts(round_number, streams)
            return [Asked(token_ids=tuple(token_ids), ignore_eos=True) for token_ids in drawn]
        questions = SETS[name]
        first = round_number * streams
        return [
            self._question(name, questions[number % len(questions)], number, streams)
            for number in range(first, first + streams)
        ]

    def _question(self, name: str, question: str, number: int, streams: int) -> Asked:
        # A set has few questions: the numbers in front of each keep its tokens out of what was cached in other rounds.
        system = f"<|im_start|>system\nRequest {number} of {streams}. You are a helpful assistant.<|im_end|>\n"
        text = f"{system}<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n{BEGINNINGS.get(name, '')}"
        return Asked(
            token_ids=tuple(self._tokenizer.encode(text, add_special_tokens=False).ids),
            seed=number,
            sampled=name == SAMPLED,
            stop=STOPS.get(name, ()),
        )


__all__ = ["DRAWN", "NEW_TOKENS", "SETS", "TEMPERATURE", "TOP_P", "Asked", "Asker"]

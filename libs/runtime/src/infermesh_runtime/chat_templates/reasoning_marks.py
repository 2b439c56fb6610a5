"""The marks between which families of models write their reasoning, and whether a prompt already opened it."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReasoningMarks:
    """The first of each is the usual one."""

    begins: tuple[str, ...]
    ends: tuple[str, ...]


REASONING_MARKS: Mapping[str, ReasoningMarks] = {
    "think": ReasoningMarks(("<think>",), ("</think>",)),
    "mistral": ReasoningMarks(("[THINK]",), ("[/THINK]",)),
    "seed": ReasoningMarks(("<seed:think>",), ("</seed:think>",)),
    "granite": ReasoningMarks(
        ("Here is my thought process:", "Here's my thought process:"), ("Here is my response:", "Here's my response:")
    ),
    "gemma": ReasoningMarks(("<|channel>thought\n", "<|channel>thought"), ("<channel|>",)),
    "kimi-k3": ReasoningMarks(("<|open|>think<|sep|>",), ("<|close|>think<|sep|>",)),
}
"""By the name of the style, which a model's settings may give."""


def opens_reasoning(prompt: str, style: str) -> bool:
    """Whether a prompt ends inside the reasoning, so that the model writes only the end of it.

    `style` is a key of REASONING_MARKS, or empty. The mark must be the last thing in the prompt.
    """
    marks = REASONING_MARKS.get(style)
    return marks is not None and prompt.rstrip().endswith(tuple(mark.rstrip() for mark in marks.begins))


def closes_reasoning(prompt: str, style: str) -> bool:
    """Whether a prompt ends with the end of the reasoning, as templates write it that turn it off."""
    marks = REASONING_MARKS.get(style)
    return marks is not None and prompt.rstrip().endswith(tuple(mark.rstrip() for mark in marks.ends))

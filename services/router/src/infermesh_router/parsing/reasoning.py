"""Parts the reasoning at the beginning of an answer from the rest of it."""

from collections.abc import Mapping
from dataclasses import dataclass

from infermesh_router.parsing.answer import Answer
from infermesh_router.parsing.reader import Reader, Wait


@dataclass(frozen=True, slots=True)
class Markers:
    """Between which marks a family of models writes its reasoning."""

    begins: tuple[str, ...]
    ends: tuple[str, ...]


MARKERS: Mapping[str, Markers] = {
    "think": Markers(("<think>",), ("</think>",)),
    "mistral": Markers(("[THINK]",), ("[/THINK]",)),
    "seed": Markers(("<seed:think>",), ("</seed:think>",)),
    "granite": Markers(
        ("Here is my thought process:", "Here's my thought process:"), ("Here is my response:", "Here's my response:")
    ),
    "gemma": Markers(("<|channel>thought\n", "<|channel>thought"), ("<channel|>",)),
    "kimi-k3": Markers(("<|open|>think<|sep|>",), ("<|close|>think<|sep|>",)),
}


def read_reasoning(
    reader: Reader, answer: Answer, markers: Markers, *, opened: bool, also_ends: tuple[str, ...] = ()
) -> Wait[None]:
    """Takes the reasoning, if the answer begins with it; `opened` says that the prompt contains its first mark.

    `also_ends` are marks that end it without belonging to it: they are left in the text.
    """
    spaces = yield from reader.spaces()
    begun = yield from reader.literal(*markers.begins)
    if not (begun or opened):
        answer.text(spaces)
        return
    answer.reasoning(spaces)
    mark = yield from reader.until((*markers.ends, *also_ends), answer.reasoning)
    if mark in also_ends:
        reader.put_back(mark)
    if mark:
        answer.end_reasoning()

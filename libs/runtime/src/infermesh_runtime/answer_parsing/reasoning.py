"""Parts the reasoning at the beginning of an answer from the rest of it."""

from infermesh_runtime.answer_parsing.answer import Answer
from infermesh_runtime.answer_parsing.reader import Reader, Wait
from infermesh_runtime.chat_templates.reasoning_marks import ReasoningMarks


def read_reasoning(
    reader: Reader, answer: Answer, marks: ReasoningMarks, *, opened: bool, also_ends: tuple[str, ...] = ()
) -> Wait[None]:
    """Takes the reasoning, if the answer begins with it; `opened` says that the prompt contains its first mark.

    `also_ends` are marks that end it without belonging to it: they are left in the text.
    """
    spaces = yield from reader.spaces()
    begun = yield from reader.literal(*marks.begins)
    if not (begun or opened):
        answer.text(spaces)
        return
    answer.reasoning(spaces)
    mark = yield from reader.until((*marks.ends, *also_ends), answer.reasoning)
    if mark in also_ends:
        reader.put_back(mark)
    if mark:
        answer.end_reasoning()

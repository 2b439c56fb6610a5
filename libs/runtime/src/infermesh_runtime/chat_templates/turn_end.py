"""Finds the control token with which a template closes a turn, from what it makes of a short conversation."""

import re
from collections.abc import Sequence

from infermesh_runtime.chat_templates.chat_template import ChatTemplate
from infermesh_runtime.errors import InvalidArgument

_QUESTION, _ANSWER = "question7q3x", "answer7q3x"


def find_turn_end(template: ChatTemplate, control_tokens: Sequence[str]) -> str | None:
    """The control token that follows an assistant's answer, and does not open turns; None when there is none."""
    dialog = [{"role": "user", "content": _QUESTION}, {"role": "assistant", "content": _ANSWER}]
    try:
        text = template.render(dialog, add_generation_prompt=False).text
    except InvalidArgument:
        return None
    before, asked, rest = text.partition(_QUESTION)
    between, answered, after = rest.partition(_ANSWER)
    if not (asked and answered and control_tokens):
        return None
    tokens = re.compile("|".join(map(re.escape, sorted(control_tokens, key=len, reverse=True))))
    end = tokens.match(after.lstrip())
    opening = {found[-1] for found in (tokens.findall(before), tokens.findall(between)) if found}
    return end.group() if end and end.group() not in opening else None

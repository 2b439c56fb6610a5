"""Tries a chat template in a process of its own, before a model is imported: can it be used, what does it show?

`examine_template` starts it as `python -m infermesh_runtime.chat_templates.examine`. It reads one JSON document from
stdin and writes one to stdout.
"""

import json
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from infermesh_runtime.chat_templates.chat_template import ChatTemplate
from infermesh_runtime.chat_templates.detect import detect_style
from infermesh_runtime.chat_templates.turn_end import find_turn_end
from infermesh_runtime.chat_templates.usable import why_unusable
from infermesh_runtime.errors import FailedPrecondition, Internal, InvalidArgument
from infermesh_runtime.manifest.answer_style import AnswerStyle

_TIMEOUT_S = 10
"""Longest time to compile a template and to render a conversation of two messages."""
_MAX_MEMORY_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class TemplateFacts:
    """What a template shows of its model."""

    turn_end: str | None
    """The special token that it closes turns with, if it does with one."""
    style: AnswerStyle
    """How the model writes tool calls and reasoning."""


def examine_template(source: str, special_tokens: Mapping[str, str], control_tokens: Sequence[str]) -> TemplateFacts:
    """What the template shows.

    Raises InvalidArgument, with the line, when the template cannot be used, or takes too long or too much memory.
    """
    question = {"source": source, "special_tokens": dict(special_tokens), "control_tokens": list(control_tokens)}
    command = [sys.executable, "-m", "infermesh_runtime.chat_templates.examine"]
    try:
        done = subprocess.run(
            command, input=json.dumps(question).encode(), capture_output=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise InvalidArgument(f"the model's chat template takes more than {_TIMEOUT_S} s for two messages") from None
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise Internal(f"the model's chat template cannot be tried: {reason or f'exit status {done.returncode}'}")
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise InvalidArgument(answer["error"])
    return TemplateFacts(answer["turn_end"], AnswerStyle(**answer["style"]))


def main() -> int:
    """Entry point of the process."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (_TIMEOUT_S + 1, _TIMEOUT_S + 1))
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY_BYTES, _MAX_MEMORY_BYTES))
    question = json.load(sys.stdin)
    answer: dict[str, object]
    try:
        template = ChatTemplate(
            question["source"],
            special_tokens=question["special_tokens"],
            control_tokens=question["control_tokens"],
        )
        tokens = question["control_tokens"]
        if (wrong := why_unusable(template)) is not None:
            answer = {"error": f"the model's chat template works for no conversation: it {wrong}"}
        else:
            style = detect_style(template, question["source"], tokens)
            answer = {"turn_end": find_turn_end(template, tokens), "style": asdict(style)}
    except FailedPrecondition as error:
        answer = {"error": error.message}
    except MemoryError:
        answer = {"error": f"the model's chat template takes more than {_MAX_MEMORY_BYTES >> 20} MiB of memory"}
    json.dump(answer, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())

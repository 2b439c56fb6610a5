"""Renders a chat template in a process of its own, where one that never ends or takes all memory can be killed.

The front starts it as `python -m infermesh_worker.models.templates.template_process --fd N --parent PID`. It compiles
the template that the first frame holds, and then answers each conversation with its text. A frame is its length as a
4-byte little-endian unsigned integer, and that many bytes: JSON towards the process, an `Outcome` and UTF-8 text, or
JSON, towards the front.
"""

import argparse
import json
import resource
import signal
import socket
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from enum import IntEnum
from typing import Any, BinaryIO

from infermesh_runtime.chat_templates.chat_template import ChatTemplate
from infermesh_runtime.chat_templates.control_tokens import Rendered
from infermesh_runtime.chat_templates.detect import detect_style
from infermesh_runtime.errors import FailedPrecondition, InvalidArgument
from infermesh_runtime.processes.parent import die_with

MAX_MEMORY_BYTES = 1 << 30
"""Most address space of the process."""
MAX_TEXT_BYTES = 64 << 20
"""Longest text that a template may make of a conversation."""
LENGTH = struct.Struct("<I")


class Outcome(IntEnum):
    """The first byte of an answer."""

    RENDERED = 0
    """The text of the prompt follows."""
    IN_PIECES = 3
    """The text of the prompt follows as a JSON list: text, control token, text, …, text."""
    REFUSED = 1
    """The template rejects the conversation, for the reason that follows."""
    BROKEN = 2
    """The template cannot be used, for the reason that follows."""


def pack_template(source: str, options: Mapping[str, Any]) -> bytes:
    """The first frame: the template, and the options of `ChatTemplate`."""
    return _pack(json.dumps({"source": source, **options}).encode())


def pack_conversation(
    messages: Sequence[Mapping[str, Any]],
    *,
    tools: Sequence[Mapping[str, Any]] = (),
    add_generation_prompt: bool = True,
    continue_final: bool = False,
    variables: Mapping[str, Any] | None = None,
) -> bytes:
    """The frame of one conversation, with the arguments of `ChatTemplate.render`."""
    arguments = {
        "messages": messages,
        "tools": tools,
        "add_generation_prompt": add_generation_prompt,
        "continue_final": continue_final,
        "variables": variables or {},
    }
    return _pack(json.dumps(arguments).encode())


def pack_question() -> bytes:
    """The frame that asks how the template writes tool calls and reasoning. The answer is an AnswerStyle as JSON."""
    return _pack(b"{}")


def _pack(payload: bytes) -> bytes:
    return LENGTH.pack(len(payload)) + payload


def _read(frames: BinaryIO) -> bytes:
    """The payload of the next frame; empty when the front has closed the socket."""
    header = frames.read(LENGTH.size)
    return frames.read(*LENGTH.unpack(header)) if len(header) == LENGTH.size else b""


def _answer(outcome: Outcome, text: str) -> bytes:
    encoded = text.encode(errors="replace")
    if len(encoded) > MAX_TEXT_BYTES:
        outcome, encoded = Outcome.REFUSED, f"makes more than {MAX_TEXT_BYTES >> 20} MiB of text".encode()
    return _pack(bytes([outcome]) + encoded)


def _answer_rendered(rendered: Rendered) -> bytes:
    if len(rendered.pieces) == 1:
        return _answer(Outcome.RENDERED, rendered.text)
    return _answer(Outcome.IN_PIECES, json.dumps(rendered.pieces, ensure_ascii=False))


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(prog="infermesh_worker.models.templates.template_process", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="file descriptor of the socket to the front")
    parser.add_argument("--parent", type=int, required=True, help="process id of the front; ends with it")
    options = parser.parse_args(arguments)
    die_with(options.parent)
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    with socket.socket(fileno=options.fd) as front, front.makefile("rb") as frames:
        front.sendall(_answer(Outcome.RENDERED, ""))
        _serve(front, frames)
    return 0


def _serve(front: socket.socket, frames: BinaryIO) -> None:
    source = _read(frames)
    template: ChatTemplate | None = None
    while source and (conversation := _read(frames)):
        try:
            template = template or ChatTemplate(**json.loads(source))
            if asked := json.loads(conversation):
                answer = _answer_rendered(template.render(**asked))
            else:
                answer = _answer(Outcome.RENDERED, _find_style(template, json.loads(source)))
        except FailedPrecondition as error:
            answer = _answer(Outcome.BROKEN, error.message)
        except InvalidArgument as error:
            answer = _answer(Outcome.REFUSED, error.message)
        except MemoryError:
            answer = _answer(Outcome.REFUSED, f"takes more than {MAX_MEMORY_BYTES >> 20} MiB of memory")
        front.sendall(answer)


def _find_style(template: ChatTemplate, options: Mapping[str, Any]) -> str:
    style = detect_style(template, options["source"], [*options["control_tokens"], *options["added_tokens"]])
    return json.dumps(asdict(style))


if __name__ == "__main__":
    sys.exit(main())

"""Renders a model's chat template in a process of its own, bounded in time, memory and size."""

import asyncio
import json
import logging
import os
import re
import socket
import subprocess
import sys
import weakref
from collections.abc import Mapping, Sequence

from infermesh_runtime.chat_templates.content import ContentFormat
from infermesh_runtime.chat_templates.control_tokens import Rendered, control_set
from infermesh_runtime.chat_templates.environment import fixed_names, literal_texts, parse_template, uses_tools
from infermesh_runtime.errors import FailedPrecondition, InvalidArgument, Unavailable
from infermesh_runtime.manifest.answer_style import AnswerStyle
from infermesh_worker.models.templates.template_process import (
    LENGTH,
    MAX_TEXT_BYTES,
    Outcome,
    pack_question,
    pack_template,
)

_START_S = 30.0
"""Longest wait for the process to start, which takes 0.2 s on an idle machine."""
_READ_BYTES = 1 << 18
_NAME = re.compile(r"[A-Za-z_]\w*")

_log = logging.getLogger(__name__)


class BoundedTemplate:
    """A chat template. Its process starts with the first conversation, and again after it was killed.

    Used from one event loop, in the main thread. `close` ends the process.
    """

    def __init__(
        self,
        source: str,
        *,
        model: str,
        special_tokens: Mapping[str, str] | None = None,
        control_tokens: Sequence[str] = (),
        added_tokens: Sequence[str] = (),
    ) -> None:
        """`model` names the template in errors; the others are those of `ChatTemplate`.

        Raises FailedPrecondition when `source` has a syntax error.
        """
        tree = parse_template(source)
        self.takes_tools = uses_tools(tree)
        self._names = frozenset(_NAME.findall(source)) - fixed_names(tree)
        self.control_tokens = control_set(literal_texts(tree), control_tokens, added_tokens)
        """Tokens that come from the template alone."""
        self.timeout_s = 2.0
        """Longest time for one conversation."""
        self.content_format: ContentFormat = "auto"
        """Counts from the next start of the process."""
        self.special_tokens_anywhere = False
        """Whether special tokens that users write out count as such. Counts from the next start of the process."""
        self.style: AnswerStyle | None = None
        """How it writes tool calls and reasoning; None: not known yet, see `find_style`."""
        self._source = source
        self._options = {
            "special_tokens": dict(special_tokens or {}),
            "control_tokens": list(control_tokens),
            "added_tokens": list(added_tokens),
        }
        self._model = model
        self._process: _TemplateProcess | None = None
        self._one_at_a_time = asyncio.Lock()

    def takes(self, name: str) -> bool:
        """Whether the template does something with a variable, or a member of a message, of this name."""
        return name in self._names

    async def find_style(self) -> AnswerStyle:
        """How the template writes tool calls and reasoning, found once.

        Raises Unavailable when no process starts. A template that fails at it shows no style.
        """
        if self.style is None:
            try:
                answer = await self.render(pack_question())
            except (InvalidArgument, FailedPrecondition) as error:
                _log.warning("no style of answers found", extra={"model": self._model, "reason": error.message})
                self.style = AnswerStyle()
            else:
                self.style = AnswerStyle(**json.loads(answer.text))
        return self.style

    async def render(self, conversation: bytes) -> Rendered:
        """The text of the prompt, from a frame of `pack_conversation`.

        Raises InvalidArgument, which names the template, when it rejects the conversation, or takes too long or too
        much memory for it; FailedPrecondition when it cannot be used at all; Unavailable when no process starts.
        """
        async with self._one_at_a_time:
            process = await self._started()
            try:
                async with asyncio.timeout(self.timeout_s):
                    outcome, text = await process.ask(conversation)
            except TimeoutError:
                self.close()
                raise self._refusal(f"takes more than {self.timeout_s:g} s to render this conversation") from None
            except (OSError, EOFError):
                self.close()
                raise self._refusal("fails on this conversation") from None
            except BaseException:  # the answer is still to come, and would be taken for that of the next conversation
                self.close()
                raise
        if outcome is Outcome.BROKEN:
            raise FailedPrecondition(text)
        if outcome is Outcome.REFUSED:
            raise self._refusal(text)
        return Rendered(tuple(json.loads(text)) if outcome is Outcome.IN_PIECES else (text,))

    def close(self) -> None:
        """Ends the process; another `render` starts a new one."""
        process, self._process = self._process, None
        if process is not None:
            process.stop()

    async def _started(self) -> "_TemplateProcess":
        if self._process is not None and self._process.has_ended:
            self.close()
        if self._process is None:
            try:
                self._process = _TemplateProcess()
                async with asyncio.timeout(_START_S):
                    await self._process.begin(self._pack())
            except BaseException as error:
                self.close()
                if not isinstance(error, (OSError, EOFError)):
                    raise
                _log.warning("no process for chat templates", extra={"reason": repr(error)})
                problem = "Chat templates cannot be rendered at the moment."
                raise Unavailable(problem, reason="TEMPLATES_UNAVAILABLE", retry_after_s=1.0) from error
        return self._process

    def _pack(self) -> bytes:
        options = {**self._options, "content_format": self.content_format}
        if self.special_tokens_anywhere:
            options |= {"control_tokens": [], "added_tokens": []}
        return pack_template(self._source, options)

    def _refusal(self, problem: str) -> InvalidArgument:
        words = f"the chat template of model {self._model!r} {problem}"
        return InvalidArgument(words, fields={"chat.messages": words})


class _TemplateProcess:
    """A running template process."""

    def __init__(self) -> None:
        """Starts it, in about a millisecond. Raises OSError."""
        ours, theirs = socket.socketpair()
        module = "infermesh_worker.models.templates.template_process"
        arguments = ["--fd", str(theirs.fileno()), "--parent", str(os.getpid())]
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", module, *arguments], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
                )
            except OSError:
                ours.close()
                raise
        ours.setblocking(False)
        self._socket = ours
        self.stop = weakref.finalize(self, _end, self._process, self._socket)
        """Kills it. The same happens when nobody refers to it any more."""

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    async def begin(self, template: bytes) -> None:
        """Waits until it runs, and gives it the template. Raises OSError and EOFError."""
        await self._read_answer()
        await asyncio.get_running_loop().sock_sendall(self._socket, template)

    async def ask(self, conversation: bytes) -> tuple[Outcome, str]:
        """Its answer to a conversation. Raises OSError and EOFError."""
        await asyncio.get_running_loop().sock_sendall(self._socket, conversation)
        return await self._read_answer()

    async def _read_answer(self) -> tuple[Outcome, str]:
        buffer = bytearray()
        while len(buffer) < LENGTH.size:
            buffer += await self._receive()
        (size,) = LENGTH.unpack_from(buffer)
        if not 1 <= size <= MAX_TEXT_BYTES + 1:
            raise EOFError("the answer is malformed")
        while len(buffer) < LENGTH.size + size:
            buffer += await self._receive()
        text = buffer[LENGTH.size + 1 :].decode(errors="replace")
        return Outcome(buffer[LENGTH.size]), text

    async def _receive(self) -> bytes:
        data = await asyncio.get_running_loop().sock_recv(self._socket, _READ_BYTES)
        if not data:
            raise EOFError("the process has ended")
        return data


def _end(process: subprocess.Popen[bytes], ours: socket.socket) -> None:
    process.kill()
    process.wait()
    ours.close()

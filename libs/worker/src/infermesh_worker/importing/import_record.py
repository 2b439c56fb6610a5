"""What is known of one import: what it was asked for, how far it is, and how it ended."""

import json
import math
import signal
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from infermesh_runtime.importing.network_imports import redacted
from infermesh_worker.importing.import_process import Outcome

_MOST_STEP_CHARS, _MOST_MESSAGE_CHARS = 200, 1000
_MOST_BYTES = float(1 << 60)


class ImportState(Enum):
    """How an import stands."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(slots=True)
class ImportRecord:
    """An import. All texts are bounded, and have no passwords."""

    import_id: str
    source: str
    name: str
    started_at: datetime
    state: ImportState = ImportState.RUNNING
    step: str = "Starting"
    fraction: float | None = None
    """How far the step is, in [0, 1]; None: not known."""
    done_bytes: int | None = None
    """How far it is, in bytes; None: it does not count bytes."""
    total_bytes: int | None = None
    published: bool = False
    """Whether the model is there, though the command may still clear up."""
    error: str = ""
    """What the command says that is wrong, before it has ended."""
    message: str = ""
    """Why it failed."""
    ended_at: datetime | None = None

    def note_line(self, raw: bytes) -> None:
        """Takes up a line of the command, as infermesh_client.model_import.progress_lines writes it."""
        try:
            line = json.loads(raw)
        except (ValueError, RecursionError):  # a library has printed something
            return
        if not isinstance(line, dict):
            return
        self.published = self.published or line.get("published") is True
        if "error" in line:
            self.error = _text(line["error"], _MOST_MESSAGE_CHARS)
        elif "step" in line:
            self.step = _text(line["step"], _MOST_STEP_CHARS)
            self._note_progress(line)

    def end(self, state: ImportState, message: str = "") -> None:
        """Notes how it ended."""
        self.state, self.message = state, message
        self.ended_at = datetime.now(UTC)

    def problem_of(self, outcome: Outcome) -> str:
        """Why it failed."""
        if self.error:
            return self.error
        if outcome.exit_code < 0:
            name = signal.Signals(-outcome.exit_code).name
            return f"the import was ended by {name}, as happens when memory runs out"
        lines = (line.strip("│ \t") for line in outcome.last_words.splitlines())  # errors of options are in a box
        words = [line for line in lines if any(map(str.isalnum, line))]
        last = words[-1].removeprefix("error: ") if words else f"the import ended with exit code {outcome.exit_code}"
        return _text(last, _MOST_MESSAGE_CHARS)

    def _note_progress(self, line: dict[str, Any]) -> None:
        done, total = _number(line.get("done")), _number(line.get("total"))
        self.fraction = min(1.0, done / total) if done is not None and total else None
        if line.get("unit") == "bytes":
            self.done_bytes = None if done is None else int(done)
            self.total_bytes = None if total is None else int(total)
        else:
            self.done_bytes = self.total_bytes = None


def _text(value: object, most_chars: int) -> str:
    text = redacted(" ".join(str(value).split()))
    return text if len(text) <= most_chars else f"{text[: most_chars - 1]}…"


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value) if 0 <= value <= _MOST_BYTES else None

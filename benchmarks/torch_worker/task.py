"""Tells a contestant on torch what to run, as one JSON argument, and puts our packages of this checkout on its path.

Imports none of our packages: on a machine where they are not installed, the benchmark runs from the checkout.
"""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

CHECK_ROUND = -1
"""Number of the round in which a contestant returns its tokens and their log probabilities instead of its speed."""
_SOURCES = ("libs/runtime/src", "libs/engine/src", "libs/worker/src", "services/worker-xpu/src")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One model on one device, and the size of each request."""

    folder: str
    device: Literal["auto", "xpu", "cuda", "cpu"]
    dtype: Literal["bf16", "fp16", "fp32"]
    prompt_tokens: int
    new_tokens: int
    max_streams: int
    first_token: int
    """First of the token ids that prompts are drawn from; `last_token` ends them and is not drawn."""
    last_token: int
    kv_cache_bytes: int
    context_length: int
    check_tokens: int = 0
    """Length of each answer in the check round, in tokens."""

    def dumps(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def of_arguments(cls) -> "Task":
        """Reads the task from this process's first argument."""
        return cls(**json.loads(sys.argv[1]))

    @property
    def vocabulary(self) -> range:
        return range(self.first_token, self.last_token)


def use_checkout() -> None:
    """Puts our packages of this checkout on the path, before any installed ones."""
    root = Path(__file__).resolve().parents[2]
    sys.path[:0] = [str(root / source) for source in _SOURCES]

"""Owns what contestants on torch are told, as one JSON argument, and where our packages are in this checkout.

Needs no package of ours, so that a machine without them installed can run the rest from the checkout.
"""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

CHECK_ROUND = -1
"""Number of the round in which a contestant gives its tokens and their log probabilities, not its speed."""
_SOURCES = ("libs/runtime/src", "libs/engine/src", "services/worker-xpu/src")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One model on one device, and the size of each request."""

    folder: str
    device: str
    dtype: str
    prompt_tokens: int
    new_tokens: int
    max_streams: int
    first_token: int
    """Prompts are drawn from the tokens from here on."""
    last_token: int
    kv_cache_bytes: int
    context_length: int
    check_tokens: int = 0
    """Tokens of each answer in the check round."""

    def dumps(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def of_arguments(cls) -> "Task":
        """The task in this process' first argument."""
        return cls(**json.loads(sys.argv[1]))

    @property
    def vocabulary(self) -> range:
        return range(self.first_token, self.last_token)


def use_checkout() -> None:
    """Puts our packages of this checkout on the path, before any that is installed."""
    root = Path(__file__).resolve().parents[1]
    sys.path[:0] = [str(root / source) for source in _SOURCES]

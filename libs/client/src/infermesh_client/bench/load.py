"""The requests of a benchmark: whom to ask, and the body of each, without the fields that the server refuses."""

from dataclasses import dataclass, replace
from typing import Any

_REFUSED = ("400:", "422:")
"""How an error begins that may be about a field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What to ask, of whom."""

    url: str
    """Base URL, with /v1 or without."""
    model: str
    max_tokens: int
    requests: int
    """How many requests each stream makes, one after the other."""
    key: str = ""
    device: str = ""
    """Where our router answers; other servers are asked without."""
    completions: bool = False
    """Whether to continue texts instead of chatting, as base models do."""
    left_out: frozenset[str] = frozenset()
    """Fields that the server refuses."""

    def body(self, number: int) -> dict[str, Any]:
        """A request whose prompt begins like no other one's, so that no prefix cache has it."""
        name = str(number)[::-1]  # the digits that change come first
        text = f"{name} is the number of a story: tell me, at length and in detail, of a journey along a river."
        longest = "max_completion_tokens" if "max_tokens" in self.left_out else "max_tokens"
        body: dict[str, Any] = {"model": self.model, longest: self.max_tokens, "temperature": 0, "stream": True}
        body |= {"prompt": text} if self.completions else {"messages": [{"role": "user", "content": text}]}
        body |= {"stream_options": {"include_usage": True}, **({"device": self.device} if self.device else {})}
        return {name: value for name, value in body.items() if name not in self.left_out}

    def path(self) -> str:
        """The URL to post to."""
        kind = "completions" if self.completions else "chat/completions"
        return f"{self.url.rstrip('/').removesuffix('/v1')}/v1/{kind}"

    def without_refused(self, error: str) -> "Load | None":
        """The same without a field that the error names, or without a chat; None if the error is about something else.

        Newer models of OpenAI take max_completion_tokens instead of max_tokens and no temperature; some servers do not
        know stream_options.
        """
        if not error.startswith(_REFUSED):
            return None
        if "chat template" in error and not self.completions:  # a base model, as our mesh and vLLM say
            return replace(self, completions=True)
        named = [name for name in ("stream_options", "max_tokens", "temperature") if name in error]
        fields = [name for name in named if name not in self.left_out]
        return replace(self, left_out=self.left_out | {fields[0]}) if fields else None

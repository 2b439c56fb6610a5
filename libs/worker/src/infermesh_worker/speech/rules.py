"""Which token may come next: Whisper's rules of times, and the tokens that it never writes."""

from collections.abc import Sequence

import numpy as np

from infermesh_runtime.tensors import Array
from infermesh_worker.speech.config import SpecialTokens


class TokenRules:
    """The rules of one model; the same as transformers' logits processors for Whisper with timestamps."""

    def __init__(self, tokens: SpecialTokens, vocab_size: int) -> None:
        self._tokens = tokens
        self._never = _inside(tokens.suppressed, vocab_size)
        self._never_first = _inside(tokens.suppressed_first, vocab_size)

    def apply(self, logits: Array, written: Sequence[int]) -> None:
        """Sets the logits [vocabulary] of tokens that may not follow those `written` to -inf, in place."""
        tokens, time = self._tokens, self._tokens.first_time
        if not written:
            logits[self._never_first] = -np.inf
        logits[self._never] = -np.inf
        logits[tokens.no_timestamps] = -np.inf
        after_time = bool(written) and written[-1] >= time
        after_two = len(written) < 2 or written[-2] >= time
        if after_time and after_two:  # times come in pairs: an end, and the beginning of what follows
            logits[time:] = -np.inf
        elif after_time:
            logits[: tokens.end] = -np.inf
        last = next((token for token in reversed(written) if token >= time), None)
        if last is not None:  # time does not run backwards, and no text takes none
            logits[time : last if after_time and not after_two else last + 1] = -np.inf
        if not written:
            logits[:time] = -np.inf
            if tokens.latest_first_time is not None:
                logits[time + tokens.latest_first_time + 1 :] = -np.inf
        if _prefers_time(logits, time):
            logits[:time] = -np.inf


def _prefers_time(logits: Array, time: int) -> bool:
    """Whether some time is more probable than the most probable token of text."""
    times = logits[time:].astype(np.float64)
    most = times.max()
    return bool(np.isfinite(most) and most + np.log(np.exp(times - most).sum()) > logits[:time].max())


def _inside(ids: Sequence[int], vocab_size: int) -> Array:
    return np.array([id_ for id_ in ids if 0 <= id_ < vocab_size], np.int64)

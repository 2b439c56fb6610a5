"""Converts log probabilities to OpenAI's two forms: chat's list of objects and the older parallel lists."""

import codecs
from collections.abc import Sequence
from typing import Any

from infermesh.inference.v1 import inference_pb2 as pb


def chat_logprobs(tokens: Sequence[pb.TokenLogprob]) -> list[dict[str, Any]]:
    """The `content` of the logprobs of a chat choice."""
    return [{**_chat_token(token), "top_logprobs": [_chat_token(top) for top in token.top]} for token in tokens]


def _chat_token(token: pb.TokenLogprob) -> dict[str, Any]:
    return {
        "token": token.token.decode(errors="replace"),
        "logprob": token.logprob,
        "bytes": list(token.token),
    }


class LegacyLogprobs:
    """Converts the logprobs of one choice of /v1/completions, counting the characters before each token."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._offset_chars = 0

    def convert(self, tokens: Sequence[pb.TokenLogprob]) -> dict[str, list[Any]]:
        """Parallel lists for `tokens`, which follow those of the last call.

        As with OpenAI, a token that is not valid UTF-8 reads "bytes:\\xe2\\x82". The sampled token is always among the
        top ones, so there may be one more than requested.
        """
        return {
            "tokens": [_show(token.token) for token in tokens],
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [{_show(t.token): t.logprob for t in (*token.top, token)} for token in tokens],
            "text_offset": [self._advance(token.token) for token in tokens],
        }

    def _advance(self, token: bytes) -> int:
        offset = self._offset_chars
        self._offset_chars += len(self._decoder.decode(token))
        return offset


def _show(token: bytes) -> str:
    try:
        return token.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token)

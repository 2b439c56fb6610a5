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

    def echo(self, text: str, tokens: Sequence[pb.TokenLogprob], top: int) -> dict[str, list[Any]]:
        """Parallel lists for the tokens of the prompt, which come first: `text` is the prompt, `top` is how many
        alternatives were asked for. A special token that the text does not have takes no characters.
        """
        offsets = [self._advance_in(text, token.token) for token in tokens]
        self._offset_chars = len(text)
        later = tokens[1:]
        return {
            "tokens": [_show(token.token) for token in tokens],
            "token_logprobs": [None, *(token.logprob for token in later)],
            "top_logprobs": [
                None,
                *({_show(t.token): t.logprob for t in (*token.top[:top], token)} for token in later),
            ],
            "text_offset": offsets,
        }

    def convert(self, tokens: Sequence[pb.TokenLogprob]) -> dict[str, list[Any]]:
        """Parallel lists for `tokens`, which follow those of the last call.

        As with OpenAI, a token that is not valid UTF-8 reads "bytes:\\xe2\\x82". The sampled token is always among the
        top ones, so there may be one more than requested.
        """
        return {
            "tokens": [_show(token.token) for token in tokens],
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [_by_text(token) for token in tokens],
            "text_offset": [self._advance(token.token) for token in tokens],
        }

    def _advance(self, token: bytes) -> int:
        offset = self._offset_chars
        self._offset_chars += len(self._decoder.decode(token))
        return offset

    def _advance_in(self, text: str, token: bytes) -> int:
        offset = self._offset_chars
        decoded = self._decoder.decode(token)
        if text.startswith(decoded, offset):
            self._offset_chars += len(decoded)
        return offset


def join_legacy(first: dict[str, list[Any]], second: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Two results of LegacyLogprobs, one after the other."""
    return {name: values + second[name] for name, values in first.items()}


def vllm_prompt_logprobs(tokens: Sequence[pb.TokenLogprob], top: int) -> list[dict[str, Any] | None]:
    """vLLM's `prompt_logprobs`: for each token of the prompt but the first, log probabilities by token id."""
    return [None, *(_by_id(token, top) for token in tokens[1:])]


def _by_text(token: pb.TokenLogprob, top: int | None = None) -> dict[str, float]:
    return {_show(each.token): each.logprob for each in (*token.top[:top], token)}


def _by_id(token: pb.TokenLogprob, top: int) -> dict[str, Any]:
    entries = {str(each.token_id): _vllm_entry(each, rank) for rank, each in enumerate(token.top[:top], 1)}
    return entries | {str(token.token_id): _vllm_entry(token, token.rank or None)}


def _vllm_entry(token: pb.TokenLogprob, rank: int | None) -> dict[str, Any]:
    return {"logprob": token.logprob, "rank": rank, "decoded_token": token.token.decode(errors="replace")}


def _show(token: bytes) -> str:
    try:
        return token.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token)

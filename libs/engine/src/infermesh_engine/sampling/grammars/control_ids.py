"""Finds the tokens that llguidance takes for control tokens: no text in a grammar matches them, only their ids do."""

from collections.abc import Mapping

from tokenizers import Tokenizer


def control_ids(tokenizer: Tokenizer) -> Mapping[str, int]:
    """Their ids, by the text that stands for them: special tokens, and other added ones in angle brackets.

    Qwen's `<tool_call>` and `</think>` are of the second kind. A grammar with their text admits no token: the model
    writes the token, which is not the text, and the text is tokenised as the token.
    """
    added = tokenizer.get_added_tokens_decoder().items()
    return {
        token.content: token_id
        for token_id, token in added
        if token.special or (token.content.startswith("<") and token.content.endswith(">"))
    }

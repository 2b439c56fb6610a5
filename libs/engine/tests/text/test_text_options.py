"""Special tokens and stop strings are part of the text if the request keeps them."""

import pytest
from tokenizers import Tokenizer

from infermesh_engine.requests.request import StopConditions, TextOptions
from infermesh_engine.text.sequence_text import SequenceText

EOS = 256


def text_of(tokenizer: Tokenizer, text: str, stop: StopConditions, options: TextOptions, *ids: int) -> tuple[str, str]:
    """The text that is shown of `text` and the tokens `ids` after it, and what stopped it."""
    state = SequenceText(tokenizer, (1,), stop, frozenset({EOS}), options)
    shown = ""
    for token_id in (*tokenizer.encode(text).ids, *ids):
        out = state.push(token_id)
        shown += out.text
        if out.finish_reason is not None:
            return shown, out.stop
    return shown + state.flush().text, ""


@pytest.mark.parametrize(("keep", "shown"), [(False, "ab"), (True, "abSTOP")])
def test_a_stop_string(byte_tokenizer: Tokenizer, keep: bool, shown: str) -> None:
    stop = StopConditions(strings=("STOP",))
    assert text_of(byte_tokenizer, "abSTOPcd", stop, TextOptions(keep_stop=keep)) == (shown, "STOP")


@pytest.mark.parametrize(("keep", "shown"), [(False, "ab"), (True, "abc")])
def test_a_stop_token(byte_tokenizer: Tokenizer, keep: bool, shown: str) -> None:
    (token_id,) = byte_tokenizer.encode("c").ids
    stop = StopConditions(token_ids=(token_id,))
    assert text_of(byte_tokenizer, "abcd", stop, TextOptions(keep_stop=keep)) == (shown, "c")


@pytest.mark.parametrize(("keep", "shown"), [(False, "abé"), (True, "ab<eos>é<eos>")])
def test_special_tokens(byte_tokenizer: Tokenizer, keep: bool, shown: str) -> None:
    stop = StopConditions(ignore_eos=True)
    ids = (EOS, *byte_tokenizer.encode("é").ids, EOS)
    assert text_of(byte_tokenizer, "ab", stop, TextOptions(keep_special_tokens=keep), *ids) == (shown, "")


def test_some_special_tokens(byte_tokenizer: Tokenizer) -> None:
    tokenizer = Tokenizer.from_str(byte_tokenizer.to_str())
    tokenizer.add_special_tokens(["<call>", "<pad>"])
    call, pad = 257, 258
    first, second = tokenizer.encode("é").ids
    options = TextOptions(shown_token_ids=(call,))
    special = frozenset({EOS, call, pad})
    state = SequenceText(tokenizer, (pad,), StopConditions(), frozenset(), options, special_token_ids=special)
    texts = [
        state.push(token_id).text for token_id in (*tokenizer.encode("a").ids, call, pad, first, pad, second, call)
    ]
    assert texts == ["a", "<call>", "", "", "", "é", "<call>"]
    assert state.flush().text == ""

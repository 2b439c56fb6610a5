"""The text of one choice and the conditions that end it."""

from typing import Any

import pytest
from tokenizers import Tokenizer

from infermesh_engine.requests.output import FinishReason
from infermesh_engine.requests.request import StopConditions
from infermesh_engine.text.sequence_text import SequenceText, TextOut
from infermesh_engine.text.stop_buffer import Released

EOS = 256


def ids_of(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer.encode(text).ids)


def make_text(tokenizer: Tokenizer, **conditions: Any) -> SequenceText:
    return SequenceText(tokenizer, ids_of(tokenizer, "Q:"), StopConditions(**conditions), frozenset({EOS}))


def push_all(text: SequenceText, token_ids: list[int]) -> list[TextOut]:
    outs = []
    for token_id in token_ids:
        outs.append(text.push(token_id))
        if outs[-1].finish_reason is not None:
            break
    return outs


def joined(outs: list[TextOut]) -> str:
    return "".join(out.text for out in outs)


def test_end_of_sequence_ends_without_text_and_shows_what_was_held_back(byte_tokenizer: Tokenizer) -> None:
    outs = push_all(make_text(byte_tokenizer, strings=("END",)), [*ids_of(byte_tokenizer, "a EN"), EOS, 5])
    assert outs[-1] == TextOut("EN", FinishReason.STOP, "")
    assert joined(outs) == "a EN"


def test_incomplete_character_before_the_end_is_shown(byte_tokenizer: Tokenizer) -> None:
    outs = push_all(make_text(byte_tokenizer), [*ids_of(byte_tokenizer, "é")[:1], EOS])
    assert joined(outs) == "\N{REPLACEMENT CHARACTER}"


def test_ignored_end_of_sequence_is_a_token_without_text(byte_tokenizer: Tokenizer) -> None:
    outs = push_all(make_text(byte_tokenizer, ignore_eos=True), [EOS, *ids_of(byte_tokenizer, "ab")])
    assert joined(outs) == "ab"
    assert outs[-1].finish_reason is None


def test_stop_token_is_named_and_not_shown(byte_tokenizer: Tokenizer) -> None:
    (x,) = ids_of(byte_tokenizer, "x")
    outs = push_all(make_text(byte_tokenizer, token_ids=(x,)), ids_of(byte_tokenizer, "abxc"))
    assert outs[-1] == TextOut("", FinishReason.STOP, "x")
    assert joined(outs) == "ab"
    special = push_all(make_text(byte_tokenizer, token_ids=(EOS,), ignore_eos=True), [EOS])
    assert special == [TextOut("", FinishReason.STOP, "<eos>")]


def test_stop_string_across_tokens_is_not_shown(byte_tokenizer: Tokenizer) -> None:
    outs = push_all(make_text(byte_tokenizer, strings=("é!", "zz")), ids_of(byte_tokenizer, "caf é é! more"))
    assert joined(outs) == "caf é "
    assert (outs[-1].finish_reason, outs[-1].stop) == (FinishReason.STOP, "é!")


def test_stop_string_does_not_begin_in_the_prompt(byte_tokenizer: Tokenizer) -> None:
    assert joined(push_all(make_text(byte_tokenizer, strings=(":a",)), ids_of(byte_tokenizer, "ab"))) == "ab"


def test_flush_shows_what_a_longer_output_might_have_hidden(byte_tokenizer: Tokenizer) -> None:
    text = make_text(byte_tokenizer, strings=("stop",))
    assert joined(push_all(text, ids_of(byte_tokenizer, "do not sto"))) == "do not "
    assert text.flush() == Released("sto", None)
    text = make_text(byte_tokenizer, strings=("b\N{REPLACEMENT CHARACTER}",))
    assert joined(push_all(text, ids_of(byte_tokenizer, "abé")[:-1])) == "a"
    assert text.flush() == Released("", "b\N{REPLACEMENT CHARACTER}")


def test_a_stop_string_that_waited_for_a_longer_one_counts_at_the_end(byte_tokenizer: Tokenizer) -> None:
    text = make_text(byte_tokenizer, strings=("abc", "b"))
    assert joined(push_all(text, ids_of(byte_tokenizer, "xab"))) == "x"
    out = text.push(EOS)
    assert (out.text, out.finish_reason, out.stop) == ("a", FinishReason.STOP, "b")
    text = make_text(byte_tokenizer, strings=("abc", "b"))
    push_all(text, ids_of(byte_tokenizer, "xab"))
    assert text.flush() == Released("a", "b")


@pytest.mark.parametrize("min_tokens", [0, 3, 6])
def test_nothing_ends_within_min_tokens(byte_tokenizer: Tokenizer, min_tokens: int) -> None:
    (x,) = ids_of(byte_tokenizer, "x")
    for token_ids in ([EOS] * 9, [x] * 9):
        text = make_text(byte_tokenizer, token_ids=(x,), min_tokens=min_tokens)
        assert len(push_all(text, token_ids)) == min_tokens + 1
    text = make_text(byte_tokenizer, strings=("ab",), min_tokens=min_tokens)
    shown = joined(push_all(text, ids_of(byte_tokenizer, "ababababab")))
    assert shown == {0: "", 3: "abab", 6: "ababab"}[min_tokens]

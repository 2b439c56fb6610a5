"""Which tokens are control tokens for grammars: those that llguidance says."""

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from infermesh_engine.requests.request import OutputFormat
from infermesh_engine.sampling.grammars.control_ids import control_ids
from infermesh_engine.sampling.grammars.grammar import GrammarFactory, index_vocabulary

EOS = "<eos>"
NAMES = ("<tool_call>", "</think>", "<|x|>", "<a b>", "[TOOL_CALLS]", "functools[", "word", "<half")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """One token for each byte, and added ones that are not special."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(EOS, special=True)])
    made.add_tokens([AddedToken(name, special=False, normalized=False) for name in NAMES])
    return made


def id_of(tokenizer: Tokenizer, name: str) -> int:
    found = tokenizer.token_to_id(name)
    assert found is not None
    return int(found)


def test_they_are_those_of_llguidance(tokenizer: Tokenizer) -> None:
    index = index_vocabulary(tokenizer.to_str(), {id_of(tokenizer, EOS)})
    found = control_ids(tokenizer)
    assert set(found) == {name for name in (EOS, *NAMES) if index.is_special_token(id_of(tokenizer, name))}
    assert {"<tool_call>", "</think>"} <= set(found)


@pytest.mark.parametrize("name", NAMES)
def test_a_grammar_reaches_its_end(tokenizer: Tokenizer, name: str) -> None:
    """The masks let the model write the token, whether the grammar names it or has its text."""
    token_id, eos = id_of(tokenizer, name), id_of(tokenizer, EOS)
    mark = f"<[{token_id}]>" if name in control_ids(tokenizer) else f'"{name}"'
    state = GrammarFactory(tokenizer, {eos}).compile(OutputFormat(kind="grammar", spec=f'start: {mark} "b"\n'))
    state.consume(token_id)
    state.consume(id_of(tokenizer, "b"))
    assert state.is_finished or state.allowed_bits()[eos >> 3] >> (eos & 7) & 1

"""Grammars in GBNF and in vLLM's EBNF are accepted beside Lark, and told apart by their form."""

import pytest
from tokenizers import Tokenizer

from infermesh_engine.requests.request import OutputFormat
from infermesh_engine.sampling.grammars.grammar import GrammarFactory

from .formats import EOS, admits, refused

SQL = """
root ::= select_statement
select_statement ::= "SELECT " column " from " table " where " condition
column ::= "col_1 "
    | "col_2 "   # a choice on a line of its own
table ::= "table_1 " | "table_2 "
condition ::= column "= " number
number ::= "1 " | "2 "
"""
CHESS = r"""
# a comment: "with" [signs]
root   ::= "1. " move " " move "\n" ([1-9] [0-9]? ". " move " " move "\n")+
move   ::= (pawn | nonpawn | castle) [+#]?
nonpawn ::= [NBKQR] [a-h]? [1-8]? "x"? [a-h] [1-8]
pawn   ::= ([a-h] "x")? [a-h] [1-8] ("=" [NBKQR])?
castle ::= "O-O" "-O"?
"""
LIST = 'root ::= item{2,3}\nitem ::= "- " [^\\r\\n\\x0b\\u0085\\u2028]+ "\\n"'


@pytest.fixture(scope="module")
def factory(byte_tokenizer: Tokenizer) -> GrammarFactory:
    return GrammarFactory(byte_tokenizer, frozenset({EOS}))


def grammar(spec: str) -> OutputFormat:
    return OutputFormat(kind="grammar", spec=spec)


@pytest.mark.parametrize(
    ("spec", "good", "bad"),
    [
        (SQL, "SELECT col_2  from table_1  where col_1 = 2 ", "SELECT col_3 "),
        (CHESS, "1. e4 e5\n2. Nf3 exd4\n", "1. e4 e5\n"),
        (LIST, "- a\n- é\n", "- a\n"),
        ('root ::= "(" root ")" | "x"', "((x))", "(x"),
        ('root ::= "a" | foo-bar\nfoo-bar ::= "b" fooBaz\nfooBaz ::= "c"', "bc", "b"),
        (r'root ::= "\u00e9" [\u4e00-\u4e02] "\x41\u0042" "\"" "\\u0041"', 'é丁AB"\\u0041', "é"),
        ('root ::= "a ::= b"', "a ::= b", "a"),
        ('start: "a ::= b"', "a ::= b", "a"),
        ('start: x\nx: "b" | "c"', "b", "d"),
    ],
)
def test_grammars(factory: GrammarFactory, byte_tokenizer: Tokenizer, spec: str, good: str, bad: str) -> None:
    assert admits(factory, byte_tokenizer, grammar(spec), good)
    assert not admits(factory, byte_tokenizer, grammar(spec), bad)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ('other ::= "a"', "No 'root' rule found"),
        ("root ::= nowhere", "Rule 'nowhere' not found"),
        ('root ::= "a', "Unexpected end"),
        ("root ::= [a", "Unexpected end"),
        ('root ::= "\\q"', "Invalid escape"),
        ('root ::= "\\ud800"', "is not a character"),
        ("root ::= " + "(" * 5000, "nested too deeply"),
        ("\n".join(f"r{i} ::= r{i + 1}" for i in range(1001)), "more than 1000 definitions"),
    ],
)
def test_malformed_ones_are_refused_by_name(factory: GrammarFactory, spec: str, problem: str) -> None:
    assert problem in refused(factory, grammar(spec))

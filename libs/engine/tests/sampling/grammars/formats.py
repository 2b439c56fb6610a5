"""What the tests of output formats share: does a format let a text be generated?"""

import json
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from infermesh_engine.requests.request import OutputFormat
from infermesh_engine.sampling.grammars.grammar import GrammarFactory, GrammarState
from infermesh_runtime.errors import InvalidArgument

EOS = 256


def allowed(state: GrammarState) -> list[int]:
    """The tokens allowed next."""
    return np.flatnonzero(np.unpackbits(state.allowed_bits(), bitorder="little")).tolist()


def admits(factory: GrammarFactory, tokenizer: Tokenizer, output_format: OutputFormat, text: str) -> bool:
    """Whether the masks let `text` be generated, token by token, and then the end."""
    state = factory.compile(output_format)
    for token_id in tokenizer.encode(text).ids:
        if token_id not in allowed(state):
            return False
        state.consume(token_id)
    return EOS in allowed(state)


def schema(value: Any, *, open_objects: bool = False) -> OutputFormat:
    """The format of a JSON schema."""
    return OutputFormat(kind="json_schema", spec=json.dumps(value), open_objects=open_objects)


def refused(factory: GrammarFactory, output_format: OutputFormat) -> str:
    """Why a format is refused; empty if it is not."""
    try:
        factory.compile(output_format)
    except InvalidArgument as error:
        return error.message
    return ""

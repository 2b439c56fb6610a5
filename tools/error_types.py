"""Writes the tables of OpenAI's and Anthropic's error types from libs/runtime into Envoy's errors.lua."""

import re
from pathlib import Path

from infermesh_runtime.error_types.anthropic import lua_table
from infermesh_runtime.error_types.openai import lua_tables

LUA = Path(__file__).parents[1] / "deploy/envoy/src/infermesh_envoy/errors.lua"
_TABLE = re.compile(r"(-- begin of the table[^\n]*\n).*?(-- end of the table)", re.DOTALL)


def with_table(text: str) -> str:
    """The text of errors.lua with the table as it should be."""
    return _TABLE.sub(lambda found: found[1] + lua_tables() + lua_table() + found[2], text)


if __name__ == "__main__":
    LUA.write_text(with_table(LUA.read_text()))

"""Parses calls written in tags, with a tag for each argument (Qwen 3 Coder, GLM, DeepSeek V3.2 and later, MiniMax …).

Values are not quoted: they may contain the tags that end them. A tag ends a value only where another tag follows.
"""

import html
import json
import re

from infermesh_runtime.answer_parsing.formats.held import CallText, Held, up_to
from infermesh_runtime.answer_parsing.json_values import is_json
from infermesh_runtime.answer_parsing.parts import Tools
from infermesh_runtime.answer_parsing.typed_values import object_text, schema_of, typed_value

_FUNCTION = re.compile(
    r"<function=(?P<name>[^>\n]+)>(?P<inside>.*?)(?:</function>\s*(?:</(?:seed:)?tool_call>\s*)?)?\Z", re.S
)
_PARAMETER = re.compile(
    r"<parameter=(?P<key>[^>\n]+)>(?P<value>.*?)"
    r"(?:</parameter>(?=\s*(?:<parameter=|\Z))|(?=\n<parameter=[^>\n]+>\n)|\Z)",
    re.S,
)


def parse_function(text: str, tools: Tools) -> list[CallText] | None:
    """Reads `<function=NAME><parameter=KEY>VALUE</parameter>…</function>`; a newline around a value is not its own."""
    found = _FUNCTION.search(text)
    if not found:
        return None
    name, inside, members = found["name"].strip(), found["inside"], dict[str, str]()
    for parameter in _PARAMETER.finditer(inside):
        key, value = parameter["key"].strip(), parameter["value"].removeprefix("\n").removesuffix("\n")
        members[key] = typed_value(value, schema_of(tools, name, key))
    left = _PARAMETER.sub("", inside).strip()
    return None if left else [(name, object_text(members))]


_GLM = re.compile(r"<tool_call>\s*(?P<name>\w[\w.:/-]*)(?P<inside>.*?)(?P<end></tool_call>)?", re.S)
_GLM_ARGUMENT = re.compile(
    r"<arg_key>(?P<key>.*?)</arg_key>\s*<arg_value>(?P<value>.*?)(?:</arg_value>(?=\s*(?:<arg_key>|\Z))|\Z)", re.S
)


def parse_glm(text: str, tools: Tools) -> list[CallText] | None:
    """Reads `<tool_call>NAME<arg_key>KEY</arg_key><arg_value>VALUE</arg_value>…</tool_call>`."""
    found = _GLM.fullmatch(text)
    if not found:
        return None
    name, inside, members = found["name"], found["inside"], dict[str, str]()
    for argument in _GLM_ARGUMENT.finditer(inside):
        key = argument["key"].strip()
        members[key] = typed_value(argument["value"], schema_of(tools, name, key))
    left = _GLM_ARGUMENT.sub("", inside).strip()
    return None if left or not (members or found["end"]) else [(name, object_text(members))]


_INVOKE = re.compile(r'invoke name="(?P<name>[^"]+)"\s*(?:/>|>(?P<inside>.*?))(?:</(?:｜DSML｜ ?)?invoke>)?\Z', re.S)
_INVOKE_PARAMETER = re.compile(
    r'<(?:｜DSML｜ ?)?parameter name="(?P<key>[^"]*)"(?: string="(?P<string>true|false)")?>(?P<value>.*?)'
    r"(?:</(?:｜DSML｜ ?)?parameter>(?=\s*(?:<(?:｜DSML｜ ?)?parameter |\Z))|\Z)",
    re.S,
)


def parse_invoke(text: str, tools: Tools) -> list[CallText] | None:
    """Reads `<invoke name="NAME"><parameter name="KEY">VALUE</parameter>…</invoke>`; DeepSeek says what is a string."""
    found = _INVOKE.search(text)
    if not found:
        return None
    name, inside, members = found["name"], found["inside"] or "", dict[str, str]()
    for parameter in _INVOKE_PARAMETER.finditer(inside):
        key, value, string = parameter["key"], parameter["value"], parameter["string"]
        if string == "true" or (string and not is_json(value)):
            members[key] = json.dumps(value, ensure_ascii=False)
        else:
            members[key] = value.strip() if string else typed_value(value, schema_of(tools, name, key))
    left = _INVOKE_PARAMETER.sub("", inside).strip()
    return None if left else [(name, object_text(members))]


_OPEN, _CLOSE, _SEP = (re.escape(mark) for mark in ("<|open|>", "<|close|>", "<|sep|>"))
_K3 = re.compile(rf'call tool="(?P<name>[^"]*)"[^<]*{_SEP}(?P<inside>.*?)(?:{_CLOSE}call{_SEP})?\Z', re.S)
_K3_ARGUMENT = re.compile(
    rf'{_OPEN}argument key="(?P<key>[^"]*)" type="(?P<type>\w+)"{_SEP}(?P<value>.*?)'
    rf"{_CLOSE}argument{_SEP}(?=\s*(?:{_OPEN}argument |\Z))",
    re.S,
)


def parse_k3(text: str, _tools: Tools) -> list[CallText] | None:
    """Reads Kimi K3's elements, which say the type of each value."""
    found = _K3.search(text)
    if not found:
        return None
    members = {}
    for argument in _K3_ARGUMENT.finditer(found["inside"]):
        raw = argument["type"] != "string" and is_json(argument["value"])
        value = argument["value"] if raw else json.dumps(argument["value"], ensure_ascii=False)
        members[html.unescape(argument["key"])] = value
    left = _K3_ARGUMENT.sub("", found["inside"]).strip()
    return None if left else [(html.unescape(found["name"]), object_text(members))]


QWEN_CODER = Held(
    begins=("<tool_call>", "<function="),
    then=("<function=",),
    take=up_to(re.compile(r"</function>\s*(?:</tool_call>|(?=<tool_call>|<function=))")),
    parse=parse_function,
)
SEED = Held(
    begins=("<seed:tool_call>", "<function="),
    then=("<function=",),
    take=up_to(re.compile(r"</function>\s*(?:</seed:tool_call>|(?=<seed:tool_call>|<function=))")),
    parse=parse_function,
)
GLM = Held(
    begins=("<tool_call>",),
    take=up_to(re.compile(r"</arg_value>\s*</tool_call>|\A[^<]*</tool_call>")),
    parse=parse_glm,
)
DEEPSEEK_DSML = Held(
    begins=("<｜DSML｜invoke name=", "<｜DSML｜ invoke name="),
    take=up_to(
        re.compile(r"</｜DSML｜ ?parameter>\s*</｜DSML｜ ?invoke>|\A[^<]*</｜DSML｜ ?invoke>|\A\"[^\"]*\"\s*/>")
    ),
    parse=parse_invoke,
    wrappers=tuple(
        f"<{slash}｜DSML｜{name}>" for slash in ("", "/") for name in ("function_calls", "tool_calls", " calls")
    ),
)
MINIMAX = Held(
    begins=("<invoke name=",),
    take=up_to(re.compile(r"</parameter>\s*</invoke>|\A[^<]*</invoke>|\A\"[^\"]*\"\s*/>")),
    parse=parse_invoke,
    wrappers=("<minimax:tool_call>", "</minimax:tool_call>"),
)
KIMI_K3 = Held(
    begins=("<|open|>call ",),
    take=up_to(re.compile(rf"{_CLOSE}argument{_SEP}{_CLOSE}call{_SEP}|\A[^<]*{_SEP}\s*{_CLOSE}call{_SEP}")),
    parse=parse_k3,
    wrappers=tuple(
        f"<|{mark}|>{name}<|sep|>"
        for mark in ("open", "close")
        for name in ("think", "response", "tools", "message", 'message role="assistant"')
    ),
)

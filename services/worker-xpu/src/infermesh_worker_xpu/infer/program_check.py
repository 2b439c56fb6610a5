"""Refuses torch.export programs (.pt2) that hold what is known to run code, before torch loads them.

torch's loader unpickles members, looks up functions by name, writes names into Python source that it runs, and
evaluates symbolic sizes and guards as Python. What is allowed here is what torch.export itself writes for programs of
operators; anything else is refused by name. That is no proof that what is left does no harm: torch was not made for
programs of strangers, so such files are imported only from people who are trusted.
"""

import ast
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from infermesh_runtime.errors import FailedPrecondition, InfermeshError, InvalidArgument
from infermesh_worker_xpu.infer.archive import EXPORT_HINT, Archive, pickled
from infermesh_worker_xpu.infer.spec_check import is_plain_spec

PROGRAM = "models/model.json"
_SAMPLE_INPUTS = "data/sample_inputs/model.pt"
_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_MEMBERS = re.compile(
    r"data/weights/(weight_\d+|model_weights_config\.json)|data/constants/(tensor_\d+|model_constants_config\.json)|"
    rf"{re.escape(PROGRAM)}|{re.escape(_SAMPLE_INPUTS)}|archive_format|archive_version|byteorder|version|"
    r"\.data/\w+|\.format_version|\.storage_alignment|extra/(?!module_info\.json)[^/]+"
)
_PLAIN_TENSOR = re.compile(r"(weight|tensor)_\d+")
_OPERATOR = re.compile(
    r"torch\.ops\.[a-z]\w*\.(?!from_file|save)_?[a-zA-Z]\w*(\._?[a-zA-Z]\w*)?|"
    r"torch\.ops\.aten\.__i?(and|or|xor|lshift|rshift)__\.\w+|torch\._?sym_[a-z]+|math\.[a-z]\w*|"
    r"_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|neg|pow|eq|ne|lt|le|gt|ge|and_|or_|not_)"
)
_SIZE_CALLS = re.compile(
    "Symbol|Integer|Float|Rational|Min|Max|Abs|Eq|Ne|Lt|Le|Gt|Ge|And|Or|Not|Pow|Add|Mul|floor|ceiling|FloorDiv|"
    "ModularIndexing|Where|PythonMod|Mod|CleanDiv|CeilToInt|FloorToInt|CeilDiv|LShift|RShift|PowByNatural|FloatPow|"
    "FloatTrueDiv|IntTrueDiv|TruncToFloat|TruncToInt|RoundToInt|RoundDecimal|ToFloat|Identity|"
    r"GreaterThan|LessThan|StrictGreaterThan|StrictLessThan|Equality|Unequality|BitwiseFn_\w+"
)
_OPERATOR_KEYS = frozenset({"target", "as_operator"})
_SPEC_KEYS = frozenset({"in_spec", "out_spec"})
_TEXT_KEYS = frozenset(
    {"stack_trace", "nn_module_stack", "torch_fn", "from_node", "custom", "torch_version", "as_string", "as_strings"}
)
"""Keys of what torch puts in quotes, or only shows. All other strings are names, which it writes into Python source."""
_NAME = re.compile(r"[\w-]+(\.[\w-]+)*|")
"""Of a tensor, or the path of a module's parameter, in which a part may be a number: 0.weight, of a sequence."""
_GUARD_CALLS = re.compile(r"Min|Max|min|max|abs|int|float|bool|pow|round|math\.(floor|ceil|trunc)")
_GUARD_METHODS = frozenset({"size", "stride", "storage_offset"})
_Allowed = Callable[[ast.AST], bool]
_SYMBOL = re.compile(r"[A-Za-z]\w*")
_OPERATIONS = (ast.Compare, ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Tuple)


def check_program(graph: Path, archive: Archive) -> None:
    """Raises InvalidArgument for a damaged program, FailedPrecondition for one that is not of operators alone."""
    names = set(archive.names)
    if PROGRAM not in names:
        raise _not_one(graph, names)
    for name in names:
        if not _MEMBERS.fullmatch(name):
            raise _refused(graph, f"a part that torch.export does not write for operators: {name}")
    for config in _CONFIGS:
        entries = json.loads(archive.read(config))["config"] if config in names else {}
        for tensor, entry in entries.items():
            if entry.get("use_pickle") or not _PLAIN_TENSOR.fullmatch(entry["path_name"]):
                raise pickled(graph, f"the pickled object {tensor}")
            part = f"{config.rpartition('/')[0]}/{entry['path_name']}"
            if part not in names or (_has_elements(entry) and not archive.size(part)):
                raise InvalidArgument(f"{graph.name} is damaged: it lacks the elements of {tensor}")
    _check_samples(graph, archive)
    body = archive.read(PROGRAM)
    try:
        program = json.loads(body.decode())  # not of another encoding, which torch would not take it for
    except (ValueError, RecursionError):
        raise InvalidArgument(f"{graph.name} is damaged: its program is no JSON") from None
    _check_code(graph, program)


def _has_elements(entry: Any) -> bool:
    return all(size.get("as_int") != 0 for size in entry["tensor_meta"]["sizes"])


def _check_samples(graph: Path, archive: Archive) -> None:
    """torch unpickles the example inputs without limits if they are not tensors alone, so they must be."""
    if _SAMPLE_INPUTS in archive.names and (samples := archive.read(_SAMPLE_INPUTS)):
        try:
            torch.load(io.BytesIO(samples), weights_only=True)
        except Exception as error:  # whatever its unpickler raises
            raise pickled(graph, "pickled example inputs") from error


def _check_code(graph: Path, program: Any) -> None:
    for key, text in _strings(program):
        if key in _OPERATOR_KEYS:
            if not _OPERATOR.fullmatch(text):
                raise _refused(graph, f"a call of {text!r}, which is no operator of torch")
        elif key == "expr_str":
            if not _only(text, _is_size):
                raise _refused(graph, f"the size {text!r}, which is no arithmetic")
        elif key == "guards_code":
            if not _only(text, _is_guard):
                raise _refused(graph, f"the guard {text!r}, which is no comparison of sizes")
        elif key in _SPEC_KEYS:
            if not is_plain_spec(text, arguments=key == "in_spec"):
                raise _refused(graph, f"arguments or results in more than tuples, lists and dicts: {text[:100]}")
        elif key not in _TEXT_KEYS and not _NAME.fullmatch(text):
            raise _refused(graph, f"the name {text[:100]!r}, which could be code")


def _strings(program: Any) -> Iterator[tuple[str, str]]:
    """Every string of nested mappings and lists with the key that it is under, and the keys, under none."""
    waiting = [("", program)]
    while waiting:
        match waiting.pop():
            case (_, dict() as mapping):
                yield from (("", key) for key in mapping)
                waiting += mapping.items()
            case (key, list() as entries):
                waiting += ((key, entry) for entry in entries)
            case (key, str() as text):
                yield key, text
            case _:
                pass


def _only(text: str, allowed: _Allowed) -> bool:
    """Whether a text is one Python expression of allowed parts."""
    try:
        return bool(allowed(ast.parse(text.strip(), mode="eval").body))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _is_size(node: ast.AST) -> bool:
    """Arithmetic on symbols and numbers, as sympy writes it, such as Symbol('s0', integer=True) + 1."""
    match node:
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords) if _SIZE_CALLS.fullmatch(name):
            flags = all(keyword.arg and isinstance(keyword.value, ast.Constant) for keyword in keywords)
            return flags and all(_is_symbol(arg) or _is_size(arg) for arg in args)
        case ast.Name(id=name):
            return _SYMBOL.fullmatch(name) is not None
        case _:
            return _is_arithmetic(node, _is_size)


def _is_guard(node: ast.AST) -> bool:
    """A comparison of sizes, such as L['x'].size()[0] == L['y'].size()[0]."""
    match node:
        case ast.Call(func=ast.Attribute(value=tensor, attr=method), args=args, keywords=[]) if (
            method in _GUARD_METHODS
        ):
            return _is_guard(tensor) and all(map(_is_guard, args))
        case ast.Call(func=function, args=args, keywords=[]):
            return bool(_GUARD_CALLS.fullmatch(ast.unparse(function))) and all(map(_is_guard, args))
        case ast.Subscript(value=value, slice=index):
            return _is_guard(value) and (_is_symbol(index) or _is_guard(index))
        case ast.Name(id=name):
            return _SYMBOL.fullmatch(name) is not None
        case _:
            return _is_arithmetic(node, _is_guard)


def _is_arithmetic(node: ast.AST, allowed: _Allowed) -> bool:
    match node:
        case ast.Constant(value=int() | float() | None):
            return True
        case node if isinstance(node, _OPERATIONS):
            parts = [part for part in ast.iter_child_nodes(node) if isinstance(part, ast.expr)]
            return all(map(allowed, parts))
        case _:
            return False


def _is_symbol(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and bool(_SYMBOL.fullmatch(node.value))


def _refused(graph: Path, what: str) -> InfermeshError:
    return FailedPrecondition(f"{graph.name} holds {what}", reason="MODEL_NOT_SUPPORTED")


def _not_one(graph: Path, names: set[str]) -> InfermeshError:
    if "constants.pkl" in names:
        return InvalidArgument(f"{graph.name} is TorchScript: name it {graph.stem}.pt")
    if "data.pkl" in names:
        return pickled(graph)
    if any(name.startswith("data/aotinductor") for name in names):
        return _refused(graph, f"a compiled library instead of a program; {EXPORT_HINT}")
    return InvalidArgument(f"{graph.name} is no torch.export program, or one of torch 2.7 or older; {EXPORT_HINT}")

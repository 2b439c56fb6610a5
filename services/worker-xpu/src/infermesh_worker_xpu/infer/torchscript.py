"""Loads a TorchScript program (.pt or .ts), with the description of its tensors that it does not hold itself.

Its source is searched for operators that use files before torch loads it. That is no proof that it does no harm: such
programs are imported only from people who are trusted.
"""

import json
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from infermesh_runtime.errors import FailedPrecondition, InvalidArgument
from infermesh_runtime.manifest.model_kind import TensorSpec
from infermesh_worker_xpu.infer.archive import Archive, open_archive, pickled
from infermesh_worker_xpu.infer.dtypes import TYPES
from infermesh_worker_xpu.infer.model_files import SPECS_SUFFIX, specs_file
from infermesh_worker_xpu.infer.program import Program, check_names
from infermesh_worker_xpu.memory_errors import is_out_of_memory

INSIDE = "tensors.json"
"""Name of the description inside of a program, as an extra file."""
_NUMBERS: Mapping[str, str] = {"IntType": "INT64", "FloatType": "FP64", "BoolType": "BOOL"}
"""Types of arguments that are plain numbers: they are scalars in requests."""

_FILE_OPERATORS = re.compile(r"\b(from_file|save)\b")
"""Wherever they stand, for a program may pass an operator to fork, or look it up by its name."""
_LOOK_UP = re.compile(r"\bgetattr\(([\w.]+), \"[^\"\\\n]*\"\)")
"""As torch writes it: the name is one string, in which nothing is escaped."""


class _Tensors(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a description holds."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def load_torchscript(graph: Path, device: torch.device) -> Program:
    """Loads the program onto the device.

    Raises InvalidArgument for a damaged file, and FailedPrecondition for one that cannot be served.
    """
    with open_archive(graph) as archive:
        _check(graph, archive)
        described = _description(graph, archive)
    module = _load(graph, device)
    arguments = module.forward.schema.arguments[1:]
    tensors = _match(graph.name, arguments, described)
    _check_graph(graph.name, module.inlined_graph)
    makes = [_number if argument.type.kind() in _NUMBERS else _same for argument in arguments]
    names = [spec.name for spec in tensors.outputs]

    def call(given: Sequence[Tensor]) -> Sequence[Tensor]:
        return _flat(module(*(make(tensor) for make, tensor in zip(makes, given, strict=True))), names)

    return Program(inputs=tensors.inputs, outputs=tensors.outputs, call=call)


def _check(graph: Path, archive: Archive) -> None:
    names = {name.lower() for name in archive.names}  # torch finds members by names in any case
    if "model.json" in names:
        raise InvalidArgument(f"{graph.name} is TorchScript of a torch older than 1.4: save it again with a newer one")
    if "constants.pkl" in names and any(name.startswith("code/") for name in names):
        return _check_sources(graph, archive)  # its reader makes no Python objects of pickled parts
    if "models/model.json" in names:
        raise InvalidArgument(f"{graph.name} is a torch.export program: name it {graph.stem}.pt2")
    if "data.pkl" in names:
        raise pickled(graph)
    raise InvalidArgument(f"{graph.name} is no TorchScript program")


def _check_sources(graph: Path, archive: Archive) -> None:
    """Raises FailedPrecondition for source that can use files: loading runs some of it, such as __setstate__."""
    for name in archive.names:
        if name.lower().startswith("code/") and not name.lower().endswith(".debug_pkl"):
            source = archive.read(name).decode("utf-8", "replace")
            if found := _FILE_OPERATORS.search(source):
                what = f"{found[1]}, the name of an operator that reads or writes files"
                raise FailedPrecondition(f"{graph.name} uses {what}", reason="MODEL_NOT_SUPPORTED")
            while (simpler := _LOOK_UP.sub(r"\1.found", source)) != source:
                source = simpler
            if "getattr" in source:
                what = f"names in {name} in a way that torch does not write them"
                raise FailedPrecondition(f"{graph.name} looks up {what}", reason="MODEL_NOT_SUPPORTED")


def _description(graph: Path, archive: Archive) -> _Tensors:
    beside = specs_file(graph)
    if beside.is_file():
        text, where = beside.read_bytes(), beside.name
    elif f"extra/{INSIDE}" in archive.names:
        text, where = archive.read(f"extra/{INSIDE}"), f"the extra file {INSIDE} of {graph.name}"
    else:
        example = {"inputs": [{"name": "x", "dtype": "FP32", "shape": [-1, 4]}], "outputs": ["…"]}
        raise FailedPrecondition(
            f"TorchScript does not hold the types and shapes of tensors: describe them in {graph.stem}{SPECS_SUFFIX} "
            f"beside {graph.name}, or in its extra file {INSIDE}, like {json.dumps(example, ensure_ascii=False)}",
            reason="TENSORS_UNKNOWN",
        )
    try:
        return msgspec.json.decode(text, type=_Tensors)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{where} does not describe tensors: {error}") from error


def _load(graph: Path, device: torch.device) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch calls TorchScript deprecated each time
            jit: Any = torch.jit
            return jit.load(graph, map_location=device).eval()
    except Exception as error:  # torch raises errors of several kinds for what it cannot read
        if is_out_of_memory(error):
            raise
        reason = str(error).strip().partition("\n")[0][:300]
        problem = f"torch {torch.__version__} cannot read {graph.name}: {reason}"
        if "maximum supported version" in reason or "Unknown builtin op" in str(error):
            raise FailedPrecondition(problem, reason="MODEL_NOT_SUPPORTED") from error
        raise InvalidArgument(problem) from error


def _match(name: str, arguments: Sequence[Any], described: _Tensors) -> _Tensors:
    """The description, with inputs in the order of the program. Raises InvalidArgument if they do not fit."""
    by_name = {spec.name: spec for spec in described.inputs}
    if len(by_name) < len(described.inputs) or set(by_name) != {argument.name for argument in arguments}:
        listed = ", ".join(argument.name for argument in arguments)
        raise InvalidArgument(f"{name} takes {listed}, but the description lists {', '.join(by_name)}")
    for argument in arguments:
        kind, spec = argument.type.kind(), by_name[argument.name]
        if kind != "TensorType" and (_NUMBERS.get(kind), ()) != (spec.dtype, spec.shape):
            hint = f"describe it as {_NUMBERS[kind]} of shape []" if kind in _NUMBERS else "only tensors can be served"
            raise InvalidArgument(f"{name} takes {argument.name} as {argument.type}: {hint}")
    for spec in (*described.inputs, *described.outputs):
        if spec.dtype not in TYPES:
            raise InvalidArgument(f"{spec.name!r} of {name} is described as {spec.dtype}; expected {', '.join(TYPES)}")
    check_names(name, described.outputs, "output")
    return _Tensors(tuple(by_name[argument.name] for argument in arguments), described.outputs)


def _check_graph(name: str, graph: Any) -> None:
    """Raises FailedPrecondition for a program that changes its own attributes: answers would depend on one another."""
    changed = {node.s("name") for node in graph.findAllNodes("prim::SetAttr", recurse=True)}
    for node in graph.findAllNodes("prim::GetAttr", recurse=True):
        if any(use.user.kind().endswith("_") and use.offset == 0 for use in node.output().uses()):
            changed.add(node.s("name"))  # an operator writes it in place
    if changed:
        raise FailedPrecondition(
            f"{name} changes its own state ({', '.join(sorted(changed))}), so answers would depend on earlier "
            "requests; make the state an input and an output",
            reason="MODEL_NOT_SUPPORTED",
        )


def _same(tensor: Tensor) -> Tensor:
    return tensor


_number: Callable[[Tensor], Any] = Tensor.item


def _flat(found: Any, names: Sequence[str]) -> Sequence[Tensor]:
    """The outputs in the order of their description: one tensor, a sequence of them, or a mapping by name."""
    if isinstance(found, dict):
        if set(found) != set(names):
            raise FailedPrecondition(f"the program gave {', '.join(found)} instead of {', '.join(names)}")
        return [found[name] for name in names]
    flat = [found] if isinstance(found, Tensor) else list(found)
    if len(flat) != len(names):
        raise FailedPrecondition(f"the program gave {len(flat)} outputs instead of {len(names)}")
    return flat

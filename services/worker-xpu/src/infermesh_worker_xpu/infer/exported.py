"""Loads a torch.export program (.pt2) and reads from it which tensors it takes and gives."""

import logging
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.fx
from torch import Tensor
from torch.export.graph_signature import InputKind, OutputKind, TensorArgument
from torch.export.passes import move_to_device_pass
from torch.utils import _pytree as pytree

from infermesh_runtime.errors import FailedPrecondition, InfermeshError, InvalidArgument
from infermesh_runtime.manifest.model_kind import ANY, TensorSpec
from infermesh_worker_xpu.infer.archive import open_archive
from infermesh_worker_xpu.infer.dtypes import type_name
from infermesh_worker_xpu.infer.program import Program, check_names
from infermesh_worker_xpu.infer.program_check import check_program
from infermesh_worker_xpu.memory_errors import is_out_of_memory

_VERSION = re.compile(r"(schema|archive) version|SCHEMA_VERSION", re.IGNORECASE)


def load_exported(graph: Path, device: torch.device) -> Program:
    """Loads the program onto the device.

    Raises InvalidArgument for a damaged file, and FailedPrecondition for one that cannot be served.
    """
    with open_archive(graph) as archive:
        check_program(graph, archive)
    exported = _load(graph)
    try:
        return _program(graph.name, exported, device)
    except InfermeshError:
        raise
    except Exception as error:  # what torch has read without a complaint need not fit together
        if is_out_of_memory(error):
            raise
        raise InvalidArgument(f"{graph.name} is damaged: {_reason(str(error))}") from error


def _program(name: str, exported: Any, device: torch.device) -> Program:
    inputs, takes = _inputs(name, exported)
    outputs, gives = _outputs(name, exported)
    _check_stateless(name, exported)
    in_spec = exported.call_spec.in_spec
    module = move_to_device_pass(exported, device).module()

    def call(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        given = iter(tensors)
        leaves = [next(given) if constant is None else constant[0] for constant in takes]
        args, kwargs = pytree.tree_unflatten(leaves, in_spec)
        found = pytree.tree_leaves(module(*args, **kwargs))
        return [found[index] for index in gives]

    return Program(inputs=inputs, outputs=outputs, call=call)


def _load(graph: Path) -> Any:
    """The program, read by torch, whose reasons are in the errors that it logs."""
    log = logging.getLogger("torch.export")
    told: list[str] = []
    keep = _Keep(told)
    log.addFilter(keep)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.load(graph)
    except Exception as error:  # torch raises errors of every kind for what it cannot read
        if is_out_of_memory(error):
            raise
        reason = _reason(told[-1] if told else str(error))
        if _VERSION.search(reason):
            raise FailedPrecondition(
                f"{graph.name} was saved by a torch that this one, {torch.__version__}, does not understand: {reason}",
                reason="MODEL_NOT_SUPPORTED",
            ) from error
        raise InvalidArgument(f"torch {torch.__version__} cannot read {graph.name}: {reason}") from error
    finally:
        log.removeFilter(keep)


class _Keep(logging.Filter):
    """Keeps the reasons that torch logs, instead of printing them."""

    def __init__(self, told: list[str]) -> None:
        super().__init__()
        self._told = told

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[1]:
            self._told.append(str(record.exc_info[1]))
        return False


def _reason(text: str) -> str:
    """The last line of a message that tells something; torch puts whole tracebacks into some."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines[-1] if "Original exception" in text else lines[0])[:300] if lines else "it gives no reason"


def _inputs(name: str, exported: Any) -> tuple[tuple[TensorSpec, ...], list[tuple[Any] | None]]:
    """The tensors that it takes; and for each leaf of its arguments a constant, or None where a tensor goes."""
    values = {node.name: node.meta.get("val") for node in exported.graph.nodes if node.op == "placeholder"}
    takes: list[tuple[Any] | None] = []
    specs: list[TensorSpec] = []
    for spec in exported.graph_signature.input_specs:
        if spec.kind != InputKind.USER_INPUT:
            continue
        if isinstance(spec.arg, TensorArgument):
            takes.append(None)
            specs.append(_spec(spec.arg.name, values[spec.arg.name]))
        elif hasattr(spec.arg, "value"):
            takes.append((spec.arg.value,))
        else:
            raise FailedPrecondition(
                f"{name} takes the number {spec.arg.name!r}, which is no tensor", reason="MODEL_NOT_SUPPORTED"
            )
    check_names(name, specs, "input")
    return tuple(specs), takes


def _outputs(name: str, exported: Any) -> tuple[tuple[TensorSpec, ...], list[int]]:
    """The tensors that it gives, and which leaves of its result they are."""
    nodes = {node.name: node.meta.get("val") for node in exported.graph.nodes}
    user = [spec for spec in exported.graph_signature.output_specs if spec.kind == OutputKind.USER_OUTPUT]
    paths = _paths(exported.call_spec.out_spec)
    specs: list[TensorSpec] = []
    gives: list[int] = []
    for index, (spec, path) in enumerate(zip(user, paths, strict=True)):
        if isinstance(spec.arg, TensorArgument):
            specs.append(_spec(path, nodes[spec.arg.name]))
            gives.append(index)
    check_names(name, specs, "output")
    return tuple(specs), gives


def _paths(out_spec: Any) -> list[str]:
    """Names of the leaves of a result: keys of mappings, output_0 and so on in sequences, output for one tensor."""
    leaves = pytree.tree_unflatten(list(range(out_spec.num_leaves)), out_spec)
    named: list[str] = []
    for path, _ in pytree.tree_flatten_with_path(leaves)[0]:
        keys = [str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", "")))) for key in path]
        plain = "_".join(keys)
        named.append(plain if keys and not keys[0].isdigit() else "_".join(["output", *keys]))
    return named


def _spec(name: str, value: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else ANY for size in value.shape)
    return TensorSpec(name, type_name(value.dtype, name), shape)


def _check_stateless(name: str, exported: Any) -> None:
    """Raises FailedPrecondition for a program that changes its own state: its answers would depend on one another."""
    signature = exported.graph_signature
    owner = {**signature.inputs_to_buffers, **signature.inputs_to_parameters}
    owner |= signature.inputs_to_lifted_tensor_constants
    changed = {*signature.buffers_to_mutate.values(), *_written(exported.graph, owner)}
    if changed:
        raise FailedPrecondition(
            f"{name} changes its own state ({', '.join(sorted(changed))}), so answers would depend on earlier "
            "requests; make the state an input and an output",
            reason="MODEL_NOT_SUPPORTED",
        )


def _written(graph: torch.fx.Graph, owner: Mapping[str, str]) -> set[str]:
    """The state that operators write in place. `owner`: the state by the name of its node; views of it count too."""
    owned = {node: owner[node.name] for node in graph.nodes if node.op == "placeholder" and node.name in owner}
    written: set[str] = set()
    for node in graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if schema is None:
            continue
        given = dict(zip((argument.name for argument in schema.arguments), node.args, strict=False)) | node.kwargs
        for argument in schema.arguments:
            value = given.get(argument.name)
            if argument.alias_info is None or not isinstance(value, torch.fx.Node) or value not in owned:
                continue
            owned[node] = owned[value]
            if argument.alias_info.is_write:
                written.add(owned[value])
    return written

"""Makes OpenVINO constants of a GGUF file's matrices, in the form that the CPU plugin multiplies without unpacking."""

from collections.abc import Callable, Mapping
from typing import Any

import gguf
import numpy as np
import openvino as ov
from gguf import GGMLQuantizationType as Kind
from numpy.typing import NDArray
from openvino import opset13 as ops

from infermesh_runtime.errors import FailedPrecondition
from infermesh_runtime.gguf_account.contents import Linear
from infermesh_worker.models.gguf_file import GgufFile, check_finite
from infermesh_worker_cpu.gguf_graph import grid_quants, k_quants, legacy_quants
from infermesh_worker_cpu.gguf_graph.grouped import Bytes, Grouped

GROUPED: Mapping[Kind, Callable[[Bytes, int], Grouped]] = {
    Kind.Q4_0: legacy_quants.q4_0,
    Kind.Q4_1: legacy_quants.q4_1,
    Kind.Q5_0: legacy_quants.q5_0,
    Kind.Q5_1: legacy_quants.q5_1,
    Kind.Q8_0: legacy_quants.q8_0,
    Kind.IQ4_NL: legacy_quants.iq4_nl,
    Kind.MXFP4: legacy_quants.mxfp4,
    Kind.Q2_K: k_quants.q2_k,
    Kind.Q3_K: k_quants.q3_k,
    Kind.Q4_K: k_quants.q4_k,
    Kind.Q5_K: k_quants.q5_k,
    Kind.Q6_K: k_quants.q6_k,
    Kind.IQ4_XS: k_quants.iq4_xs,
    Kind.IQ1_S: grid_quants.iq1_s,
    Kind.IQ2_XXS: grid_quants.iq2_xxs,
    Kind.IQ2_XS: grid_quants.iq2_xs,
    Kind.IQ2_S: grid_quants.iq2_s,
    Kind.IQ3_XXS: grid_quants.iq3_xxs,
    Kind.IQ3_S: grid_quants.iq3_s,
    Kind.TQ1_0: grid_quants.tq1_0,
    Kind.TQ2_0: grid_quants.tq2_0,
}
"""Types that stay quantised. The one other quantised type, IQ1_M, becomes float16, which is finer than it is."""
_PLAIN = frozenset((Kind.F32, Kind.F16, Kind.BF16))
_UNPACKED = frozenset((Kind.IQ1_M,))


class Weights:
    """The matrices of one file. It must live as long as the graph: OpenVINO does not copy packed constants."""

    def __init__(self, file: GgufFile) -> None:
        self._file = file
        self._packed: list[Bytes] = []
        self._made: dict[str, ov.Node] = {}

    def matrix(self, linear: Linear, order: NDArray[np.int64] | None = None) -> ov.Node:
        """float32 [rows, columns]. `order` says which stored row comes where; without it a tensor is made only once.

        Raises InvalidArgument, naming the tensor, for a value that is not finite.
        """
        whole = order is None and linear.begin == 0
        if whole and linear.tensor in self._made:
            return self._made[linear.tensor]
        rows = self._file.stored(linear.tensor)[linear.begin : linear.begin + linear.rows]
        node = self._node(linear.tensor, rows if order is None else rows[order], (linear.rows,))
        node.set_friendly_name(f"{linear.tensor}:{linear.begin}")
        if whole:
            self._made[linear.tensor] = node
        return node

    def stacked(self, linear: Linear) -> ov.Node:
        """float32 [experts, rows, columns], from one matrix for each expert. Raises as `matrix` does."""
        parts = self._file.stacked(linear.tensor)[:, linear.begin : linear.begin + linear.rows]
        rows = parts.reshape(-1, parts.shape[-1])
        node = self._node(linear.tensor, rows, parts.shape[:2])
        node.set_friendly_name(f"{linear.tensor}:{linear.begin}")
        return node

    def columns(self, linear: Linear) -> int:
        """How many inputs a matrix has."""
        return self._file.contents.tensors[linear.tensor].shape[-1]

    def _node(self, name: str, rows: NDArray[Any], shape: tuple[int, ...]) -> ov.Node:
        """`rows` as stored; the node has the dimensions `shape`, and columns."""
        kind = self._file.kind(name)
        if kind in GROUPED:
            size = gguf.GGML_QUANT_SIZES[kind][1]
            grouped = GROUPED[kind](np.ascontiguousarray(rows).reshape(-1, size), len(rows))
            check_finite(name, grouped.scale)
            return self._grouped(grouped, shape)
        if kind == Kind.BF16:
            return self._bf16(name, rows, shape)
        values = rows if kind in (Kind.F32, Kind.F16) else gguf.dequantize(rows, kind).astype(np.float16)
        check_finite(name, values)
        constant = ops.constant(np.ascontiguousarray(values).reshape(*shape, -1))
        return constant if kind == Kind.F32 else ops.convert(constant, "f32")

    def _bf16(self, name: str, rows: Bytes, shape: tuple[int, ...]) -> ov.Node:
        check_finite(name, gguf.dequantize(rows, Kind.BF16))
        raw = np.ascontiguousarray(rows)
        self._packed.append(raw)
        tensor = ov.Tensor(raw, [*shape, rows.shape[1] // 2], ov.Type.bf16)
        return ops.convert(ov.op.Constant(tensor), "f32")

    def _grouped(self, grouped: Grouped, shape: tuple[int, ...]) -> ov.Node:
        _, groups, size = grouped.quants.shape
        kind = "f16" if grouped.scale.dtype == np.float16 else "f32"
        node = ops.convert(self._quants(grouped, [*shape, groups, size]), kind)
        if grouped.zero is not None:
            one = grouped.zero.size == 1
            zero = ops.constant(grouped.zero.reshape([1] * (len(shape) + 2) if one else [*shape, groups, 1]))
            node = ops.subtract(node, ops.convert(zero, kind) if grouped.zero.dtype == np.uint8 else zero)
        node = ops.multiply(node, ops.constant(grouped.scale.reshape(*shape, groups, 1)))
        node = ops.reshape(node, np.array([*shape, groups * size], np.int64), special_zero=False)
        return ops.convert(node, "f32") if kind == "f16" else node

    def _quants(self, grouped: Grouped, shape: list[int]) -> ov.Node:
        if grouped.bits != "u4":
            return ops.constant(np.ascontiguousarray(grouped.quants).reshape(shape))
        flat = grouped.quants.reshape(-1)
        packed = flat[0::2] | (flat[1::2] << 4)
        self._packed.append(packed)
        return ov.op.Constant(ov.Tensor(packed, shape, ov.Type.u4))


def check_readable(name: str, kind: Kind) -> None:
    """Raises FailedPrecondition, naming the tensor, for a type that cannot be read."""
    if kind not in _PLAIN | _UNPACKED and kind not in GROUPED:
        raise FailedPrecondition(
            f"this GGUF file's tensor {name} has the type {kind.name}, which infermesh cannot read",
            reason="MODEL_NOT_SUPPORTED",
        )

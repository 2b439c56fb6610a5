"""Writes a TensorFlow Lite model, y = x + x of FP32 [2, 3], as a flatbuffer."""

from collections.abc import Callable, Sequence
from pathlib import Path

import flatbuffers
import numpy as np
import tflite


def double(path: Path) -> Path:
    """Writes the model to `path`, *.tflite."""
    builder = flatbuffers.Builder(1024)
    tensors = [_tensor(builder, name) for name in ("x", "y")]
    options = _table(builder, tflite.AddOptionsStart, tflite.AddOptionsEnd, ())
    operator = _table(
        builder,
        tflite.OperatorStart,
        tflite.OperatorEnd,
        (
            (tflite.OperatorAddInputs, builder.CreateNumpyVector(_indices(0, 0))),
            (tflite.OperatorAddOutputs, builder.CreateNumpyVector(_indices(1))),
            (tflite.OperatorAddBuiltinOptionsType, tflite.BuiltinOptions.AddOptions),
            (tflite.OperatorAddBuiltinOptions, options),
        ),
    )
    graph = _table(
        builder,
        tflite.SubGraphStart,
        tflite.SubGraphEnd,
        (
            (tflite.SubGraphAddTensors, _vector(builder, tensors)),
            (tflite.SubGraphAddInputs, builder.CreateNumpyVector(_indices(0))),
            (tflite.SubGraphAddOutputs, builder.CreateNumpyVector(_indices(1))),
            (tflite.SubGraphAddOperators, _vector(builder, [operator])),
        ),
    )
    add = tflite.BuiltinOperator.ADD
    code = _table(
        builder,
        tflite.OperatorCodeStart,
        tflite.OperatorCodeEnd,
        (
            (tflite.OperatorCodeAddDeprecatedBuiltinCode, add),
            (tflite.OperatorCodeAddBuiltinCode, add),
            (tflite.OperatorCodeAddVersion, 1),
        ),
    )
    empty = _table(builder, tflite.BufferStart, tflite.BufferEnd, ())
    model = _table(
        builder,
        tflite.ModelStart,
        tflite.ModelEnd,
        (
            (tflite.ModelAddVersion, 3),
            (tflite.ModelAddOperatorCodes, _vector(builder, [code])),
            (tflite.ModelAddSubgraphs, _vector(builder, [graph])),
            (tflite.ModelAddBuffers, _vector(builder, [empty])),
        ),
    )
    builder.Finish(model, b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def _tensor(builder: flatbuffers.Builder, name: str) -> int:
    fields = (
        (tflite.TensorAddShape, builder.CreateNumpyVector(_indices(2, 3))),
        (tflite.TensorAddType, tflite.TensorType.FLOAT32),
        (tflite.TensorAddBuffer, 0),
        (tflite.TensorAddName, builder.CreateString(name)),
    )
    return _table(builder, tflite.TensorStart, tflite.TensorEnd, fields)


def _table(
    builder: flatbuffers.Builder,
    start: Callable[..., object],
    end: Callable[..., int],
    fields: Sequence[tuple[Callable[..., object], int]],
) -> int:
    start(builder)
    for add, value in fields:
        add(builder, value)
    return end(builder)


def _vector(builder: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _indices(*values: int) -> "np.ndarray[tuple[int], np.dtype[np.int32]]":
    return np.array(values, np.int32)

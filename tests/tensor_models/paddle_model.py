"""Writes a Paddle model, y = 2 x + 1 of FP32 [?, 4], as the protobuf message ProgramDesc of framework.proto."""

import struct
from pathlib import Path

from infermesh_runtime.wire_fields import varint

_INT, _FLOAT, _BOOLEAN = 0, 1, 6
_FP32, _TENSOR, _FEED, _FETCH = 5, 7, 9, 10
_FOUR_BYTES = 5
_ANY = (1 << 64) - 1
"""-1 as protobuf writes it."""


def double_and_one(path: Path) -> Path:
    """Writes the graph to `path`, *.pdmodel, and weights, of which there are none, beside it."""
    kept, given = _number(3, 1), _number(3, 0)
    variables = [
        _bytes(1, b"feed") + _bytes(2, _number(1, _FEED)) + kept,
        _bytes(1, b"fetch") + _bytes(2, _number(1, _FETCH)) + kept,
        _bytes(1, b"x") + _bytes(2, _tensor_type()) + given,
        _bytes(1, b"y") + _bytes(2, _tensor_type()) + given,
    ]
    column = _bytes(1, b"col") + _number(2, _INT) + _number(3, 0)
    scale = _bytes(1, b"scale") + _number(2, _FLOAT) + varint(4 << 3 | _FOUR_BYTES) + struct.pack("<f", 2.0)
    bias = _bytes(1, b"bias") + _number(2, _FLOAT) + varint(4 << 3 | _FOUR_BYTES) + struct.pack("<f", 1.0)
    after = _bytes(1, b"bias_after_scale") + _number(2, _BOOLEAN) + _number(10, 1)
    operations = [
        _operation(b"feed", (b"X", b"feed"), (b"Out", b"x"), column),
        _operation(b"scale", (b"X", b"x"), (b"Out", b"y"), scale, bias, after),
        _operation(b"fetch", (b"X", b"y"), (b"Out", b"fetch"), column),
    ]
    block = _number(1, 0) + _number(2, _ANY)
    block += b"".join(_bytes(3, each) for each in variables) + b"".join(_bytes(4, each) for each in operations)
    path.write_bytes(_bytes(1, block) + _bytes(4, _number(1, 2_004_000)))
    path.with_suffix(".pdiparams").touch()
    return path


def _tensor_type() -> bytes:
    shape = _number(1, _FP32) + _number(2, _ANY) + _number(2, 4)
    return _number(1, _TENSOR) + _bytes(3, _bytes(1, shape) + _number(2, 0))


def _operation(kind: bytes, taken: tuple[bytes, bytes], given: tuple[bytes, bytes], *attributes: bytes) -> bytes:
    ends = [_bytes(number, _bytes(1, slot) + _bytes(2, name)) for number, (slot, name) in ((1, taken), (2, given))]
    return b"".join(ends) + _bytes(3, kind) + b"".join(_bytes(4, each) for each in attributes)


def _number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def _bytes(field: int, content: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(content)) + content

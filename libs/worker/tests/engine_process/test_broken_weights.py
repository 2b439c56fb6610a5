"""The tensor with NaN or infinity is found in every format whose values can be damaged."""

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray

from infermesh_worker.engine_process.broken_weights import find_broken_weight

SOUND = np.array([1.0, -2.0, 3e4, 0.0], np.float32)


def write_safetensors(path: Path, dtype: str, **tensors: NDArray[np.float32]) -> None:
    header, data = {}, b""
    for name, values in tensors.items():
        encoded = encode(values, dtype)
        header[name] = {"dtype": dtype, "shape": [len(values)], "data_offsets": [len(data), len(data) + len(encoded)]}
        data += encoded
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def encode(values: NDArray[np.float32], dtype: str) -> bytes:
    if dtype == "BF16":
        return (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    return values.astype({"F64": np.float64, "F32": np.float32, "F16": np.float16}[dtype]).tobytes()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16"])
def test_safetensors(tmp_path: Path, dtype: str, value: float) -> None:
    damaged = SOUND.copy()
    damaged[2] = value
    write_safetensors(tmp_path / "model.safetensors", dtype, sound=SOUND, other=SOUND)
    assert find_broken_weight(tmp_path) == ""
    write_safetensors(tmp_path / "model.safetensors", dtype, sound=SOUND, damaged=damaged)
    assert find_broken_weight(tmp_path) == "damaged in model.safetensors"


@pytest.mark.parametrize("kind", [gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.Q8_0])
def test_gguf(tmp_path: Path, kind: gguf.GGMLQuantizationType) -> None:
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    for name in ("sound", "damaged"):
        data = gguf.quantize(np.ones((2, 32), np.float32), kind).view(np.uint8).copy()
        if name == "damaged":
            data[0, :2] = np.frombuffer(np.array([np.nan], np.float16).tobytes(), np.uint8)  # a scale, or a value
        writer.add_tensor(f"{name}.weight", data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert find_broken_weight(tmp_path) == "damaged.weight in model.gguf"

"""Copies a GGUF file so that openvino-genai can read it: tensor types that it cannot read become Q8_0."""

import os
from pathlib import Path
from typing import Any

import gguf
from gguf import GGMLQuantizationType as Kind

READABLE = frozenset({Kind.F32, Kind.F16, Kind.Q8_0, Kind.Q4_0, Kind.Q4_1, Kind.Q4_K, Kind.Q6_K})
"""Tensor types that openvino-genai 2026.4 can read (src/cpp/src/gguf_utils)."""


def readable_copy(source: Path, target: Path, progress: Any) -> Path:
    """Makes `target` a file whose tensors are all READABLE: a hard link if `source` is one, otherwise a converted copy.

    Raises ValueError when the type of a tensor cannot be dequantised.
    """
    reader = gguf.GGUFReader(source)
    if all(tensor.tensor_type in READABLE for tensor in reader.tensors):
        os.link(source, target)
        return target
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    copy_metadata(reader, writer)
    for number, tensor in enumerate(reader.tensors):
        progress("requantising to Q8_0", number / len(reader.tensors))
        _add_tensor(writer, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def copy_metadata(reader: gguf.GGUFReader, writer: gguf.GGUFWriter) -> None:
    """Copies all metadata, but no tensors. The writer must have been created with the architecture."""
    for field in reader.fields.values():
        if field.name == "general.architecture" or field.name.startswith("GGUF."):
            continue
        sub_type = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=sub_type)


def _add_tensor(writer: gguf.GGUFWriter, tensor: gguf.ReaderTensor) -> None:
    if tensor.tensor_type in READABLE:
        raw = None if tensor.tensor_type in (Kind.F32, Kind.F16) else tensor.tensor_type
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=raw)
        return
    values = gguf.dequantize(tensor.data, tensor.tensor_type)
    writer.add_tensor(tensor.name, gguf.quantize(values, Kind.Q8_0), raw_dtype=Kind.Q8_0)

"""Turns Whisper's weights of CTranslate2 into safetensors with transformers' names; the numbers stay as they are."""

import json
import re
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from infermesh_client.model_import.progress import ProgressStep, ProgressView
from infermesh_client.model_import.speech_models.ctranslate2_file import StoredTensor, read_model
from infermesh_runtime.errors import InvalidArgument

_SPEC = "WhisperSpec"
_LAYER = re.compile(r"(?P<side>encoder|decoder)/layer_(?P<index>\d+)/(?P<part>.+)/(?P<kind>weight|bias|gamma|beta)")
_KINDS = {"gamma": "weight", "beta": "bias"}
_WHOLE = {
    "decoder/embeddings/weight": "decoder.embed_tokens.weight",
    "decoder/position_encodings/encodings": "decoder.embed_positions.weight",
    "encoder/position_encodings/encodings": "encoder.embed_positions.weight",
    **{f"encoder/conv{n}/{kind}": f"encoder.conv{n}.{kind}" for n in (1, 2) for kind in ("weight", "bias")},
    **{
        f"{side}/layer_norm/{kind}": f"{side}.layer_norm.{_KINDS[kind]}"
        for side in ("encoder", "decoder")
        for kind in _KINDS
    },
}
_PARTS: Mapping[str, tuple[str, ...]] = {
    "self_attention/layer_norm": ("self_attn_layer_norm",),
    "self_attention/linear_0": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attention/linear_1": ("self_attn.out_proj",),
    "attention/layer_norm": ("encoder_attn_layer_norm",),
    "attention/linear_0": ("encoder_attn.q_proj",),
    "attention/linear_1": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
    "attention/linear_2": ("encoder_attn.out_proj",),
    "ffn/layer_norm": ("final_layer_norm",),
    "ffn/linear_0": ("fc1",),
    "ffn/linear_1": ("fc2",),
}
"""What the parts of a layer are called by transformers; several lie one after the other in one tensor."""
_BLOCK = 8 << 20


@dataclass(frozen=True, slots=True)
class _Piece:
    """A tensor of the safetensors file, and where it is copied from."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    size_bytes: int


def write_safetensors(source: Path, target: Path, view: ProgressView) -> None:
    """Copies the weights in model.bin to a safetensors file. Raises InvalidArgument for one that is no Whisper."""
    model = read_model(source)
    if model.spec != _SPEC:
        raise InvalidArgument(f"{source} holds a {model.spec} of CTranslate2; expected Whisper ({_SPEC})")
    pieces = [piece for name, tensor in model.tensors.items() for piece in _pieces(source, name, tensor)]
    header, place = {}, 0
    for piece in pieces:
        header[piece.name] = {
            "dtype": piece.dtype,
            "shape": piece.shape,
            "data_offsets": (place, place + piece.size_bytes),
        }
        place += piece.size_bytes
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    text += b" " * (-len(text) % 8)
    with view.bytes_step(f"Rewriting {source.name}", place) as step, _both(source, target) as (reader, writer):
        writer.write(struct.pack("<Q", len(text)) + text)
        for piece in pieces:
            _copy(reader, writer, piece, step)


@contextmanager
def _both(source: Path, target: Path) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    with source.open("rb") as reader, target.open("wb") as writer:
        yield reader, writer


def _pieces(source: Path, name: str, tensor: StoredTensor) -> Iterator[_Piece]:
    """The tensors of transformers that a tensor of CTranslate2 consists of; none for what is a setting."""
    if not tensor.shape:
        return
    if name.endswith("/weight_scale") or tensor.dtype.startswith("I"):
        raise InvalidArgument(f"{source} is quantised (its tensor {name}); expected weights of 16 or 32 bits")
    if name in _WHOLE:
        yield _Piece(f"model.{_WHOLE[name]}", tensor.dtype, tensor.shape, tensor.begin, tensor.size_bytes)
        return
    match = _LAYER.fullmatch(name)
    if match is None or match["part"] not in _PARTS:
        raise InvalidArgument(f"{source} has the tensor {name}, which no Whisper has")
    modules = _PARTS[match["part"]]
    if tensor.shape[0] % len(modules):
        raise InvalidArgument(f"{source} has the tensor {name} of shape {list(tensor.shape)}, which cannot be split")
    size_bytes = tensor.size_bytes // len(modules)
    shape = (tensor.shape[0] // len(modules), *tensor.shape[1:])
    for place, module in enumerate(modules):
        if module.endswith("k_proj") and match["kind"] == "bias":  # Whisper's keys have none; these are zeros
            continue
        kind = _KINDS.get(match["kind"], match["kind"])
        full = f"model.{match['side']}.layers.{match['index']}.{module}.{kind}"
        yield _Piece(full, tensor.dtype, shape, tensor.begin + place * size_bytes, size_bytes)


def _copy(reader: BinaryIO, writer: BinaryIO, piece: _Piece, step: ProgressStep) -> None:
    reader.seek(piece.begin)
    left = piece.size_bytes
    while left:
        block = reader.read(min(left, _BLOCK))
        if not block:
            raise InvalidArgument(f"the tensor {piece.name} is cut short")
        writer.write(block)
        step.advance(len(block))
        left -= len(block)

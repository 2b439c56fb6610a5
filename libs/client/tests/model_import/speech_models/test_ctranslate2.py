"""CTranslate2's model.bin becomes the safetensors that it was made of; damaged and other files are refused in words."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from infermesh_client.model_import.progress import ProgressView
from infermesh_client.model_import.source import HuggingFaceFolder, SpeechModel, parse_source
from infermesh_client.model_import.speech_models.from_ctranslate2 import write_safetensors
from infermesh_client.model_import.speech_models.kind import weight_files
from infermesh_client.weight_files.inspect import inspect_safetensors
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.tensors import Array
from tests.speech_models.folders import tiny_whisper, weights

VIEW = ProgressView(Console(file=io.StringIO()))
_WHOLE = {
    "decoder/embeddings/weight": "decoder.embed_tokens.weight",
    "decoder/position_encodings/encodings": "decoder.embed_positions.weight",
    "encoder/position_encodings/encodings": "encoder.embed_positions.weight",
    "encoder/conv1/weight": "encoder.conv1.weight",
    "encoder/conv1/bias": "encoder.conv1.bias",
    "encoder/conv2/weight": "encoder.conv2.weight",
    "encoder/conv2/bias": "encoder.conv2.bias",
}


def as_ctranslate2(tensors: dict[str, Array]) -> dict[str, Array]:
    """The tensors as CTranslate2's converter joins and names them."""
    found: dict[str, Array] = {"decoder/num_heads": np.array(4, np.int16)}
    plain = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    found |= {theirs: plain[ours] for theirs, ours in _WHOLE.items()}
    for side in ("encoder", "decoder"):
        found |= norm(plain, f"{side}/layer_norm", f"{side}.layer_norm")
        for index in range(2):
            theirs, ours = f"{side}/layer_{index}", f"{side}.layers.{index}"
            found |= norm(plain, f"{theirs}/self_attention/layer_norm", f"{ours}.self_attn_layer_norm")
            found |= joined(plain, f"{theirs}/self_attention/linear_0", f"{ours}.self_attn", "qkv")
            found |= joined(plain, f"{theirs}/self_attention/linear_1", f"{ours}.self_attn", ["out"])
            if side == "decoder":
                found |= norm(plain, f"{theirs}/attention/layer_norm", f"{ours}.encoder_attn_layer_norm")
                found |= joined(plain, f"{theirs}/attention/linear_0", f"{ours}.encoder_attn", "q")
                found |= joined(plain, f"{theirs}/attention/linear_1", f"{ours}.encoder_attn", "kv")
                found |= joined(plain, f"{theirs}/attention/linear_2", f"{ours}.encoder_attn", ["out"])
            found |= norm(plain, f"{theirs}/ffn/layer_norm", f"{ours}.final_layer_norm")
            for number in (0, 1):
                for kind in ("weight", "bias"):
                    found[f"{theirs}/ffn/linear_{number}/{kind}"] = plain[f"{ours}.fc{number + 1}.{kind}"]
    return found


def norm(plain: dict[str, Array], theirs: str, ours: str) -> dict[str, Array]:
    return {f"{theirs}/gamma": plain[f"{ours}.weight"], f"{theirs}/beta": plain[f"{ours}.bias"]}


def joined(plain: dict[str, Array], theirs: str, ours: str, names: "str | list[str]") -> dict[str, Array]:
    weight = np.concatenate([plain[f"{ours}.{name}_proj.weight"] for name in names])
    size = len(plain[f"{ours}.q_proj.bias"])
    bias = np.concatenate([plain.get(f"{ours}.{name}_proj.bias", np.zeros(size, np.float32)) for name in names])
    return {f"{theirs}/weight": weight, f"{theirs}/bias": bias}


def file_of(tensors: dict[str, Array], *, spec: str = "WhisperSpec", version: int = 6) -> bytes:
    kinds = {"float32": 0, "int8": 1, "int16": 2, "float16": 4}
    parts = [struct.pack("<I", version), name_of(spec), struct.pack("<II", 3, len(tensors))]
    for name, tensor in tensors.items():
        shape = struct.pack(f"<B{tensor.ndim}I", tensor.ndim, *tensor.shape)
        parts += [name_of(name), shape, struct.pack("<BI", kinds[tensor.dtype.name], tensor.nbytes), tensor.tobytes()]
    return b"".join([*parts, struct.pack("<I", 1), name_of("decoder/projection/weight"), name_of("decoder/x")])


def name_of(text: str) -> bytes:
    return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny Whisper whose weights are CTranslate2's."""
    made = tiny_whisper(tmp_path / "tiny")
    (made / "model.bin").write_bytes(file_of(as_ctranslate2(weights())))
    (made / "model.safetensors").rename(tmp_path / "expected.safetensors")
    return made


def test_the_weights_are_what_they_were_made_of(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "found.safetensors"
    write_safetensors(folder / "model.bin", target, VIEW)
    expected, found = tmp_path / "expected.safetensors", target
    assert tensors_of(found).keys() == tensors_of(expected).keys()
    for name, tensor in tensors_of(expected).items():
        assert np.array_equal(tensors_of(found)[name], tensor), name


def test_folders_of_whisper_are_recognised(folder: Path, tmp_path: Path) -> None:
    assert parse_source(str(folder)) == SpeechModel(folder)
    safetensors = tiny_whisper(tmp_path / "safetensors")
    assert parse_source(str(safetensors)) == SpeechModel(safetensors)
    (safetensors / "model.fp32-00001-of-00002.safetensors").touch()
    assert weight_files(safetensors) == [safetensors / "model.safetensors"]
    (safetensors / "config.json").write_text('{"model_type": "llama"}')
    assert parse_source(str(safetensors)) == HuggingFaceFolder(safetensors)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "cut short"),
        (b"PK\x03\x04 something else", "not of CTranslate2"),
        (file_of({}, version=3), "version"),
        (file_of({}, spec="TransformerSpec"), "TransformerSpec"),
        (file_of({"encoder/conv1/weight": np.zeros((2, 2), np.int8)}), "quantised"),
        (file_of({"encoder/other/weight": np.zeros((2, 2), np.float32)}), "no Whisper has"),
        (file_of({"encoder/layer_0/self_attention/linear_0/bias": np.zeros(4, np.float32)}), "cannot be split"),
        (file_of({"encoder/conv1/weight": np.zeros((2, 2), np.float32)})[:60], "cut short"),
    ],
)
def test_other_and_damaged_files_are_refused_in_words(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "model.bin").write_bytes(content)
    with pytest.raises(InvalidArgument, match=says):
        write_safetensors(tmp_path / "model.bin", tmp_path / "found.safetensors", VIEW)


def test_no_damage_is_met_with_a_crash(tmp_path: Path) -> None:
    whole = file_of(
        {"encoder/conv1/weight": np.zeros((2, 2), np.float32), "encoder/conv1/bias": np.zeros(2, np.float32)}
    )
    random, refused = np.random.default_rng(1), 0
    for _ in range(300):
        damaged = bytearray(whole)
        for place in random.integers(0, len(whole), 3):
            damaged[place] = random.integers(0, 256)
        (tmp_path / "model.bin").write_bytes(damaged[: random.integers(1, len(whole) + 1)])
        try:
            write_safetensors(tmp_path / "model.bin", tmp_path / "found.safetensors", VIEW)
        except InvalidArgument:
            refused += 1
    assert refused > 100


def tensors_of(path: Path) -> dict[str, Array]:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    data = content[8 + length :]
    return {
        name: np.frombuffer(data[slice(*entry.data_offsets)], np.float32).reshape(entry.shape)
        for name, entry in inspect_safetensors([path]).items()
    }

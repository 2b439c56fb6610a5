"""Conversion at import: tensors that OpenVINO reads stay, others become Q8_0 or a clear error."""

import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest

from infermesh_runtime.errors import FailedPrecondition, InvalidArgument
from infermesh_worker_cpu import gguf_types
from infermesh_worker_cpu.convert_model import convert

Kind = gguf.GGMLQuantizationType


def ignore_progress(what: str, share: float) -> None:
    pass


def write_gguf(path: Path, kinds: dict[str, Kind]) -> np.ndarray:
    """Writes a file with one 4 × 64 tensor of each kind; returns the values that all of them hold."""
    values = np.random.default_rng(1).normal(size=(4, 64)).astype(np.float32)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_array("tokenizer.ggml.tokens", ["a", "b", "ü"])
    writer.add_uint32("llama.block_count", 1)
    for name, kind in kinds.items():
        if kind == Kind.F32:
            writer.add_tensor(name, values)
        else:
            writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return values


def test_a_file_that_openvino_reads_is_linked(tmp_path: Path) -> None:
    source, target = tmp_path / "a.gguf", tmp_path / "b.gguf"
    write_gguf(source, {"x": Kind.F32, "y": Kind.Q8_0})
    gguf_types.readable_copy(source, target, ignore_progress)
    assert target.stat().st_ino == source.stat().st_ino


def test_other_types_become_q8_0_and_the_rest_stays(tmp_path: Path) -> None:
    source, target = tmp_path / "a.gguf", tmp_path / "b.gguf"
    values = write_gguf(source, {"x": Kind.F32, "y": Kind.Q5_0})
    gguf_types.readable_copy(source, target, ignore_progress)
    copied = gguf.GGUFReader(target)
    tensors = {tensor.name: tensor for tensor in copied.tensors}
    assert tensors["y"].tensor_type == Kind.Q8_0
    assert np.array_equal(tensors["x"].data, values)
    back = gguf.dequantize(tensors["y"].data, Kind.Q8_0)
    assert np.abs(back - values).max() < 0.25
    assert copied.fields["tokenizer.ggml.tokens"].contents() == ["a", "b", "ü"]
    assert copied.fields["llama.block_count"].contents() == 1


def test_a_graph_that_cannot_be_built_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf", {"x": Kind.F32})
    with pytest.raises(FailedPrecondition, match="OpenVINO cannot read this GGUF file"):
        convert(tmp_path, weights=None, progress=ignore_progress)
    assert not (tmp_path / "openvino" / "openvino_model.xml").exists()


def test_an_ir_that_is_no_decoder_is_refused(tmp_path: Path) -> None:
    import openvino as ov
    from openvino import opset13 as ops

    (tmp_path / "openvino").mkdir()
    data = ops.parameter([1, 4], np.float32, name="image")
    data.output(0).set_names({"image"})
    ov.save_model(ov.Model([ops.relu(data)], [data]), tmp_path / "openvino" / "openvino_model.xml")
    with pytest.raises(FailedPrecondition, match="not a stateful decoder"):
        convert(tmp_path, weights=None, progress=ignore_progress)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="no weights to convert"):
        convert(tmp_path, weights=None, progress=ignore_progress)


def test_weights_option_is_for_safetensors_only(tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf", {"x": Kind.F32})
    with pytest.raises(InvalidArgument, match="--weights"):
        convert(tmp_path, weights="int4", progress=ignore_progress)


def test_safetensors_without_the_extra_say_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infermesh_worker_cpu.convert_model.find_spec", lambda name: None)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(FailedPrecondition, match=r"pip install 'infermesh-worker-cpu\[huggingface\]'"):
        convert(tmp_path, weights=None, progress=ignore_progress)


def test_signals_are_handled_after_a_conversion(default_model: Path, tmp_path: Path) -> None:
    """Runs in a process of its own, because a signal that cannot be handled kills it."""
    (tmp_path / "model.gguf").symlink_to(default_model / "model.gguf")
    script = f"""
import os, signal, pathlib
from infermesh_worker_cpu.convert_model import convert
convert(pathlib.Path({str(tmp_path)!r}), weights=None, progress=lambda *_: None)
signal.signal(signal.SIGHUP, lambda *_: print("handled"))
os.kill(os.getpid(), signal.SIGHUP)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()[-1:]) == (0, ["handled"]), done.stderr

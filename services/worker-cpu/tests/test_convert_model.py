"""Conversion at import: a graph that can be served, or a clear error."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from infermesh_runtime.errors import FailedPrecondition, InvalidArgument
from infermesh_worker_cpu import graph
from infermesh_worker_cpu.check_model import check
from infermesh_worker_cpu.convert_model import convert
from infermesh_worker_cpu.gguf_graph.build import is_ours
from tests.gguf_files.all_recipes import RECIPES
from tests.gguf_files.recipes import write


def ignore_progress(what: str, share: float) -> None:
    pass


def test_a_gguf_file_becomes_a_graph_that_can_be_served(tmp_path: Path) -> None:
    write(tmp_path / "model.gguf", RECIPES["gemma3"])
    convert(tmp_path, weights=None, progress=ignore_progress)
    model = graph.read(ov.Core(), tmp_path / "openvino" / "openvino_model.xml")
    attention = [node for node in model.get_ordered_ops() if node.get_type_name() == "PagedAttentionExtension"]
    assert [int(node.input_value(10).get_node().data) for node in attention] == [20, 20, 20, 20, 20, 0]


def test_a_graph_knows_who_made_it(tmp_path: Path) -> None:
    write(tmp_path / "model.gguf", RECIPES["llama"])
    convert(tmp_path, weights=None, progress=ignore_progress)
    xml = tmp_path / "openvino" / "openvino_model.xml"
    assert is_ours(xml)
    xml.write_text(xml.read_text().replace("attention_windows", "something_else"))
    assert not is_ours(xml)


def test_a_key_that_is_unknown_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    write(tmp_path / "model.gguf", RECIPES["llama"], keys={"attention.something_new": 1})
    with pytest.raises(InvalidArgument, match=r"llama\.attention\.something_new = 1"):
        convert(tmp_path, weights=None, progress=ignore_progress)
    assert not (tmp_path / "openvino" / "openvino_model.xml").exists()


def test_a_soft_cap_in_attention_is_applied(tmp_path: Path) -> None:
    write(tmp_path / "model.gguf", RECIPES["gemma2-capped"])
    assert "gemma2.attn_logit_softcapping" in "\n".join(check(tmp_path / "model.gguf", "gguf"))
    convert(tmp_path, weights=None, progress=ignore_progress)
    model = graph.read(ov.Core(), tmp_path / "openvino" / "openvino_model.xml")
    kinds = [node.get_type_name() for node in model.get_ordered_ops()]
    assert "PagedAttentionExtension" not in kinds
    assert kinds.count("Tanh") == 4 + 1  # of each layer, and of the logits


def test_the_check_before_an_import_accounts_for_every_key(tmp_path: Path) -> None:
    write(tmp_path / "model.gguf", RECIPES["granite"])
    lines = "\n".join(check(tmp_path / "model.gguf", "gguf"))
    assert "granite: 2 layers" in lines
    assert all(name in lines for name in ("granite.residual_scale", "tokenizer.ggml.pre", "general.architecture"))
    assert not check(tmp_path, "safetensors")


def test_the_check_before_an_import_counts_experts(tmp_path: Path) -> None:
    write(tmp_path / "model.gguf", RECIPES["qwen3moe"])
    assert "8 experts (4 for each token)" in check(tmp_path / "model.gguf", "gguf")[0]


def test_a_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "model.gguf", RECIPES["llama"])
    whole = (tmp_path / "model.gguf").read_bytes()
    for share in (0.02, 0.5, 0.99):
        (tmp_path / "model.gguf").write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(InvalidArgument, match="cut short or damaged"):
            convert(tmp_path, weights=None, progress=ignore_progress)


def test_an_ir_that_is_no_decoder_is_refused(tmp_path: Path) -> None:
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
    write(tmp_path / "model.gguf", RECIPES["llama"])
    with pytest.raises(InvalidArgument, match="--weights"):
        convert(tmp_path, weights="int4", progress=ignore_progress)


def test_safetensors_without_the_converter_environment_say_what_makes_it(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(FailedPrecondition, match="`infermesh models import` makes"):
        convert(tmp_path, weights=None, progress=ignore_progress)


def test_signals_are_handled_after_a_conversion(default_model: Path, tmp_path: Path) -> None:
    """Runs in a process of its own, because a signal that cannot be handled kills it."""
    (tmp_path / "model.gguf").symlink_to(default_model / "model.gguf")
    script = f"""
import os, signal, pathlib
from infermesh_worker_cpu.convert_model import convert
from infermesh_worker_cpu.gguf_graph.build import is_ours
convert(pathlib.Path({str(tmp_path)!r}), weights=None, progress=lambda *_: None)
signal.signal(signal.SIGHUP, lambda *_: print("handled"))
os.kill(os.getpid(), signal.SIGHUP)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()[-1:]) == (0, ["handled"]), done.stderr

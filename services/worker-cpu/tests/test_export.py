"""The export of Hugging Face models, with a script in place of the interpreter that has optimum-intel."""

import json
from pathlib import Path
from typing import Any

import pytest

from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker_cpu.convert_model import convert
from infermesh_worker_cpu.export import export_hugging_face
from infermesh_worker_cpu.export_script import check_rotation, exportable


def interpreter(folder: Path, script: str) -> Path:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\necho TracerWarning >&2\n{script}\n")
    path.chmod(0o755)
    return path


def test_progress_is_told_and_noise_is_kept(tmp_path: Path) -> None:
    python = interpreter(tmp_path, "echo '{\"fraction\": 0.5}'; echo $2 $3 $4 > $3")
    told: list[float] = []
    target, log = tmp_path / "openvino" / "openvino_model.xml", tmp_path / "log" / "converter.log"
    export_hugging_face(tmp_path, target, "int8", python=python, log=log, progress=lambda _, done: told.append(done))
    assert told == [0.5]
    assert log.read_text() == "TracerWarning\n"
    assert target.read_text() == f"{tmp_path} {target} int8\n"


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ('echo \'{"error": "no architecture"}\'; exit 1', "no architecture"),
        ("kill -9 $$", "it ended with -9"),
    ],
)
def test_a_model_that_cannot_be_exported(script: str, problem: str, tmp_path: Path) -> None:
    log = tmp_path / "converter.log"
    with pytest.raises(FailedPrecondition, match=problem) as caught:
        export_hugging_face(
            tmp_path, tmp_path / "x.xml", "int8", python=interpreter(tmp_path, script), log=log, progress=print
        )
    assert caught.value.reason == "MODEL_NOT_SUPPORTED"
    assert str(log) in caught.value.message


def test_without_an_environment_nothing_is_converted(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(FailedPrecondition, match="needs the converter environment"):
        convert(tmp_path, weights=None, progress=print)


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_parameters": {"rope_type": "dynamic"}},
        {"rope_scaling": {"type": "dynamic"}},
        {"text_config": {"rope_scaling": {"rope_type": "dynamic"}}},
        {
            "rope_parameters": {
                "full_attention": {"rope_type": "dynamic"},
                "sliding_attention": {"rope_type": "default"},
            }
        },
    ],
)
def test_positions_that_change_with_the_length_are_refused(rope: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(rope))
    with pytest.raises(ValueError, match="rope type dynamic"):
        check_rotation(tmp_path)


@pytest.mark.parametrize("rope", [{}, {"rope_scaling": None}, {"rope_scaling": {"rope_type": "llama3", "factor": 8}}])
def test_positions_that_do_not_change_are_exported(rope: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(rope))
    check_rotation(tmp_path)


@pytest.mark.parametrize("name", ["rope_parameters", "rope_scaling"])
@pytest.mark.parametrize("of_layers", [False, True])
def test_longrope_is_exported_with_its_short_factors_alone(name: str, of_layers: bool, tmp_path: Path) -> None:
    folder, scratch = tmp_path / "model", tmp_path / "scratch"
    folder.mkdir()
    rope: dict[str, Any] = {"short_factor": [1.5], "long_factor": [6.0], "short_mscale": 1.1, "long_mscale": 1.3}
    told = json.dumps({name: {"full_attention": rope} if of_layers else rope, "max_position_embeddings": 9})
    (folder / "config.json").write_text(told)
    (folder / "model.safetensors").write_bytes(b"weights")
    exported = json.loads((exportable(folder, scratch) / "config.json").read_text())
    rope.update(long_factor=[1.5], long_mscale=1.1)
    assert exported == {name: {"full_attention": rope} if of_layers else rope, "max_position_embeddings": 9}
    assert (scratch / "model.safetensors").read_bytes() == b"weights"
    assert (folder / "config.json").read_text() == told


def test_a_model_without_longrope_is_exported_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"rope_parameters": {"rope_type": "llama3"}}))
    assert exportable(tmp_path, tmp_path / "scratch") == tmp_path

"""Kokoro on OpenVINO, with a tiny model: its import, its sound, its noise, and graphs that are refused."""

import io
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from infermesh_client.model_import.importer import examine_model, import_model
from infermesh_client.model_import.options import ImportOptions
from infermesh_client.model_import.progress import ProgressView
from infermesh_client.model_import.voice_models import importing
from infermesh_client.model_import.workers.asking import Served
from infermesh_runtime.errors import FailedPrecondition, InvalidArgument
from infermesh_runtime.manifest.model_manifest import Manifest, read_manifest
from infermesh_runtime.tensors import Array
from infermesh_worker.executors.executor import BuiltExecutor, Item, Result
from infermesh_worker.models.footprint import Footprint
from infermesh_worker.models.model_folder import ModelFolder
from infermesh_worker.speaking import espeak
from infermesh_worker.speaking.build import build_speaking
from infermesh_worker.speaking.trial import try_folder
from infermesh_worker_cpu.build import build
from infermesh_worker_cpu.front import footprint
from infermesh_worker_cpu.kokoro.check import check
from infermesh_worker_cpu.kokoro.speaker import load_speaker
from infermesh_worker_cpu.settings import WorkerCpuSettings
from tests.voice_models.tiny_kokoro import Letters, expected, tiny_kokoro, write_graph

TEXT = "A sentence of more than forty letters, all of them small. "
load = partial(load_speaker, threads=1, weights_bytes=0, folder=None)


def ask(_group: str, folder: Path, _options: object, _home: Path, _view: object, *, missing: str) -> Served:
    """What worker-cpu answers, with letters for phonemes, so that no eSpeak NG is needed."""
    assert "worker-cpu" in missing
    found = try_folder(folder, load, progress=lambda _stage, _fraction: None, phonemizer=Letters)
    return Served(found, ())


def imported(source: Path, home: Path) -> Manifest:
    view = ProgressView(Console(file=io.StringIO()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importing, "ask_workers", ask)
        return import_model(str(source), "tiny", home / "models", view, ImportOptions(home=home))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    imported(tiny_kokoro(home / "source"), home)
    return home / "models" / "tiny"


def spoken(built: BuiltExecutor, text: str, **params: Any) -> list[Array]:
    pieces: list[Array] = []
    given = {"text": text, "voice": "", "speed": 1.0, "language": "", "delivered_pieces": 0, **params}
    emit = lambda part: pieces.append(part.tensors["samples"])  # noqa: E731
    (outcome,) = built.executor.run([Item(params=given, emit=emit)])
    assert isinstance(outcome, Result)
    return pieces


def built(folder: Path) -> BuiltExecutor:
    return build_speaking(folder, read_manifest(folder), load, Letters)


def test_an_imported_folder_says_what_it_is(folder: Path) -> None:
    opened = ModelFolder.open(folder)
    opened.verify()
    manifest = opened.manifest
    assert (manifest.kind, manifest.format, manifest.sample_rate) == ("speak", "onnx", 24_000)
    assert manifest.voices == ("af_one", "bf_two")  # the Japanese one cannot be spoken
    assert {Path(name).name for name in manifest.files} == {
        "model.onnx",
        "config.json",
        "af_one.bin",
        "bf_two.bin",
        "jf_other.bin",
    }
    assert isinstance(footprint(opened, WorkerCpuSettings.model_validate({})), Footprint)


def test_the_sound_is_what_the_graph_makes_of_text_voice_and_speed(folder: Path) -> None:
    model = built(folder)
    assert (model.kind, model.name) == ("speak", "tiny")
    first, second = spoken(model, f"{TEXT}Bye.")
    assert np.allclose(first, expected(TEXT.strip()), atol=1e-6)
    assert np.allclose(second, expected("Bye."), atol=1e-6)
    (quick,) = spoken(model, "Bye.", voice="af_one+bf_two", speed=2.0)
    assert np.allclose(quick, expected("Bye.", voices=(0, 1), speed=2.0), atol=1e-6)


def test_random_numbers_of_a_graph_are_the_same_in_every_run(tmp_path: Path) -> None:
    home = tmp_path / "home"
    imported(tiny_kokoro(tmp_path / "noisy", noise=True), home)
    model, other = built(home / "models" / "tiny"), built(home / "models" / "tiny")
    (sound,) = spoken(model, TEXT)
    spoken(model, "Something else in between.")
    assert np.array_equal(sound, spoken(model, TEXT)[0])
    assert np.array_equal(sound, spoken(other, TEXT)[0])
    noise = sound - expected(TEXT.strip())
    assert 0.008 < noise.std() < 0.012
    assert abs(noise.mean()) < 0.001
    assert len(np.unique(noise)) > len(noise) / 2


def test_a_graph_with_the_older_name_of_its_input_is_taken(tmp_path: Path) -> None:
    home = tmp_path / "home"
    imported(tiny_kokoro(tmp_path / "older", ids="tokens"), home)
    assert np.allclose(spoken(built(home / "models" / "tiny"), "Bye."), expected("Bye."), atol=1e-6)


def test_another_graph_is_refused_before_anything_is_copied(tmp_path: Path) -> None:
    source = tiny_kokoro(tmp_path / "source")
    write_graph(source / "model.onnx", style_size=128)
    with pytest.raises(FailedPrecondition, match="not one of Kokoro"):
        imported(source, tmp_path / "home")
    assert not [*(tmp_path / "home").glob("models/*")]


def test_options_of_models_that_generate_text_are_refused(folder: Path, tmp_path: Path) -> None:
    source = tiny_kokoro(tmp_path / "source")
    view = ProgressView(Console(file=io.StringIO()))
    with pytest.raises(InvalidArgument, match="turns text into speech"):
        examine_model(str(source), folder.parent, view, ImportOptions(eos=["x"]))


def test_a_dry_run_names_the_voices(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tiny_kokoro(tmp_path / "source")
    monkeypatch.setattr(importing, "ask_workers", ask)
    lines = examine_model(str(source), folder.parent, ProgressView(Console(file=io.StringIO())), ImportOptions())
    assert "voices: af_one, bf_two" in lines
    assert any("jf_other" in line and "left out" in line for line in lines)


def test_without_espeak_import_and_load_say_what_to_install(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(espeak, "find_spec", lambda _: None)
    with pytest.raises(FailedPrecondition, match=r"infermesh-worker\[speech\]"):
        check(tiny_kokoro(tmp_path / "source"), progress=lambda _stage, _fraction: None)
    with pytest.raises(FailedPrecondition, match=r"infermesh-worker\[speech\]"):
        build({"folder": str(folder), "verify": "never", "numerics": "fast", "threads": 1})

"""The files of Kokoro: both layouts, and folders that are refused before anything is copied."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infermesh_runtime.errors import FailedPrecondition, InvalidArgument
from infermesh_runtime.manifest.model_kind import ANY, TensorSpec
from infermesh_worker.speaking import espeak
from infermesh_worker.speaking.espeak import NOT_INSTALLED, Espeak
from infermesh_worker.speaking.interface import input_order
from infermesh_worker.speaking.kokoro_folder import KokoroFolder, read_vocabulary, read_voices

VOCABULARY = {"$": 0} | {mark: place for place, mark in enumerate(" .,aeiou", 1)}
STYLES = np.arange(510 * 256, dtype=np.float32).reshape(510, 1, 256)
IDS = TensorSpec("input_ids", "INT64", (1, ANY))
STYLE, SPEED = TensorSpec("style", "FP32", (1, 256)), TensorSpec("speed", "FP32", (1,))
SOUND = TensorSpec("waveform", "FP32", (1, ANY))


def separate(folder: Path) -> None:
    """As kokoro-js keeps it."""
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").touch()
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": VOCABULARY}}))
    (folder / "voices").mkdir()
    for name in ("af_one", "bf_two"):
        STYLES.tofile(folder / "voices" / f"{name}.bin")


def together(folder: Path) -> None:
    """As kokoro-onnx keeps it."""
    (folder / "kokoro-v1.0.onnx").touch()
    (folder / "config.json").write_text(json.dumps({"vocab": VOCABULARY}))
    with (folder / "voices-v1.0.bin").open("wb") as file:
        np.savez(file, af_one=STYLES, bf_two=STYLES)


@pytest.mark.parametrize("write", [separate, together])
def test_both_layouts_are_read(write: Callable[[Path], None], tmp_path: Path) -> None:
    write(tmp_path)
    found = KokoroFolder.find(tmp_path)
    voices = read_voices(found.voices)
    assert [*voices] == ["af_one", "bf_two"]
    assert all(np.array_equal(voice, STYLES[:, 0]) for voice in voices.values())
    assert read_vocabulary(found.vocabulary) == VOCABULARY
    assert set(found.files) == {path for path in tmp_path.rglob("*") if path.is_file()}


def broken(name: str, content: bytes | None) -> Callable[[Path], None]:
    """Writes other content to a file, or takes it away."""

    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True) if content is None else (folder / name).write_bytes(content)

    return change


def changed(name: str, value: Any) -> Callable[[Path], None]:
    return broken(name, json.dumps(value).encode())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (broken("onnx/model.onnx", None), "exactly one ONNX file"),
        (broken("second.onnx", b""), "exactly one ONNX file"),
        (broken("tokenizer.json", None), "vocabulary"),
        (broken("tokenizer.json", b"{"), "no vocabulary"),
        (broken("tokenizer.json", b"[" * 100_000), "no vocabulary"),
        (changed("tokenizer.json", {"vocab": {"a": "x"}}), "no vocabulary"),
        (changed("tokenizer.json", {"vocab": {"a": 1}}), "lacks ' '"),
        (changed("tokenizer.json", {"vocab": {**VOCABULARY, "ab": 9}}), "single characters"),
        (changed("tokenizer.json", {"vocab": {**VOCABULARY, "b": -1}}), "single characters"),
        (broken("voices/af_one.bin", STYLES[1:].tobytes()), "af_one is float32"),
        (broken("voices/af_one.bin", np.full_like(STYLES, np.nan).tobytes()), "finite"),
        (broken("voices/af_one.bin", b"PK\x03\x04" + bytes(99)), "no archive of voices"),
    ],
)
def test_other_folders_are_refused(change: Callable[[Path], None], reason: str, tmp_path: Path) -> None:
    separate(tmp_path)
    change(tmp_path)
    with pytest.raises(InvalidArgument, match=reason):
        read(tmp_path)


def read(folder: Path) -> None:
    found = KokoroFolder.find(folder)
    read_voices(found.voices)
    read_vocabulary(found.vocabulary)


def test_voices_that_would_run_code_are_not_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "voices.npz", af_one=np.array([print], object))
    with pytest.raises(InvalidArgument, match="no archive of voices"):
        read_voices((tmp_path / "voices.npz",))


def test_the_inputs_may_come_in_any_order_and_have_the_older_name() -> None:
    assert input_order([IDS, STYLE, SPEED], [SOUND]) == ["input_ids", "style", "speed"]
    assert input_order([SPEED, STYLE, TensorSpec("tokens", "INT64", (1, ANY))], [SOUND]) == [
        "speed",
        "style",
        "input_ids",
    ]


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ([IDS, STYLE], [SOUND]),
        ([IDS, STYLE, SPEED], []),
        ([IDS, STYLE, SPEED], [TensorSpec("waveform", "INT64", (1, ANY))]),
        ([IDS, TensorSpec("style", "FP32", (1, 128)), SPEED], [SOUND]),
        ([IDS, STYLE, TensorSpec("speed", "INT32", (1,))], [SOUND]),
        ([TensorSpec("input_ids", "INT64", (1, 16)), STYLE, SPEED], [SOUND]),
        ([TensorSpec("x", "INT64", (1, ANY)), STYLE, SPEED], [SOUND]),
    ],
)
def test_other_graphs_are_refused(inputs: list[TensorSpec], outputs: list[TensorSpec]) -> None:
    with pytest.raises(FailedPrecondition, match="not one of Kokoro"):
        input_order(inputs, outputs)


def test_without_espeak_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(espeak, "find_spec", lambda _: None)
    with pytest.raises(FailedPrecondition, match=r"infermesh-worker\[speech\]") as refusal:
        Espeak()
    assert refusal.value.reason == NOT_INSTALLED

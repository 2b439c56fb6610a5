"""Kokoro through onnxruntime, with a tiny model: the sound of the graph, and graphs that are refused."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker.executors.executor import Item, Result
from infermesh_worker.speaking.executor import SpeakingExecutor
from infermesh_worker.speaking.kokoro_folder import KokoroFolder, read_vocabulary, read_voices
from infermesh_worker.speaking.trial import try_folder
from infermesh_worker_xpu.kokoro.speaker import load_speaker
from tests.voice_models.tiny_kokoro import Letters, expected, tiny_kokoro, write_graph

load = partial(load_speaker, device="cpu", device_index=0, threads=1, weights_bytes=0)


@pytest.mark.parametrize("ids", ["input_ids", "tokens"])
def test_the_sound_is_what_the_graph_makes_of_text_and_voice(tmp_path: Path, ids: str) -> None:
    files = KokoroFolder.find(tiny_kokoro(tmp_path / "m", ids=ids))
    executor = SpeakingExecutor(
        load(files.graph), Letters(), read_voices(files.voices), read_vocabulary(files.vocabulary)
    )
    pieces: list[Result] = []
    given = {"text": "Bye.", "voice": "bf_two", "speed": 0.5, "language": "", "delivered_pieces": 0}
    (outcome,) = executor.run([Item(params=given, emit=pieces.append)])
    executor.close()
    assert isinstance(outcome, Result)
    assert executor.info.device_kind == "cpu"
    assert np.allclose(pieces[0].tensors["samples"], expected("Bye.", voices=(1,), speed=0.5), atol=1e-6)


def test_a_folder_is_tried_before_it_is_imported(tmp_path: Path) -> None:
    source = tiny_kokoro(tmp_path / "m")
    found = try_folder(source, load, progress=lambda _stage, _fraction: None, phonemizer=Letters)
    assert (found["voices"], found["left_out"]) == (["af_one", "bf_two"], ["jf_other"])
    write_graph(source / "model.onnx", style_size=128)
    with pytest.raises(FailedPrecondition, match="not one of Kokoro"):
        load(source / "model.onnx")

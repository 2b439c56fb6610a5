"""Runs Whisper's graphs on OpenVINO, one token at a time, for one sound."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import Empty, SimpleQueue

import numpy as np
import openvino as ov

from infermesh_engine.runners.runner import RunnerInfo
from infermesh_runtime import machine
from infermesh_runtime.errors import Internal
from infermesh_runtime.tensors import Array
from infermesh_worker.executors.executor import executor_info
from infermesh_worker.speech.config import SpeechConfig
from infermesh_worker_cpu.infer.compiling import reason_of

from .decoder_graph import IDS, LOGITS, LOOKS, PLACES


class OpenVinoSession:
    """An inference request of the encoder, and one of the decoder with its state."""

    def __init__(self, encoder: ov.CompiledModel, decoder: ov.CompiledModel) -> None:
        self._encoder = encoder.create_infer_request()
        self._decoder = decoder.create_infer_request()
        self._given = [port.get_any_name() for port in encoder.outputs]

    def encode(self, features: Array) -> None:
        _run(self._encoder, [np.ascontiguousarray(features[np.newaxis], np.float32)])
        for name in self._given:  # the decoder reads where the encoder has written
            self._decoder.set_tensor(name, self._encoder.get_tensor(name))
        self.begin()

    def begin(self) -> None:
        self._decoder.reset_state()

    def extend(self, ids: Sequence[int], places: Sequence[int]) -> Array:
        _run(self._decoder, {IDS: np.array([ids], np.int64), PLACES: np.array(places, np.int64)})
        return self._output(LOGITS)

    def align(self, ids: Sequence[int]) -> tuple[Array, Array]:
        self.begin()
        logits = self.extend(ids, range(len(ids)))
        return logits, self._output(LOOKS)

    def _output(self, name: str) -> Array:
        found: Array = self._decoder.get_tensor(name).data
        return found


class OpenVinoSpeech:
    """A compiled Whisper."""

    def __init__(
        self, encoder: ov.CompiledModel, decoder: ov.CompiledModel, config: SpeechConfig, weights_bytes: int
    ) -> None:
        self._encoder = encoder
        self._decoder = decoder
        self._idle: SimpleQueue[OpenVinoSession] = SimpleQueue()
        self.info: RunnerInfo = executor_info(
            device_kind="cpu",
            device_name=machine.processor_name(),
            memory_total_bytes=machine.memory_total_bytes(),
            runtime=f"openvino {ov.get_version().partition('-')[0]}",
            weights_bytes=weights_bytes,
            context_length=config.positions,
            vocab_size=config.vocab_size,
        )

    @contextmanager
    def session(self) -> Iterator[OpenVinoSession]:
        """A session, which is kept for the next sound: its working memory is large."""
        try:
            session = self._idle.get_nowait()
        except Empty:
            session = OpenVinoSession(self._encoder, self._decoder)
        try:
            yield session
        finally:
            self._idle.put(session)

    def memory_free_bytes(self) -> int:
        return machine.memory_available_bytes()

    def close(self) -> None:
        """Nothing to do: the process is about to end."""


def _run(request: ov.InferRequest, inputs: object) -> None:
    try:
        request.infer(inputs, share_inputs=True)
    except RuntimeError as error:
        raise Internal(f"OpenVINO could not run the model: {reason_of(error)}") from error

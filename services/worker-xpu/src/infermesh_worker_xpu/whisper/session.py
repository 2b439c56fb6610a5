"""Runs transformers' Whisper in torch, one token at a time, for several sounds in turn."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import DynamicCache, EncoderDecoderCache, WhisperForConditionalGeneration

from infermesh_engine.runners.runner import RunnerInfo
from infermesh_runtime.errors import ResourceExhausted
from infermesh_runtime.tensors import Array
from infermesh_worker.executors.executor import executor_info
from infermesh_worker.speech.config import SpeechConfig
from infermesh_worker_xpu.device import TorchDevice
from infermesh_worker_xpu.memory_errors import is_out_of_memory


class TorchSpeech:
    """A loaded Whisper. Its sessions take turns, step by step."""

    def __init__(self, model: WhisperForConditionalGeneration, device: TorchDevice, config: SpeechConfig) -> None:
        self.model = model
        self.config = config
        self.device = device
        self._turn = threading.Lock()
        self.info: RunnerInfo = executor_info(
            device_kind=device.kind,
            device_name=device.name,
            memory_total_bytes=device.memory_bytes()[1],
            runtime=f"torch {torch.__version__}",
            weights_bytes=sum(tensor.nbytes for tensor in {id(t): t for t in model.parameters()}.values()),
            context_length=config.positions,
            vocab_size=config.vocab_size,
        )

    @contextmanager
    def session(self) -> Iterator["TorchSession"]:
        yield TorchSession(self)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Holds the device for a step. Raises ResourceExhausted when its memory is full."""
        with self._turn, torch.inference_mode():
            try:
                yield
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self.device.release_memory()
                raise ResourceExhausted(
                    f"{self.device.name} has too little free memory for this sound.", reason="OUT_OF_MEMORY"
                ) from error

    def memory_free_bytes(self) -> int:
        return self.device.memory_bytes()[0]

    def close(self) -> None:
        """Nothing to do: the process is about to end."""


class TorchSession:
    """One sound: what the encoder made of its window, and the keys and values of the tokens that were read."""

    def __init__(self, speech: TorchSpeech) -> None:
        self._speech = speech
        self._decoder = speech.model.model.decoder
        self._heard: torch.Tensor | None = None
        self._cross = DynamicCache()
        self._cache = EncoderDecoderCache(DynamicCache(), self._cross)

    def encode(self, features: Array) -> None:
        model = self._speech.model
        with self._speech.turn():
            given = torch.from_numpy(features).to(self._speech.device.handle, model.dtype)
            self._heard = model.model.encoder(given.unsqueeze(0)).last_hidden_state
            self._cross = DynamicCache()
            self._cache = EncoderDecoderCache(DynamicCache(), self._cross)

    def begin(self) -> None:
        self._cache = EncoderDecoderCache(DynamicCache(), self._cross)

    def extend(self, ids: Sequence[int], places: Sequence[int]) -> Array:
        with self._speech.turn():
            return self._logits(ids, places)

    def align(self, ids: Sequence[int]) -> tuple[Array, Array]:
        queries: dict[int, torch.Tensor] = {}

        def keep(layer: int) -> Any:
            def hook(_module: object, _given: object, query: torch.Tensor) -> None:
                queries[layer] = query

            return self._decoder.layers[layer].encoder_attn.q_proj.register_forward_hook(hook)

        self.begin()
        with self._speech.turn():
            hooks = [keep(layer) for layer in sorted({layer for layer, _ in self._speech.config.alignment_heads})]
            try:
                logits = self._logits(ids, range(len(ids)))
            finally:
                for hook in hooks:
                    hook.remove()
            return logits, _on_host(self._looks(queries))

    def _logits(self, ids: Sequence[int], places: Sequence[int]) -> Array:
        device = self._speech.device.handle
        hidden = self._decoder(
            input_ids=torch.tensor([list(ids)], device=device),
            encoder_hidden_states=self._heard,
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state
        wanted = hidden[0, torch.tensor(list(places), device=device)]
        return _on_host(self._speech.model.proj_out(wanted))

    def _looks(self, queries: dict[int, torch.Tensor]) -> torch.Tensor:
        """What the alignment heads look at, before the softmax: [heads, tokens, frames]."""
        layers: Sequence[Any] = self._cross.layers
        size = self._speech.config.hidden_size // self._speech.config.decoder_heads
        looks = []
        for layer, head in self._speech.config.alignment_heads:
            query = queries[layer][0, :, head * size : (head + 1) * size].float()
            looks.append(query @ layers[layer].keys[0, head].float().T * size**-0.5)
        return torch.stack(looks)


def _on_host(tensor: torch.Tensor) -> Array:
    found: Array = tensor.to("cpu", torch.float32).numpy()
    return found

"""Runs an encoder or a decoder in torch, one padded batch of texts at a time."""

import inspect

import torch
from transformers import PreTrainedModel

from infermesh_engine.runners.runner import RunnerInfo
from infermesh_runtime.errors import ResourceExhausted
from infermesh_runtime.manifest.text_encoder import Pooling
from infermesh_runtime.tensors import Array
from infermesh_worker.executors.executor import executor_info
from infermesh_worker.executors.text_batches import TextBatch
from infermesh_worker_xpu.device import TorchDevice
from infermesh_worker_xpu.encoders.loading import size_bytes
from infermesh_worker_xpu.memory_errors import is_out_of_memory


class TorchEncoder:
    """A loaded model."""

    def __init__(self, model: PreTrainedModel, device: TorchDevice, *, context_length: int) -> None:
        self._model = model
        self._device = device
        self._takes_types = "token_type_ids" in inspect.signature(model.forward).parameters
        self._types = int(getattr(model.config, "type_vocab_size", 0) or 0)
        self.pad_id = int(getattr(model.config, "pad_token_id", None) or 0)
        self.info: RunnerInfo = executor_info(
            device_kind=device.kind,
            device_name=device.name,
            memory_total_bytes=device.memory_bytes()[1],
            runtime=f"torch {torch.__version__}",
            weights_bytes=size_bytes(model),
            context_length=context_length,
            vocab_size=int(model.config.vocab_size),
        )

    def embed(self, batch: TextBatch, pooling: Pooling) -> Array:
        with torch.inference_mode():
            hidden, mask = self._run(batch)
            return self._on_host(_pool(hidden, mask, pooling))

    def score(self, batch: TextBatch) -> Array:
        with torch.inference_mode():
            logits, _ = self._run(batch)
            return self._on_host(logits[:, 0])

    def memory_free_bytes(self) -> int:
        return self._device.memory_bytes()[0]

    def close(self) -> None:
        """Nothing to do: the process is about to end."""

    def _run(self, batch: TextBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """The model's first output, and the mask, on the device."""
        mask = torch.from_numpy(batch.mask).to(self._device.handle, torch.int64)
        inputs = {"input_ids": torch.from_numpy(batch.ids).to(self._device.handle, torch.int64)}
        if self._takes_types and self._types > 1:
            inputs["token_type_ids"] = torch.from_numpy(batch.types).to(self._device.handle, torch.int64)
        try:
            output: torch.Tensor = self._model(**inputs, attention_mask=mask)[0]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            self._device.release_memory()
            raise ResourceExhausted(
                f"{self._device.name} has too little free memory for {batch.ids.size} tokens.", reason="OUT_OF_MEMORY"
            ) from error
        return output, mask

    def _on_host(self, tensor: torch.Tensor) -> Array:
        found: Array = tensor.to("cpu", torch.float32).numpy()
        return found


def _pool(hidden: torch.Tensor, mask: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """One vector for each text, float32 [texts, dimensions], of those of its tokens; padding is at the end."""
    if pooling == "cls":
        return hidden[:, 0].float().clone()  # a view would keep all of `hidden`
    if pooling == "last":
        return hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(1) - 1].float()
    shares = mask.unsqueeze(-1).float()
    return (hidden.float() * shares).sum(1) / shares.sum(1).clamp(min=1)

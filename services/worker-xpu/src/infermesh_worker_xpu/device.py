"""Owns the choice of a torch device and what is known about it: name, memory, precisions. Knows no model."""

import logging
from dataclasses import dataclass
from typing import cast

import torch

from infermesh_engine.runners.runner import DeviceKind
from infermesh_runtime import machine
from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker_xpu.options import DeviceChoice, Dtype

_log = logging.getLogger(__name__)

NO_ACCELERATOR = "on the processors: torch finds no accelerator"

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@dataclass(frozen=True, slots=True)
class TorchDevice:
    """A torch device that is there."""

    handle: torch.device
    warning: str = ""
    """What whoever runs the worker should know about the choice; empty when there is nothing."""

    @property
    def kind(self) -> DeviceKind:
        return cast(DeviceKind, self.handle.type)

    @property
    def is_cpu(self) -> bool:
        return self.handle.type == "cpu"

    @property
    def name(self) -> str:
        """What its vendor calls it."""
        if self.is_cpu:
            return machine.processor_name()
        return str(torch.get_device_module(self.handle).get_device_name(self.handle))

    def memory_bytes(self) -> tuple[int, int]:
        """Free and total memory, of the whole device as it is now."""
        if self.is_cpu:
            return machine.memory_available_bytes(), machine.memory_total_bytes()
        free, total = torch.accelerator.memory.get_memory_info(self.handle)
        return free, total

    def release_memory(self) -> None:
        """Gives back what torch keeps for later allocations."""
        if not self.is_cpu:
            torch.accelerator.memory.empty_cache()

    def dtype(self, chosen: Dtype) -> torch.dtype:
        """The precision that is meant: bf16 for auto where the device computes in it, else fp32.

        Raises FailedPrecondition for one that the device does not compute in.
        """
        if chosen != "auto":
            if chosen == "fp16" and self.is_cpu and not torch.ops.mkldnn._is_mkldnn_fp16_supported():
                raise FailedPrecondition(
                    "this processor does not compute in fp16: use INFERMESH_DTYPE=bf16 or fp32",
                    reason="DTYPE_NOT_SUPPORTED",
                )
            return DTYPES[chosen]
        return torch.bfloat16 if self._computes_in_bf16() else torch.float32

    def _computes_in_bf16(self) -> bool:
        if self.is_cpu:
            return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
        return bool(torch.get_device_module(self.handle).is_bf16_supported())


def select(kind: DeviceChoice, index: int) -> TorchDevice:
    """The device to run on; `auto` is the accelerator that torch finds, else the processors, with a warning.

    Raises FailedPrecondition when there is no such device, saying which there are.
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if kind == "cpu":
        return TorchDevice(torch.device("cpu"))
    if kind == "auto" and accelerator is None:
        if index:  # whoever numbers devices means accelerators
            raise FailedPrecondition(
                f"there is no accelerator {index}: torch {torch.__version__} finds none", reason="DEVICE_NOT_AVAILABLE"
            )
        _log.warning(NO_ACCELERATOR)
        return TorchDevice(torch.device("cpu"), NO_ACCELERATOR)
    if accelerator is None or accelerator.type not in (("xpu", "cuda") if kind == "auto" else (kind,)):
        found = "none" if accelerator is None else accelerator.type
        raise FailedPrecondition(
            f"there is no {kind} device: the accelerator that torch {torch.__version__} finds is {found}",
            reason="DEVICE_NOT_AVAILABLE",
        )
    count = torch.accelerator.device_count()
    if index >= count:
        raise FailedPrecondition(
            f"there is no {accelerator.type} device {index}: there are {count}, counted from 0",
            reason="DEVICE_NOT_AVAILABLE",
        )
    torch.accelerator.set_device_index(index)
    return TorchDevice(torch.device(accelerator.type, index))

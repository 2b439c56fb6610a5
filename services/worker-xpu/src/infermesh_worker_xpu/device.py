"""Chooses the torch device to run on and reports its name, memory and supported precisions."""

import logging
from dataclasses import dataclass
from typing import cast

import torch

from infermesh_engine.runners.device_kind import DeviceKind
from infermesh_runtime import machine
from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker_xpu.options import DeviceChoice, Dtype

_log = logging.getLogger(__name__)

NO_ACCELERATOR = "running on the CPU: torch found no accelerator"

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@dataclass(frozen=True, slots=True)
class TorchDevice:
    """A torch device that this machine has."""

    handle: torch.device
    warning: str = ""
    """What the operator should know about the choice of this device; empty if nothing."""

    @property
    def kind(self) -> DeviceKind:
        return cast(DeviceKind, self.handle.type)

    @property
    def is_cpu(self) -> bool:
        return self.handle.type == "cpu"

    @property
    def name(self) -> str:
        """The vendor's name for it."""
        if self.is_cpu:
            return machine.processor_name()
        return str(torch.get_device_module(self.handle).get_device_name(self.handle))

    def memory_bytes(self) -> tuple[int, int]:
        """Free and total bytes of the whole device at this moment, whichever process uses it."""
        if self.is_cpu:
            return machine.memory_available_bytes(), machine.memory_total_bytes()
        free, total = torch.accelerator.memory.get_memory_info(self.handle)
        return free, total

    def release_memory(self) -> None:
        """Returns the memory that torch caches for later allocations to the device."""
        if not self.is_cpu:
            torch.accelerator.memory.empty_cache()

    def dtype(self, chosen: Dtype) -> torch.dtype:
        """The torch dtype of a setting. auto: bf16 if the device computes in bf16, else fp32.

        Raises FailedPrecondition if the device does not compute in the precision.
        """
        if chosen != "auto":
            if chosen == "fp16" and self.is_cpu and not torch.ops.mkldnn._is_mkldnn_fp16_supported():
                raise FailedPrecondition(
                    "This CPU does not compute in fp16. Set INFERMESH_DTYPE to bf16 or fp32.",
                    reason="DTYPE_NOT_SUPPORTED",
                )
            return DTYPES[chosen]
        return torch.bfloat16 if self._computes_in_bf16() else torch.float32

    def _computes_in_bf16(self) -> bool:
        if self.is_cpu:
            return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
        return bool(torch.get_device_module(self.handle).is_bf16_supported())


def select(kind: DeviceChoice, index: int) -> TorchDevice:
    """The device to run on. `auto` takes the accelerator that torch finds, else the CPU, with a warning.

    Raises FailedPrecondition if there is no such device; the message says what torch found.
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if kind == "cpu":
        return TorchDevice(torch.device("cpu"))
    if kind == "auto" and accelerator is None:
        if index:  # an index means an accelerator: there is only one CPU device
            raise FailedPrecondition(
                f"Accelerator {index} does not exist: torch {torch.__version__} finds none. Install its driver "
                "and a matching torch, or set INFERMESH_DEVICE=cpu to run on the CPU.",
                reason="DEVICE_NOT_AVAILABLE",
            )
        _log.warning(NO_ACCELERATOR)
        return TorchDevice(torch.device("cpu"), NO_ACCELERATOR)
    if accelerator is None or accelerator.type not in (("xpu", "cuda") if kind == "auto" else (kind,)):
        found = "no accelerator" if accelerator is None else accelerator.type
        raise FailedPrecondition(
            f"No {kind} device is available: torch {torch.__version__} finds {found}. Set INFERMESH_DEVICE=auto to use "
            "what torch finds.",
            reason="DEVICE_NOT_AVAILABLE",
        )
    count = torch.accelerator.device_count()
    if index >= count:
        raise FailedPrecondition(
            f"{accelerator.type} device {index} does not exist: torch finds {count}, numbered from 0.",
            reason="DEVICE_NOT_AVAILABLE",
        )
    torch.accelerator.set_device_index(index)
    return TorchDevice(torch.device(accelerator.type, index))

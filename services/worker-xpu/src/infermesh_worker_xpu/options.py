"""Options of a torch model: device, precision, KV cache size, kernels. Imports no torch."""

from dataclasses import dataclass
from typing import Literal, cast

DeviceChoice = Literal["auto", "xpu", "cuda", "cpu"]
Dtype = Literal["auto", "bf16", "fp16", "fp32"]
Quantisation = Literal["none", "int8", "int4"]
AttentionChoice = Literal["auto", "triton", "sdpa"]
GraphsChoice = Literal["auto", "off"]
CompileChoice = Literal["auto", "on", "off"]
SamplingChoice = Literal["auto", "host", "device"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchOptions:
    """How a model is loaded and how large its KV cache is. WorkerXpuSettings documents the fields."""

    device: DeviceChoice = "auto"
    device_index: int = 0
    device_indices: tuple[int, ...] = ()
    """Numbers of the devices that share a model that generates text; empty: `device_index` alone. Other kinds of model
    run on `device_index`."""
    dtype: Dtype = "auto"
    kv_dtype: Dtype = "auto"
    quantisation: Quantisation = "none"
    memory_utilisation: float = 0.9
    attention: AttentionChoice = "auto"
    graphs: GraphsChoice = "auto"
    compile: CompileChoice = "auto"
    sampling: SamplingChoice = "auto"
    numerics: Literal["fast", "exact"] = "fast"
    threads: int = 0
    """CPU threads; 0: one for each CPU this process may use."""
    kv_cache_bytes: int = 0
    """0: as much as max_sequences full contexts need, limited by memory_utilisation on an accelerator and by a quarter
    of the available memory on the CPU."""
    max_sequences: int = 64
    max_batched_tokens: int = 512
    context_length: int = 8192


MAX_DEVICE_INDEX = 1023


def parse_devices(device: str, device_index: str) -> tuple[DeviceChoice, tuple[int, ...]]:
    """Kind and numbers of the devices: "xpu" and "0+1", or "xpu:0+1" and the default "0". Raises ValueError."""
    kind, colon, named = device.partition(":")
    if colon and device_index not in {"0", named}:
        raise ValueError(
            f"INFERMESH_DEVICE={device} and INFERMESH_DEVICE_INDEX={device_index} name other devices: set one"
        )
    where = f"INFERMESH_DEVICE={device}" if colon else f"INFERMESH_DEVICE_INDEX={device_index}"
    indices = tuple(int(number) for number in (named if colon else device_index).split("+"))
    if len(set(indices)) < len(indices):
        raise ValueError(f"{where} names a device twice, and each has one part of a model")
    if max(indices) > MAX_DEVICE_INDEX:
        raise ValueError(f"{where}: the number of a device must be at most {MAX_DEVICE_INDEX}")
    return cast(DeviceChoice, kind), indices

"""Options of a torch model: device, precision, KV cache size, kernels. Imports no torch."""

from dataclasses import dataclass
from typing import Literal

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

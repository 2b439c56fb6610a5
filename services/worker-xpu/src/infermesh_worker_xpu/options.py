"""Owns the options that the engine process builds a torch model with. Knows no torch."""

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
    """How a model is loaded and how large its KV cache is. The fields are those of WorkerXpuSettings."""

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
    """0: one for each processor this process may use."""
    kv_cache_bytes: int = 0
    """0: what max_sequences whole contexts need, at most what memory_utilisation leaves on an accelerator and a quarter
    of the memory available on the CPU."""
    max_sequences: int = 64
    max_batched_tokens: int = 512
    context_length: int = 8192

"""Checks and times the Triton attention kernels beside torch's SDPA; the last line is a JSON document.

Needs torch and triton; our package comes from the checkout.
`TRITON_INTERPRET=1 python benchmarks/torch_worker/triton_attention.py --tiny` tries all of it without a GPU.

Each shape runs over enough layers' caches to exceed the L2 cache; on CUDA they are captured in one graph, as a model's
step would be. SDPA gets its keys and values contiguous, without a block table, so it does less work than our kernels.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import triton.testing  # type: ignore[import-untyped] # it has no types
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as sdpa

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "services" / "worker-xpu" / "src"))

from infermesh_worker_xpu.attention import triton_attention

COLD_BYTES = 256 << 20  # several times an L2
MAX_LAYERS = 256
BLOCK_SIZE = 32


@dataclass(frozen=True, slots=True)
class AttentionCase:
    sequences: int
    context: int  # past + new of each
    new: int  # 1: decode
    heads: int
    kv_heads: int
    head_dim: int
    capacity: int = 8192  # what the block tables could hold

    @property
    def kv_bytes(self) -> int:
        return 2 * 2 * self.sequences * self.context * self.kv_heads * self.head_dim

    @property
    def moved_bytes(self) -> int:
        """Bytes of keys, values, query and output, each moved once, in 16 bits."""
        return self.kv_bytes + 2 * 2 * self.sequences * self.new * self.heads * self.head_dim

    @property
    def operations(self) -> int:
        """Floating-point operations of both products; with the causal mask position p meets p + 1 keys."""
        past = self.context - self.new
        pairs = self.new * past + self.new * (self.new + 1) // 2
        return 4 * self.sequences * self.heads * self.head_dim * pairs


TINYLLAMA, LLAMA_8B, GEMMA = (32, 4, 64), (32, 8, 128), (4, 1, 256)
SHAPES = [
    *(AttentionCase(s, c, 1, *TINYLLAMA) for s, c in [(1, 384), (1, 8192), (8, 384), (128, 384), (32, 4096)]),
    *(AttentionCase(s, c, 1, *LLAMA_8B) for s, c in [(1, 1024), (1, 8192), (128, 1024), (32, 8192)]),
    AttentionCase(32, 4096, 1, *GEMMA),
    *(AttentionCase(s, c, n, *TINYLLAMA) for s, c, n in [(1, 128, 128), (16, 128, 128), (1, 2048, 2048)]),
    *(AttentionCase(s, c, n, *LLAMA_8B) for s, c, n in [(1, 2048, 2048), (1, 8192, 512), (8, 1024, 1024)]),
    AttentionCase(1, 4096, 4096, *GEMMA),
]
TINY = [
    AttentionCase(2, 40, 1, 4, 2, 32, 64),
    AttentionCase(1, 300, 1, 4, 2, 80, 320),
    AttentionCase(2, 40, 20, 4, 2, 32, 64),
]


class Work:
    """One shape's inputs on the device, for some layers; `ours` and `torch_sdpa` each run all layers once."""

    def __init__(self, shape: AttentionCase, device: torch.device, layers: int) -> None:
        self.shape, self.layers = shape, layers
        blocks = -(-shape.capacity // BLOCK_SIZE)
        used = -(-shape.context // BLOCK_SIZE)
        count = shape.sequences * used
        options: dict[str, Any] = {"device": device, "dtype": torch.float16 if device.type == "cpu" else torch.bfloat16}
        cache_shape = (count, BLOCK_SIZE, shape.kv_heads, shape.head_dim)
        self.caches = [
            (torch.randn(cache_shape, **options), torch.randn(cache_shape, **options)) for _ in range(layers)
        ]
        self.tables = torch.zeros(shape.sequences, blocks, dtype=torch.int32, device=device)
        self.tables[:, :used] = torch.randperm(count, device=device).view(shape.sequences, used)
        self.lengths = torch.full((shape.sequences,), shape.context, dtype=torch.int32, device=device)
        self.begins = torch.arange(shape.sequences + 1, dtype=torch.int32, device=device) * shape.new
        self.query = torch.randn(shape.sequences * shape.new, shape.heads, shape.head_dim, **options)
        self.out = torch.full_like(self.query, float("nan"))
        self.dense = [self._dense(cache) for cache in self.caches]
        self.dense_query = self.query.view(shape.sequences, shape.new, shape.heads, -1).transpose(1, 2)
        past = torch.arange(shape.context - shape.new, shape.context, device=device)[:, None]
        self.mask = past >= torch.arange(shape.context, device=device)[None, :]

    def _dense(self, caches: tuple[Tensor, Tensor]) -> list[Tensor]:
        shape = self.shape
        used = self.tables[:, : -(-shape.context // BLOCK_SIZE)].long()
        return [cache[used].flatten(1, 2)[:, : shape.context].transpose(1, 2).contiguous() for cache in caches]

    def ours(self) -> None:
        shape, scale = self.shape, self.shape.head_dim**-0.5
        for key_cache, value_cache in self.caches:
            inputs = (self.query, key_cache, value_cache, self.tables)
            if shape.new == 1:
                triton_attention.decode(*inputs, self.lengths, scale, None, None, self.out)
            else:
                triton_attention.prefill(
                    *inputs, self.begins, self.lengths, shape.new, scale, None, None, self.out
                )  # fmt: skip

    def torch_sdpa(self) -> Tensor:
        shape = self.shape
        kind: dict[str, Any] = {"is_causal": True} if shape.new == shape.context else {"attn_mask": self.mask}
        kind = {} if shape.new == 1 else kind
        for keys, values in self.dense:
            found = sdpa(self.dense_query, keys, values, enable_gqa=True, **kind)
        return found.transpose(1, 2).flatten(0, 1)

    def relative_error(self) -> float:
        """Returns the error of our last layer relative to SDPA's; NaN where an element was not written."""
        self.ours()
        expected = self.torch_sdpa().float()
        return float((self.out.float() - expected).norm() / expected.norm())


def seconds_each(work: Callable[[], object], device: torch.device) -> float:
    """Returns the median seconds of one call; on CUDA it is captured in a graph, so that launches cost nothing."""
    if device.type == "cpu":
        began = time.perf_counter()
        work()
        return time.perf_counter() - began
    if device.type == "cuda":
        for _ in range(2):
            work()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            work()
        work = graph.replay
    return float(triton.testing.do_bench(work, warmup=20, rep=100, return_mode="median")) / 1e3


def copy_bandwidth(device: torch.device) -> float:
    """Returns the bytes per second, read and written, of a copy on the device."""
    source = torch.randint(0, 255, (1 << (20 if device.type == "cpu" else 32),), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    times = [seconds_each(lambda: target.copy_(source), device) for _ in range(3)]
    return 2 * source.numel() / statistics.median(times)


def measure(shape: AttentionCase, device: torch.device, bytes_s: float) -> dict[str, Any]:
    cold = 1 if device.type == "cpu" else min(MAX_LAYERS, -(-COLD_BYTES // shape.kv_bytes))
    work = Work(shape, device, cold)
    error = work.relative_error()
    ours = seconds_each(work.ours, device) / cold
    theirs = seconds_each(work.torch_sdpa, device) / cold
    return {
        **asdict(shape),
        "kind": "decode" if shape.new == 1 else "prefill",
        "relative_error": error,
        "ours_us": ours * 1e6,
        "sdpa_us": theirs * 1e6,
        "share_of_byte_bound": shape.moved_bytes / bytes_s / ours,
        "tflops": shape.operations / ours / 1e12,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="use few small shapes, for Triton's interpreter")
    tiny = parser.parse_args().tiny
    device = torch.accelerator.current_accelerator() or torch.device("cpu")
    able = triton_attention.available(device)
    if not able:
        sys.exit(f"The Triton kernels do not run here: {able.reason}")
    torch.manual_seed(0)
    bytes_s = copy_bandwidth(device)
    results = []
    for shape in TINY if tiny else SHAPES:
        results.append(measure(shape, device, bytes_s))
        print({key: round(value, 4) if isinstance(value, float) else value for key, value in results[-1].items()})
    correct = all(result["relative_error"] < 2e-2 for result in results)
    name = "cpu, Triton's interpreter" if device.type == "cpu" else torch.get_device_module(device).get_device_name(0)
    versions = {"torch": torch.__version__, "triton": triton.__version__}
    print(json.dumps({"device": name, **versions, "copy_bytes_s": bytes_s, "correct": correct, "results": results}))
    return int(not correct)


if __name__ == "__main__":
    sys.exit(main())

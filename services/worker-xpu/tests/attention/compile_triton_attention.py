"""Compiles the Triton kernels of attention for CUDA devices that need not be present; test_triton_attention runs it.

Prints one JSON object for each kernel. Exits with 1 if a kernel spills more than a few registers or needs too
much shared memory.
"""

# Triton has no types and may be absent:
# mypy: disable-error-code="import-untyped, import-not-found"

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from triton.compiler import CompiledKernel
    from triton.runtime import JITFunction

    from infermesh_worker_xpu.attention.triton_tiles import TileSizes

Constants = dict[str, int | bool]

SHARED_BYTES = 99 * 1024  # what the smallest device of compute capability 8 has
STACK_BYTES = {80: 96, 90: 32}
POINTERS = {"tables": "*i32", "context_lens": "*i32", "begins": "*i32", "slots": "*i64"}


def signature_of(
    kernel: JITFunction, constants: Constants, dtype: str
) -> tuple[dict[str, str], dict[tuple[int], list[list[object]]]]:
    def type_of(name: str) -> str:
        if name in constants:
            return "constexpr"
        if name in POINTERS:
            return POINTERS[name]
        if name.startswith("partial"):
            return "*fp32"
        if name in ("query", "key", "value", "key_cache", "value_cache", "out"):
            return "*" + dtype
        return "fp32" if name in ("scale", "softcap") else "i32"

    signature = {name: type_of(name) for name in kernel.arg_names}
    aligned = {
        (i,): [["tt.divisibility", 16]]
        for i, (name, kind) in enumerate(signature.items())
        if kind.startswith("*") or name.endswith(("token_stride", "head_stride"))
    }
    return signature, aligned


def compile_kernel(
    kernel: JITFunction, constants: Constants, dtype: str, tiles: TileSizes, capability: int
) -> CompiledKernel:
    import triton
    from triton.backends.compiler import GPUTarget

    signature, aligned = signature_of(kernel, constants, dtype)
    source = triton.compiler.ASTSource(kernel, signature, constants, aligned)
    options = {"num_warps": tiles.warps, "num_stages": tiles.stages}
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


def stack_bytes(compiled: CompiledKernel) -> int:
    from triton import knobs

    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder) / "kernel.cubin"
        binary.write_bytes(compiled.asm["cubin"])
        command = [knobs.nvidia.cuobjdump.path, "--dump-resource-usage", str(binary)]
        report = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found = re.search(r"STACK:(\d+)", report)
        assert found, report
        return int(found[1])


def kernels() -> Iterator[tuple[str, JITFunction, Constants, str, TileSizes]]:
    """(name, kernel, constants, dtype, tiles) for each kind of tile in the 16-bit tables, and for one 32-bit tile."""
    from infermesh_worker_xpu.attention import triton_kernels as decoding
    from infermesh_worker_xpu.attention import triton_prefill as prefilling
    from infermesh_worker_xpu.attention import triton_tiles as tiling

    for head_dim, bits in [(64, 16), (80, 16), (256, 16), (64, 32)]:
        dtype, size = ("bf16", 2) if bits == 16 else ("fp32", 4)
        padded = tiling.power_of_two_above(head_dim)
        shape = {"KV_HEADS": 2, "GROUP": 4, "HEAD_DIM": head_dim, "DIM_PADDED": padded, "BLOCK_SIZE": 16}
        masks = {"WINDOWED": head_dim == 256, "SOFTCAP": head_dim == 256}
        tiles = tiling.decode_tiles("cuda", head_dim, size, 4)
        cut = {"ROWS": tiles.rows, "TOKENS": tiles.tokens}
        more = {"STEP": tiling.CHUNK_TOKENS, "SPLIT": head_dim != 64}
        yield f"decode {head_dim} {dtype}", decoding.decode_kernel, {**shape, **masks, **cut, **more}, dtype, tiles
        tiles = tiling.prefill_tiles("cuda", head_dim, size, 4096)
        cut = {"ROWS": tiles.rows, "TOKENS": tiles.tokens}
        yield f"prefill {head_dim} {dtype}", prefilling.prefill_kernel, {**shape, **masks, **cut}, dtype, tiles
    small = tiling.TileSizes(1, 1, tiling.COMBINE_WARPS, 3)
    shape = {"HEAD_DIM": 80, "DIM_PADDED": 128, "SPLITS": tiling.MAX_SPLITS, "SLAB": tiling.COMBINE_SLAB}
    yield "combine", decoding.combine_kernel, {**shape, "STEP": 128, "WINDOWED": True}, "bf16", small
    shape = {"KV_HEADS": 2, "HEAD_DIM": 80, "DIM_PADDED": 128, "HEADS_TILE": 2}
    yield "write_kv", decoding.write_kv_kernel, shape, "bf16", small


def main() -> int:
    failed = 0
    for capability, (name, kernel, constants, dtype, tiles) in itertools.product(STACK_BYTES, kernels()):
        compiled = compile_kernel(kernel, constants, dtype, tiles, capability)
        stack, shared = stack_bytes(compiled), compiled.metadata.shared
        failed += stack > STACK_BYTES[capability] or shared > SHARED_BYTES
        print(json.dumps({"sm": capability, "kernel": name, "stack_bytes": stack, "shared_bytes": shared}))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())

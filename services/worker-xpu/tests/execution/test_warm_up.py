"""At load, a runner compiles every kernel and returns the memory of trial captures."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from infermesh_worker_xpu import device as devices
from infermesh_worker_xpu.attention import triton_tiles as tiling
from infermesh_worker_xpu.attention.kernels import BLOCK_SIZE
from infermesh_worker_xpu.attention.sdpa import SdpaKernels
from infermesh_worker_xpu.execution import kv_memory, warm_up
from infermesh_worker_xpu.execution.runner import RunnerFacts, TorchRunner
from infermesh_worker_xpu.loading import weights
from infermesh_worker_xpu.memory_errors import is_out_of_memory
from infermesh_worker_xpu.options import TorchOptions

if TYPE_CHECKING:
    from conftest import TinyFolder

Load = Callable[..., TorchRunner]

OPTIONS = TorchOptions(device="cpu", dtype="fp32", kv_cache_bytes=8 << 20, context_length=600, max_sequences=4)


class Graph:
    """A graph whose replay runs its work again; the set holds those that are alive."""

    alive: ClassVar[weakref.WeakSet[Graph]] = weakref.WeakSet()

    def __init__(self) -> None:
        self.alive.add(self)

    def capture(self, work: Callable[[], Tensor]) -> None:
        self._work = work
        work()

    def replay(self) -> torch.Tensor:
        return self._work()


@pytest.fixture
def load(tiny_folder: TinyFolder, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Loads a runner of the tiny Llama on a CPU that pretends to be an accelerator."""
    device = devices.select("cpu", 0)
    model = weights.load(tiny_folder("llama"), device, torch.float32, OPTIONS)
    monkeypatch.setattr(devices.TorchDevice, "is_cpu", False)
    monkeypatch.setattr(devices.TorchDevice, "memory_bytes", lambda self: (1 << 30, 1 << 31))
    monkeypatch.setattr(devices.TorchDevice, "release_memory", lambda self: None)
    monkeypatch.setattr(devices.TorchDevice, "name", "a device")

    def runner(attention: str, **kwargs: Any) -> TorchRunner:
        return TorchRunner(model, device, SdpaKernels(), OPTIONS, RunnerFacts(attention, 1), **kwargs)

    return runner


@pytest.mark.parametrize("programs", [1, 4, 8, 32, 512])
@pytest.mark.parametrize("context_length", [100, 2048, 5000, 131072])
def test_decodes_are_cut_in_every_way_that_a_batch_can_be(programs: int, context_length: int) -> None:
    def splits(tokens: int) -> int:
        return tiling.decode_splits(programs, tokens, processors=132)

    batches = [warm_up.shortest(0), *warm_up.all_kernels(0, context_length)]
    widths = [int(batch.block_begins[1]) * BLOCK_SIZE for batch in batches]
    assert {splits(width) for width in widths} == {splits(n * BLOCK_SIZE) for n in range(1, 1 - context_length // -32)}
    assert max(batch.max_context_tokens for batch in batches) == context_length


@pytest.mark.parametrize("group", [1, 4, 8])
def test_prefills_take_every_size_of_tile(group: int) -> None:
    def tiles(new: int) -> tiling.TileSizes:
        return tiling.prefill_tiles("cuda", 64, 2, new * group)

    batches = [warm_up.shortest(0), *warm_up.all_kernels(0, 2048)]
    assert {tiles(int(np.diff(batch.begins)[1])) for batch in batches} == {tiles(new) for new in range(1, 3000)}


def test_a_runner_of_compiled_kernels_runs_them_all_at_load(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    contexts: list[int] = []
    decode = SdpaKernels.decode

    def noted(self: SdpaKernels, *args: Any) -> Tensor:
        contexts.append(int(args[4].max()))
        return decode(self, *args)

    monkeypatch.setattr(SdpaKernels, "decode", noted)
    load("sdpa")
    assert set(contexts) == {1}
    load("triton")
    assert set(contexts) == {1, 256, 512, 600}


def test_the_kv_cache_is_counted_when_the_memory_of_measured_graphs_is_back(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []

    def release(_: devices.TorchDevice) -> None:
        gc.collect()
        held.append(len(Graph.alive))

    def counted(*args: Any, **kwargs: Any) -> int:
        assert held[-1] == 0
        held.append(-1)
        return 8

    monkeypatch.setattr(devices.TorchDevice, "release_memory", release)
    monkeypatch.setattr(kv_memory, "count_blocks", counted)
    load("triton", new_pool=lambda: Graph)
    assert held[:8] == [0, 1, 2, 2, 3, 4, 0, -1]  # two graphs of each kind of step


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "Triton Error [CUDA]: out of memory",
        "level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)",
        "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory",
    ],
)
def test_libraries_that_allocate_past_torch_run_out_of_memory_too(message: str) -> None:
    assert is_out_of_memory(RuntimeError(message))
    assert not is_out_of_memory(ValueError(message))
    assert not is_out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))

"""The ranks that share a model: sums and joins their tensors, and agrees on numbers."""

import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import FileStore  # type: ignore[attr-defined] # it is, in __all__ of a C module

TIMEOUT = timedelta(minutes=5)
"""How long a rank waits for the others, which may be reading weights. Serving, the front restarts a silent engine
earlier than that."""
_BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl", "xpu": "cpu:gloo,xpu:xccl"}


@dataclass(frozen=True, slots=True)
class Group:
    """One rank's way to the others. All ranks must call the same methods in the same order.

    The methods raise RuntimeError when another rank is gone or does not answer.
    """

    rank: int = 0
    size: int = 1

    def summed(self, part: Tensor) -> Tensor:
        """The sum of the ranks' tensors, in the memory of this rank's."""
        dist.all_reduce(part)
        return part

    def joined(self, part: Tensor) -> Tensor:
        """The ranks' tensors [..., n] side by side, [..., n × size]."""
        part = part.contiguous()
        parts = [torch.empty_like(part) for _ in range(self.size)]
        dist.all_gather(parts, part)
        return torch.cat(parts, -1)

    def spread(self, values: Tensor) -> None:
        """Copies rank 0's values into every other rank's tensor."""
        dist.broadcast(values, src=0)

    def least(self, number: int) -> int:
        """The smallest of the ranks' numbers."""
        return -max(self._all(-number))

    def total(self, number: int) -> int:
        """The sum of the ranks' numbers."""
        return sum(self._all(number))

    def _all(self, number: int) -> list[int]:
        if self.size == 1:
            return [number]
        numbers = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(numbers, torch.tensor([number]))
        return [int(each) for each in numbers]


ALONE = Group()
"""One rank with the whole model."""


def prepare_environment() -> None:
    """Keeps the ranks' connections on this machine. Call it before the first rank starts."""
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "CCL_KVS_IFACE"):
        os.environ.setdefault(name, "lo")


def join_group(kind: str, store: Path, rank: int, size: int) -> Group:
    """Waits for the other ranks, which name the same new or empty file `store`. Raises RuntimeError."""
    dist.init_process_group(
        _BACKENDS[kind], store=FileStore(str(store), size), rank=rank, world_size=size, timeout=TIMEOUT
    )
    return Group(rank, size)


def leave_group() -> None:
    """Ends this rank's connections, if it has any."""
    if dist.is_initialized():
        dist.destroy_process_group()

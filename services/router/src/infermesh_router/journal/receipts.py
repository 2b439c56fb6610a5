"""Keeps the receipts of the last requests, within a number and a size."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from infermesh.inference.v1 import inference_pb2 as inference
from infermesh.mesh.v1 import mesh_pb2 as pb
from infermesh_router.journal.story import Story
from infermesh_router.policy.snapshot import Wanted
from infermesh_router.requests.neutral import NEUTRAL

_NAMES = tuple(field.name for field, _ in NEUTRAL.ListFields())
_OVERHEAD_BYTES = 600
"""What a receipt takes beside its message: Python's objects around it."""
_MOST_OTHERS = 128


@dataclass(frozen=True, slots=True)
class _Kept:
    request_id: str
    client: str
    """Whose request it was, as the queue names clients."""
    message: bytes
    sampling: tuple[float, ...]
    """The values of _NAMES, then the most tokens; empty if nothing was sampled."""
    asked: tuple[str, ...]
    """The names of those that the request itself set."""

    @property
    def size_bytes(self) -> int:
        return len(self.message) + len(self.request_id) + len(self.client) + _OVERHEAD_BYTES


class Receipts:
    """The receipts of the last requests. They are kept as bytes: a thousand of them take about a megabyte."""

    def __init__(self, *, most: int = 1000, most_bytes: int = 4 << 20) -> None:
        """`most`: how many to keep; 0 keeps none."""
        self._most = most
        self._most_bytes = most_bytes
        self._kept: deque[_Kept] = deque()
        self._by_id: dict[str, list[_Kept]] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def size_bytes(self) -> int:
        """About how much memory they take."""
        return self._bytes

    def keep(self, story: Story, wanted: Wanted, *, call: str, asked: tuple[str, ...], status: str, error: str) -> None:
        """Keeps the receipt of a call that has ended, and drops the oldest ones beyond the limits."""
        if not self._most or not story.request_id:
            return
        receipt = story.receipt(call=call, model=wanted.model, alias=wanted.alias, status=status, error=error)
        in_use = story.in_use
        sampling = () if in_use is None else _values(in_use)
        kept = _Kept(story.request_id, wanted.client, receipt.SerializeToString(), sampling, asked)
        self._kept.append(kept)
        self._by_id.setdefault(kept.request_id, []).append(kept)
        self._bytes += kept.size_bytes
        while len(self._kept) > self._most or self._bytes > self._most_bytes:
            self._drop_oldest()

    def find(self, request_id: str, client: str | None) -> pb.Receipt | None:
        """The receipt of a request. `client`: whose it must be; None: anybody's."""
        found = [kept for kept in self._by_id.get(request_id, ()) if client is None or kept.client == client]
        if not found:
            return None
        first, *others = found
        receipt = _read(first)
        receipt.others.extend(_read(other) for other in others[:_MOST_OTHERS])
        return receipt

    def newest(self, limit: int, client: str | None) -> list[pb.Receipt]:
        """The receipts of the last requests, newest first."""
        return [_read(kept) for kept in self._of(client, limit)]

    def _of(self, client: str | None, limit: int) -> Iterator[_Kept]:
        for kept in reversed(self._kept):
            if limit <= 0:
                return
            if client is None or kept.client == client:
                limit -= 1
                yield kept

    def _drop_oldest(self) -> None:
        kept = self._kept.popleft()
        self._bytes -= kept.size_bytes
        same = self._by_id[kept.request_id]
        same.remove(kept)
        if not same:
            del self._by_id[kept.request_id]


def _values(in_use: inference.GenerationDefaults) -> tuple[float, ...]:
    sampling = in_use.sampling
    return (*(getattr(sampling, name) for name in _NAMES), in_use.max_tokens if in_use.HasField("max_tokens") else -1)


def _read(kept: _Kept) -> pb.Receipt:
    receipt = pb.Receipt.FromString(kept.message)
    if not kept.sampling:
        return receipt
    *values, max_tokens = kept.sampling
    for name, value in zip(_NAMES, values, strict=True):
        source = "request" if name in kept.asked else "built-in" if value == getattr(NEUTRAL, name) else "model"
        receipt.sampling.add(name=name, value=float(f"{value:.7g}"), source=source)
    if max_tokens >= 0:
        source = "request" if "max_tokens" in kept.asked else "model"
        receipt.sampling.add(name="max_tokens", value=max_tokens, source=source)
    return receipt

"""Keeps what became of the last requests, within a number and a size."""

from collections import deque
from collections.abc import Iterator

from infermesh.mesh.v1 import mesh_pb2 as pb
from infermesh_router.journal.receipt import write_receipt
from infermesh_router.journal.story import Story

_MOST_OTHERS = 128


class Receipts:
    """The stories of the last requests, of which receipts are written when somebody asks."""

    def __init__(self, *, most: int = 1000, most_bytes: int = 4 << 20) -> None:
        """`most`: how many to keep; 0 keeps none."""
        self._most = most
        self._most_bytes = most_bytes
        self._stories: deque[Story] = deque()
        self._by_id: dict[str, list[Story]] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._stories)

    @property
    def size_bytes(self) -> int:
        """About how much memory they take."""
        return self._bytes

    def keep(self, story: Story) -> None:
        """Keeps the story of a call that has ended, and drops the oldest ones beyond the limits."""
        if not self._most or not story.request_id:
            return
        self._stories.append(story)
        self._by_id.setdefault(story.request_id, []).append(story)
        self._bytes += story.size_bytes
        while len(self._stories) > self._most or self._bytes > self._most_bytes:
            self._drop_oldest()

    def find(self, request_id: str, client: str | None) -> pb.Receipt | None:
        """The receipt of a request. `client`: whose it must be; None: anybody's."""
        found = [story for story in self._by_id.get(request_id, ()) if client is None or story.client == client]
        if not found:
            return None
        first, *others = found
        receipt = write_receipt(first)
        receipt.others.extend(map(write_receipt, others[:_MOST_OTHERS]))
        return receipt

    def newest(self, limit: int, client: str | None) -> list[pb.Receipt]:
        """The receipts of the last requests, newest first."""
        return [write_receipt(story) for story in self._of(client, limit)]

    def _of(self, client: str | None, limit: int) -> Iterator[Story]:
        for story in reversed(self._stories):
            if limit <= 0:
                return
            if client is None or story.client == client:
                limit -= 1
                yield story

    def _drop_oldest(self) -> None:
        story = self._stories.popleft()
        self._bytes -= story.size_bytes
        same = self._by_id[story.request_id]
        same.remove(story)
        if not same:
            del self._by_id[story.request_id]

"""Reads files as they arrive and the requests in them: what is little work at once, the rest in another process."""

from infermesh_router.batches.lines import read_lines
from infermesh_router.batches.store.kept import Line, Problem
from infermesh_router.batches.upload import upload_parts
from infermesh_router.openai.bodies import BodyRules
from infermesh_router.openai.conversion import Sent
from infermesh_router.openai.packed_body import unpacked_body_size
from infermesh_router.requests.bounds import is_light_json
from infermesh_router.requests.parsing_pool import ParsingPool
from infermesh_runtime.rpc.limits.body_budget import SMALL_BYTES


class FileReader:
    """Reads files without holding up the event loop."""

    def __init__(self, pool: ParsingPool, rules: BodyRules) -> None:
        self._pool = pool
        self._rules = rules

    async def upload(self, message: bytes, sent: Sent) -> tuple[str, str, bytes]:
        """Name, purpose and content of the file in a serialised HttpBody.

        Raises InvalidArgument, and ResourceExhausted if a compressed one does not fit into the memory for bodies.
        """
        if sent.encoding:  # even a small one may take long to unpack
            size_bytes, _ = await self._pool.run(unpacked_body_size, message, sent.encoding, self._rules.max_bytes)
            sent.share.arrived(size_bytes)  # before the first copy of that size is made
        elif len(message) <= SMALL_BYTES:
            (name, purpose), (content,) = upload_parts(message, "", self._rules)
            return name, purpose, content
        (name, purpose), (content,) = await self._pool.run(upload_parts, message, sent.encoding, self._rules)
        return name, purpose, content

    async def lines(self, content: bytes, endpoint: str) -> tuple[list[Line], list[Problem]]:
        """The requests of a file, and what is wrong with it."""
        if len(content) <= SMALL_BYTES and is_light_json(content):
            return read_lines(content, endpoint, self._rules.bounds)[0]
        return (await self._pool.run(read_lines, content, endpoint, self._rules.bounds))[0]

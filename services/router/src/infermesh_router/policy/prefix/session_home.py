"""Gives a session that this router does not know the endpoint on which all routers side by side agree."""

from hashlib import blake2b

import numpy as np

from infermesh_router.policy.filters import keep_device
from infermesh_router.policy.prefix.prefix_hash import pick_by_hash
from infermesh_router.policy.snapshot import Wanted
from infermesh_router.policy.table import Table

_HASH_BYTES = 8


def session_home(table: Table, wanted: Wanted, session_id: str) -> str:
    """The address that the session's hash picks among the endpoints that can answer now; "" if there is no choice.

    A session's requests reach several routers in turn. Each of them would else have to learn by itself which endpoint
    holds the conversation, and the first request to each could go anywhere.
    """
    rows = np.flatnonzero(keep_device(table, table.ready(wanted.model) & table.usable & table.connected, wanted))
    if len(rows) < 2:
        return ""
    key = int.from_bytes(blake2b(session_id.encode(), digest_size=_HASH_BYTES).digest())
    return table[int(rows[pick_by_hash(table.address_hashes[rows], (key,))])].address

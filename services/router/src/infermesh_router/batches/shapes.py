"""Shows files, batches and lists of them in OpenAI's shapes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import orjson

from infermesh_router.batches.store.kept import CANCELLED, COMPLETED, EXPIRED, INVALID, Batch, KeptFile
from infermesh_router.responses.query import page_wanted
from infermesh_runtime.errors import InvalidArgument

KeptT = TypeVar("KeptT", KeptFile, Batch)

_ENDED = {COMPLETED: "completed_at", EXPIRED: "expired_at", CANCELLED: "cancelled_at", INVALID: "failed_at"}


def show_file(file: KeptFile) -> dict[str, Any]:
    """The object `file`."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.size_bytes,
        "created_at": file.created_s,
        "expires_at": None,
        "filename": file.name,
        "purpose": file.purpose,
        "status": "processed",
    }


def show_batch(batch: Batch) -> dict[str, Any]:
    """The object `batch`."""
    problems = [
        {"code": problem.code, "line": problem.line, "message": problem.message, "param": None}
        for problem in batch.problems
    ]
    counts = batch.counts
    begun_s = None if batch.state == INVALID else batch.created_s
    ended = dict.fromkeys(_ENDED.values()) | ({_ENDED[batch.state]: batch.ended_s} if batch.state in _ENDED else {})
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "errors": {"object": "list", "data": problems} if problems else None,
        "input_file_id": batch.input_file,
        "completion_window": "24h",
        "status": batch.state,
        "output_file_id": batch.output_file,
        "error_file_id": batch.error_file,
        "created_at": batch.created_s,
        "in_progress_at": begun_s,
        "expires_at": batch.expires_s,
        "finalizing_at": batch.ended_s if batch.state == COMPLETED else None,
        **ended,
        "cancelling_at": batch.ended_s if batch.state == CANCELLED else None,
        "request_counts": {"total": counts.total, "completed": counts.completed, "failed": counts.failed},
        "metadata": orjson.loads(batch.metadata),
    }


def show_list(
    kept: Sequence[KeptT], query: Mapping[str, str], show: Callable[[KeptT], dict[str, Any]]
) -> dict[str, Any]:
    """The part of a list that is wanted. `kept` has the oldest first. Raises InvalidArgument."""
    wanted = page_wanted(query)
    ordered = list(reversed(kept)) if wanted.newest_first else list(kept)
    begin = 0
    if wanted.after:
        ids = [each.id for each in ordered]
        if wanted.after not in ids:
            raise InvalidArgument(f"'after' is not in the list: '{wanted.after[:80]}'.", fields={"after": "is unknown"})
        begin = ids.index(wanted.after) + 1
    data = [show(each) for each in ordered[begin : begin + wanted.limit]]
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
    return {"object": "list", "data": data, "has_more": len(ordered) > begin + wanted.limit, **ends}

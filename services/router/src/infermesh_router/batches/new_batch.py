"""Makes a batch of the body that asks for it."""

import time
from collections.abc import Sequence

import orjson

from infermesh_router.batches.schema import BatchBody
from infermesh_router.batches.store.files import new_id
from infermesh_router.batches.store.kept import INVALID, RUNNING, Batch, Problem
from infermesh_router.openai.bodies import BodyRules
from infermesh_router.openai.packed_body import read_body, unpack_small_body
from infermesh_router.openai.parse import parse_body
from infermesh_router.requests.bounds import is_light_json
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.rpc.limits.body_budget import SMALL_BYTES

_WINDOW_S = 24 * 3600


def read_body_of(message: bytes, encoding: str, rules: BodyRules) -> tuple[BatchBody, tuple[str, ...]]:
    """The body in a serialised HttpBody, and the fields without effect. Raises InvalidArgument."""
    unpacked = unpack_small_body(message, encoding) if encoding else message
    if unpacked is None or not is_light_json(unpacked):
        raise InvalidArgument(
            f"The body is too large: this call takes at most {SMALL_BYTES} bytes.", reason="REQUEST_TOO_LARGE"
        )
    parsed = parse_body(BatchBody, read_body(unpacked), ignore_unknown=rules.ignore_unknown)
    hints = tuple(name for name in parsed.request.HINTS if getattr(parsed.request, name) is not None)
    return parsed.request, parsed.ignored + hints


def new_batch(owner: str, body: BatchBody, problems: Sequence[Problem]) -> Batch:
    """A batch that runs, or has failed because its file cannot be run."""
    now_s = int(time.time())
    return Batch(
        id=new_id("batch_"),
        owner=owner,
        endpoint=body.endpoint,
        input_file=body.input_file_id,
        created_s=now_s,
        expires_s=now_s + _WINDOW_S,
        state=INVALID if problems else RUNNING,
        ended_s=now_s if problems else None,
        metadata=orjson.dumps(body.metadata),
        problems=tuple(problems),
    )

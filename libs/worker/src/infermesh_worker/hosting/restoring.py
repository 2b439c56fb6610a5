"""Loads models again that were unloaded for a load which then failed."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from infermesh_runtime.errors import InfermeshError, from_code
from infermesh_worker.hosting.hosted_model import HostedModel

_log = logging.getLogger(__name__)


async def restore(
    evicted: Sequence[HostedModel], load_again: Callable[[HostedModel], Awaitable[None]]
) -> Mapping[str, str]:
    """Calls `load_again` for each, most recently used first. Returns those that failed: model → why."""
    lost: dict[str, str] = {}
    for model in sorted(evicted, key=lambda model: model.holding().last_used_s, reverse=True):
        name = model.opened.name
        try:
            await load_again(model)
        except Exception as error:  # whatever it is, the others are loaded again
            lost[name] = str(error)
            _log.error("model not loaded again after a failed load", extra={"model": name, "reason": str(error)})
        else:
            _log.info("model loaded again after a failed load", extra={"model": name})
    return lost


def with_lost(error: InfermeshError, lost: Mapping[str, str]) -> InfermeshError:
    """The error of the failed load, which also says which models are no longer loaded (metadata `not_restored`)."""
    if not lost:
        return error
    reasons = "; ".join(f"{name!r} ({why})" for name, why in lost.items())
    return from_code(
        error.code,
        f"{error.message} Models that were unloaded to make room could not be loaded again: {reasons}.",
        reason=error.reason,
        metadata={**error.metadata, "not_restored": ",".join(lost)},
        fields=error.fields,
        retry_after_s=error.retry_after_s,
    )

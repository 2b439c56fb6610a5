"""Reads from the settings what request bodies may contain, and how much memory they may take."""

from infermesh_router.config.body_settings import BodySettings
from infermesh_router.openai.bodies import BodyRules
from infermesh_router.requests.bounds import Bounds
from infermesh_runtime.machine import memory_total_bytes
from infermesh_runtime.rpc.body_budget import BodyBudget

_MIB = 1 << 20
_SMALLEST_BUDGET_BYTES = 256 * _MIB
_LARGEST_BUDGET_BYTES = 2048 * _MIB


def request_bounds(settings: BodySettings) -> Bounds:
    """What a request of either API may consist of."""
    return Bounds(messages=settings.max_messages, parts=settings.max_content_parts, values=settings.max_body_values)


def body_rules(settings: BodySettings) -> BodyRules:
    """What bodies of OpenAI's API may contain."""
    return BodyRules(
        ignore_unknown=settings.unknown_fields == "ignore",
        max_bytes=settings.max_body_bytes,
        bounds=request_bounds(settings),
    )


def body_budget(settings: BodySettings) -> BodyBudget:
    """The memory for requests in progress."""
    total = settings.body_memory_bytes or default_budget_bytes(memory_total_bytes())
    return BodyBudget(
        total_bytes=total,
        client_bytes=int(total * settings.client_body_memory_share),
        timeout_s=settings.body_timeout_s,
    )


def default_budget_bytes(memory_bytes: int) -> int:
    """An eighth of the machine's memory, within bounds."""
    return min(max(memory_bytes // 8, _SMALLEST_BUDGET_BYTES), _LARGEST_BUDGET_BYTES)

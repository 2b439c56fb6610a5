"""Reads from the settings what request bodies may contain, and how much memory they may take."""

from infermesh_router.config.body_settings import BodySettings
from infermesh_router.config.image_settings import ImageSettings
from infermesh_router.config.settings import RouterSettings
from infermesh_router.images.fetching import FetchOptions, ImageFetcher
from infermesh_router.images.rules import ImageRules
from infermesh_router.openai.bodies import BodyRules
from infermesh_router.requests.bounds import Bounds
from infermesh_runtime.machine import memory_total_bytes
from infermesh_runtime.rpc.limits.body_budget import BodyBudget

_MIB = 1 << 20
_SMALLEST_BUDGET_BYTES = 256 * _MIB
_LARGEST_BUDGET_BYTES = 2048 * _MIB


def request_bounds(settings: BodySettings) -> Bounds:
    """What a request of either API may consist of."""
    return Bounds(messages=settings.max_messages, parts=settings.max_content_parts, values=settings.max_body_values)


def image_rules(settings: ImageSettings) -> ImageRules:
    """What images a request may have."""
    return ImageRules(most=settings.max_images, max_bytes=settings.max_image_bytes, urls=settings.image_urls)


def image_fetcher(settings: ImageSettings) -> ImageFetcher:
    """Fetches the images that requests name by URL."""
    hosts = tuple(host.lower().rstrip(".") for host in settings.image_hosts)
    options = FetchOptions(timeout_s=settings.image_timeout_s, hosts=hosts)
    return ImageFetcher(image_rules(settings), options)


def body_rules(settings: RouterSettings) -> BodyRules:
    """What bodies of OpenAI's API may contain."""
    return BodyRules(
        ignore_unknown=settings.unknown_fields == "ignore",
        max_bytes=settings.max_body_bytes,
        bounds=request_bounds(settings),
        images=image_rules(settings),
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

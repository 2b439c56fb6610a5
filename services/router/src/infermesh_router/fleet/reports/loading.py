"""Says how far the load of a model is, from the endpoints' reports."""

from collections.abc import Iterable

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.fleet.endpoint import Endpoint


def describe_loading(endpoints: Iterable[Endpoint], model: str) -> str:
    """ "loading qwen 62 %, 5 s left", of the load that is furthest; "" if no endpoint reports that it loads the model.

    Endpoints of earlier versions report no progress, and one that takes longer than expected no time.
    """
    reports = [each.last_report for each in endpoints if each.connected and each.last_report is not None]
    loads = [
        status
        for report in reports
        for status in report.models
        if status.name == model and status.state == pb.ENDPOINT_STATE_LOADING
    ]
    if not loads:
        return ""
    furthest = max(loads, key=lambda status: status.load_fraction)
    text = f"loading {model}"
    if furthest.HasField("load_fraction"):
        text += f" {100 * furthest.load_fraction:.0f} %"
    if furthest.HasField("load_left_s"):
        text += f", {max(1.0, furthest.load_left_s):.0f} s left"
    return text

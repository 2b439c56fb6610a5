"""Refuses a conversation with a base model before the model is loaded for it."""

from collections.abc import Iterable

from infermesh_router.fleet.endpoint import Endpoint
from infermesh_runtime.errors import FailedPrecondition


def refuse_base_model(endpoints: Iterable[Endpoint], model: str) -> None:
    """Raises FailedPrecondition if every endpoint that could load the model reports that it has no chat template."""
    reports = [each.last_report for each in endpoints if each.connected and each.last_report is not None]
    having = [available for report in reports for available in report.available if available.name == model]
    if having and all(each.HasField("has_chat_template") and not each.has_chat_template for each in having):
        raise FailedPrecondition(
            f"Model '{model}' has no chat template, so it is a base model. Ask it to continue a text instead, as "
            "/v1/completions does.",
            reason="NO_CHAT_TEMPLATE",
            fields={"chat": "the model has no chat template"},
        )

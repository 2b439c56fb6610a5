"""How `infermesh chat` samples where neither the user nor the model says."""

from infermesh.inference.v1 import inference_pb2
from infermesh_client.request import AnswerOptions

MAX_TOKENS = 1024
"""Longest answer of a model that does not say how long its answers may be, unless the user does."""
_FALLBACK = AnswerOptions(temperature=0.8, top_p=0.95, top_k=40, min_p=0.05)
"""llama.cpp's defaults: what models that say nothing answer well with."""


def chat_defaults(report: inference_pb2.HealthReport, model: str) -> AnswerOptions:
    """The options to send for this model: none of those that its makers give."""
    entry = next((entry for entry in report.available if entry.name == model), None)
    given = entry.defaults if entry is not None and entry.HasField("defaults") else None
    options = AnswerOptions() if given is not None and given.sampling.ListFields() else AnswerOptions(**_FALLBACK)
    if given is None or not given.HasField("max_tokens"):
        options["max_tokens"] = MAX_TOKENS
    return options

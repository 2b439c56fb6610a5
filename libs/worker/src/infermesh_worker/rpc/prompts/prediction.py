"""Reads the output that a client expects, which the engine tries as the next tokens."""

from infermesh.inference.v1.inference_pb2 import GenerateRequest
from infermesh_engine.runners.runner import RunnerInfo
from infermesh_runtime.chat_templates.control_tokens import Rendered
from infermesh_worker.models.opened_model import OpenedModel
from infermesh_worker.rpc.prompts.prompt import encode, invalid

_MOST_CHARACTERS = 8
"""Characters a token of the context that are tokenised; more are most likely beyond the context."""


async def read_prediction(request: GenerateRequest, model: OpenedModel, info: RunnerInfo) -> tuple[int, ...]:
    """The tokens of the expected output, at most as many as the context has; empty if there is none.

    A text is not tokenised for an engine that does not guess. Token ids are returned even then, to be validated.

    Raises InvalidArgument.
    """
    if not request.HasField("prediction"):
        return ()
    expected = request.prediction
    if bool(expected.text) == bool(expected.token_ids):
        raise invalid("prediction", "must set one of text and token_ids")
    context_length = info.context_length
    if expected.token_ids:
        return tuple(expected.token_ids[:context_length])
    if not info.checks_drafts:
        return ()
    most = min(_MOST_CHARACTERS, model.longest_token_chars) * (context_length - 1)
    token_ids = await encode(model, Rendered((expected.text[:most],)), context_length, add_special_tokens=False)
    return token_ids[:context_length]

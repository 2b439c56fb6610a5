"""Answers Tokenize and Detokenize: token ids of texts and conversations, and the text of token ids."""

import asyncio

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_engine.runners.runner import RunnerInfo
from infermesh_runtime.chat_templates.control_tokens import Rendered
from infermesh_worker.models.opened_model import OpenedModel
from infermesh_worker.rpc.prompts.prompt import THREAD_FROM_BYTES, encode, invalid, render_seen

_MOST_CONTEXTS = 16
"""How many contexts a text may be long to be tokenised."""


async def tokenize(request: pb.TokenizeRequest, model: OpenedModel, info: RunnerInfo) -> pb.TokenizeResponse:
    """The token ids of a prompt. Raises what Generate does for it; it may be longer than the context."""
    match request.WhichOneof("prompt"):
        case "text":
            text, adds = Rendered((request.text,)), True
        case "chat":
            (text, _), adds = await render_seen(request.chat, model, info.context_length), False
        case _:
            raise invalid("prompt", "must set one of text and chat")
    if request.HasField("add_special_tokens"):
        adds = request.add_special_tokens
    token_ids = await encode(model, text, _MOST_CONTEXTS * info.context_length, add_special_tokens=adds)
    names = (model.tokenizer.id_to_token(token_id) or "" for token_id in token_ids)
    return pb.TokenizeResponse(
        model=model.name,
        token_ids=token_ids,
        tokens=names if request.return_tokens else (),
        text=text.text,
        context_length=info.context_length,
    )


async def detokenize(request: pb.DetokenizeRequest, model: OpenedModel, info: RunnerInfo) -> pb.DetokenizeResponse:
    """The text of token ids. Raises InvalidArgument for one that is not in the vocabulary."""
    token_ids = list(request.token_ids)
    most = _MOST_CONTEXTS * info.context_length
    if len(token_ids) > most:
        raise invalid("token_ids", f"must be at most {most}, not {len(token_ids)}")
    wrong = next((index for index, token_id in enumerate(token_ids) if token_id >= info.vocab_size), None)
    if wrong is not None:
        raise invalid(f"token_ids[{wrong}]", f"is {token_ids[wrong]}, but ids must be below {info.vocab_size}")

    def decode() -> str:
        return str(model.tokenizer.decode(token_ids, skip_special_tokens=False))

    text = await asyncio.to_thread(decode) if len(token_ids) >= THREAD_FROM_BYTES else decode()
    return pb.DetokenizeResponse(model=model.name, text=text)

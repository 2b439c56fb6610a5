"""A call that names no model goes to the only one of its kind."""

from collections.abc import Callable

import pytest
from google.protobuf.message import Message

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.requests.call import Call
from infermesh_router.requests.kinds.generate import read_generate
from infermesh_router.requests.kinds.sound import read_speak, read_transcribe
from infermesh_router.requests.kinds.tensors import read_infer
from infermesh_router.requests.kinds.texts import read_embed, read_score
from infermesh_router.requests.kinds.tokens import read_tokenize
from infermesh_router.requests.unnamed import name_model
from infermesh_runtime.manifest.model_kind import ModelKind

ONLY: dict[ModelKind, str] = {
    "generate": "chat",
    "embed": "vectors",
    "infer": "tensors",
    "transcribe": "ears",
    "speak": "mouth",
}


@pytest.mark.parametrize(
    ("read", "request_", "model"),
    [
        (read_generate, pb.GenerateRequest(text="a"), "chat"),
        (read_tokenize, pb.TokenizeRequest(text="a"), "chat"),
        (read_embed, pb.EmbedRequest(texts=["a"]), "vectors"),
        (read_embed, pb.EmbedRequest(texts=["a"], model="other"), "other"),
        (read_infer, pb.InferRequest(), "tensors"),
        (read_transcribe, pb.TranscribeRequest(audio=b"a"), "ears"),
        (read_speak, pb.SpeakRequest(text="a"), "mouth"),
        (read_score, pb.ScoreRequest(texts=["a"]), ""),
    ],
)
def test_the_only_model_of_the_kind(read: Callable[[bytes], Call], request_: Message, model: str) -> None:
    call = read(request_.SerializeToString())
    assert name_model(call, lambda kind: ONLY.get(kind, "")).wanted.model == model

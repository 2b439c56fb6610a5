"""A call that names no model goes to the only one of its kind."""

from collections.abc import Callable

import pytest
from google.protobuf.message import Message

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.api.only_model import name_only_model
from infermesh_router.requests.call import Call, read_embed, read_generate, read_score, read_tokenize

REPORT = pb.HealthReport(
    models=[
        pb.ModelStatus(name="chat"),
        pb.ModelStatus(name="vectors", kind=pb.MODEL_KIND_EMBED),
        pb.ModelStatus(name="one", kind=pb.MODEL_KIND_RERANK),
        pb.ModelStatus(name="two", kind=pb.MODEL_KIND_RERANK),
    ]
)


@pytest.mark.parametrize(
    ("read", "request_", "model"),
    [
        (read_generate, pb.GenerateRequest(text="a"), "chat"),
        (read_tokenize, pb.TokenizeRequest(text="a"), "chat"),
        (read_embed, pb.EmbedRequest(texts=["a"]), "vectors"),
        (read_embed, pb.EmbedRequest(texts=["a"], model="other"), "other"),
        (read_score, pb.ScoreRequest(texts=["a"]), ""),
    ],
)
def test_the_only_model_of_the_kind(read: Callable[[bytes], Call], request_: Message, model: str) -> None:
    assert name_only_model(read(request_.SerializeToString()), lambda: REPORT).wanted.model == model

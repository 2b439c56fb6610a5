"""A call that names no model goes to the only one of its kind."""

import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.requests.call import Call, read_embed, read_generate, read_infer, read_score, read_tokenize
from infermesh_router.requests.unnamed import name_model
from infermesh_runtime.model_kind import ModelKind

ONLY: dict[ModelKind, str] = {"generate": "chat", "embed": "vectors", "infer": "tensors"}


@pytest.mark.parametrize(
    ("call", "model"),
    [
        (read_generate(pb.GenerateRequest(text="a").SerializeToString()), "chat"),
        (read_tokenize(pb.TokenizeRequest(text="a").SerializeToString()), "chat"),
        (read_embed(pb.EmbedRequest(texts=["a"]).SerializeToString()), "vectors"),
        (read_embed(pb.EmbedRequest(texts=["a"], model="other").SerializeToString()), "other"),
        (read_infer(pb.InferRequest().SerializeToString()), "tensors"),
        (read_score(pb.ScoreRequest(texts=["a"]).SerializeToString()), ""),
    ],
)
def test_the_only_model_of_the_kind(call: Call, model: str) -> None:
    assert name_model(call, lambda kind: ONLY.get(kind, "")).wanted.model == model

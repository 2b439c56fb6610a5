"""A call that names no model goes to the only one of its kind."""

import pytest

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
    ("call", "model"),
    [
        (read_generate(pb.GenerateRequest(text="a").SerializeToString()), "chat"),
        (read_tokenize(pb.TokenizeRequest(text="a").SerializeToString()), "chat"),
        (read_embed(pb.EmbedRequest(texts=["a"]).SerializeToString()), "vectors"),
        (read_embed(pb.EmbedRequest(texts=["a"], model="other").SerializeToString()), "other"),
        (read_score(pb.ScoreRequest(texts=["a"]).SerializeToString()), ""),
    ],
)
def test_the_only_model_of_the_kind(call: Call, model: str) -> None:
    assert name_only_model(call, lambda: REPORT).wanted.model == model

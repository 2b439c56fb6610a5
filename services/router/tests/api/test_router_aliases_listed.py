"""Aliases are listed as models wherever their models can answer, loaded or not."""

import time

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.api.aggregate import combine_reports
from infermesh_router.fleet.endpoint import Endpoint
from infermesh_router.openai.models import find_model, list_models

READY = pb.ENDPOINT_STATE_READY


async def test_alias_to_a_model_that_is_only_on_disk_is_listed() -> None:
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        endpoint = Endpoint("127.0.0.1:1", channel, clock=time.monotonic, notify=lambda: None)
        endpoint.note_report(
            pb.HealthReport(
                state=READY,
                models=[pb.ModelStatus(name="loaded", state=READY, context_length=8)],
                available=[
                    pb.AvailableModel(name="large", context_length=16, memory_bytes=9, size_bytes=8),
                    pb.AvailableModel(name="loaded", context_length=8, memory_bytes=5),
                    pb.AvailableModel(name="small", context_length=4, memory_bytes=2, size_bytes=1),
                ],
            )
        )
        report = combine_reports(
            [endpoint],
            version="1",
            started_at=Timestamp(),
            aliases={"disk": ["large", "small"], "hot": ["loaded"], "gone": ["nowhere"], "small": ["large"]},
        )
    listed = [model["id"] for model in list_models(report)["data"]]
    assert listed == ["disk", "hot", "large", "loaded", "small"]
    assert find_model(report, "disk")["max_model_len"] == 4
    assert find_model(report, "small")["max_model_len"] == 16  # the alias, which hides the model of that name
    (disk,) = [model for model in report.available if model.name == "disk"]
    assert (disk.memory_bytes, disk.size_bytes) == (2, 1)

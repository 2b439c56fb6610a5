"""What the events hold is what Envoy's transcoder writes of the same messages."""

from google.protobuf.json_format import MessageToDict

from infermesh.mesh.v1 import mesh_pb2 as pb
from infermesh_router.mesh.json_values import to_json


def expected(message: pb.Endpoint | pb.Receipt) -> object:
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def test_empty_messages_have_their_zeros() -> None:
    assert to_json(pb.Endpoint()) == expected(pb.Endpoint())
    assert to_json(pb.Receipt()) == expected(pb.Receipt())


def test_full_messages() -> None:
    endpoint = pb.Endpoint(address="h:1", choices={"equal": 3}, device=pb.Device(kind="cpu", memory_total_bytes=2.5e10))
    endpoint.models.add(name="m", load_fraction=0, voices=["a", "b"])
    endpoint.available.add(name="m", pinned=True)
    endpoint.started_at.FromMilliseconds(1_795_755_017_123)
    assert to_json(endpoint) == expected(endpoint)
    assert to_json(endpoint)["models"][0]["load_fraction"] == 0
    assert "load_left_s" not in to_json(endpoint)["models"][0]
    receipt = pb.Receipt(seed=2**63, runners_up=[pb.Candidate(endpoint="h:2", score=1)], others=[pb.Receipt(model="m")])
    assert to_json(receipt) == expected(receipt)

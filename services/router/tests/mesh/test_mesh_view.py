"""Endpoints keep their names while they start again."""

from dataclasses import dataclass

from infermesh.admin.v1 import admin_pb2 as admin
from infermesh.inference.v1 import inference_pb2 as inference
from infermesh_router.fleet.changes import Changes
from infermesh_router.mesh.view import MeshView
from infermesh_router.mesh.viewer import Viewer

CPU = inference.HealthReport(
    state=inference.ENDPOINT_STATE_READY, device=inference.Device(kind=inference.DEVICE_KIND_CPU)
)


@dataclass
class Listed:
    """A listing that the test writes."""

    endpoints: list[admin.Endpoint]

    async def of_all(self) -> admin.ListEndpointsResponse:
        return admin.ListEndpointsResponse(endpoints=self.endpoints)


async def test_one_that_comes_back_has_its_name_before_it_reports() -> None:
    listed = Listed([admin.Endpoint(address=address, connected=True, report=CPU) for address in ("h:1", "h:2")])
    view = MeshView(listed, changes=Changes(), queue_limit=lambda _model: 7)  # type: ignore[arg-type]

    async def told() -> list[tuple[str, str]]:
        return [(each.name, each.state) for each in await view.endpoints(Viewer(None, manages=True))]

    assert await told() == [("cpu:0", "ready"), ("cpu:1", "ready")]
    del listed.endpoints[0]  # its registration ended
    assert await told() == [("cpu", "ready")]
    listed.endpoints[:0] = [admin.Endpoint(address="h:1")]
    assert await told() == [("cpu:0", "unknown"), ("cpu:1", "ready")]
    listed.endpoints[0] = admin.Endpoint(address="h:3")
    assert await told() == [("unknown", "unknown"), ("cpu", "ready")]

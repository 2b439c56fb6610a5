"""Each request of a batch has a receipt of its own, under the id that the file of answers tells."""

from pathlib import Path

from infermesh.mesh.v1 import mesh_pb2 as pb
from infermesh_router.testing.batches import answers, create, ended, line, upload
from infermesh_router.testing.router import StartRouter, StartWorker


async def test_requests_of_a_batch(start_worker: StartWorker, start_router: StartRouter, tmp_path: Path) -> None:
    router = await start_router(await start_worker(), batches_store=str(tmp_path / "b"))
    made = await create(router, await upload(router, [line("a"), line("b")]))
    told = await answers(router, (await ended(router, made["id"]))["output_file_id"])
    for name in ("a", "b"):
        request_id = told[name]["response"]["request_id"]
        receipt = await router.mesh.GetReceipt(pb.GetReceiptRequest(request_id=request_id))
        assert (receipt.request_id, receipt.status, receipt.completion_tokens) == (request_id, "OK", 2)
        assert not receipt.others

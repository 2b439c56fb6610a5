"""Speech has receipts as chats do: who answered, why, and how long its first part took."""

import httpx
from google.api.httpbody_pb2 import HttpBody

from infermesh.inference.v1 import inference_pb2
from infermesh.mesh.v1 import mesh_pb2 as pb
from infermesh_router.testing.router import StartRouter
from infermesh_router.testing.speech import StartSpeech


async def test_a_transcript_has_a_receipt(start_speech: StartSpeech, start_router: StartRouter) -> None:
    worker = await start_speech()
    router = await start_router(worker)
    call = router.inference.Transcribe(inference_pb2.TranscribeRequest(model="ears", audio=b"sound"))
    async for _ in call:
        pass
    (receipt,) = (await router.mesh.ListReceipts(pb.ListReceiptsRequest())).receipts
    assert (receipt.call, receipt.model, receipt.status) == ("Transcribe", "ears", "OK")
    assert (receipt.endpoint, receipt.device, receipt.reason) == (worker.address, "cpu", "only_endpoint")
    assert 0 < receipt.first_token_ms <= receipt.total_ms
    assert (receipt.prompt_tokens, receipt.completion_tokens) == (1, 8)


async def test_its_receipt_names_the_fields_without_an_effect(
    start_speech: StartSpeech, start_router: StartRouter
) -> None:
    router = await start_router(await start_speech())
    form = httpx.Request("POST", "http://x", data={"model": "ears", "colour": "red"}, files={"file": ("a.wav", b"s")})
    body = HttpBody(content_type=form.headers["content-type"], data=form.read())
    async for _ in router.openai.CreateTranscription(body):
        pass
    (receipt,) = (await router.mesh.ListReceipts(pb.ListReceiptsRequest())).receipts
    assert (receipt.call, receipt.status, receipt.ignored_fields) == ("Transcribe", "OK", ["colour"])

"""A worker whose models take images: what it reports, what it answers, and what it refuses."""

import io

import grpc
import pytest
from PIL import Image

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1.inference_pb2_grpc import InferenceServiceStub
from infermesh_worker.testing.processes import connected, simulated_worker_process


def picture(colour: int) -> bytes:
    out = io.BytesIO()
    Image.effect_noise((60, 40), colour).convert("RGB").save(out, "PNG")
    return out.getvalue()


async def ask(stub: InferenceServiceStub, *parts: str | bytes) -> tuple[pb.Started, pb.Usage]:
    made = [pb.ContentPart(text=p) if isinstance(p, str) else pb.ContentPart(image=pb.Image(data=p)) for p in parts]
    request = pb.GenerateRequest(
        chat=pb.ChatPrompt(messages=[pb.ChatMessage(role="user", parts=made)]),
        prompt_options=pb.PromptOptions(return_text=True),
        text_options=pb.TextOptions(keep_special_tokens=True),
        stop=pb.StopConditions(max_tokens=3),
    )
    events = [event async for event in stub.Generate(request, timeout=30)]
    return events[0].started, events[-1].finished.usage


async def test_images_of_a_conversation() -> None:
    async with simulated_worker_process(sim_images=True, sim_itl_s=0, sim_slope_s=0) as process:
        await process.ready()
        async with connected(process) as stubs:
            assert [model.takes_images for model in (await stubs.report()).available] == [True]
            text = "a long enough text before it"
            started, usage = await ask(stubs.inference, text, picture(90), "b")
            image = "<|endoftext|>" * 4
            assert started.prompt_text == f"<|im_start|>user\n{text}{image}b<|im_end|>\n<|im_start|>assistant\n"
            assert usage.cached_tokens == 0
            cut_short = picture(90)[:-200]
            with pytest.raises(grpc.aio.AioRpcError, match=r"chat.messages\[0\].parts\[0\]: the image cannot be read"):
                await ask(stubs.inference, cut_short, "b")


async def test_a_model_that_takes_none_names_the_part() -> None:
    async with simulated_worker_process() as process:
        await process.ready()
        async with connected(process) as stubs:
            assert [model.takes_images for model in (await stubs.report()).available] == [False]
            problem = r"chat.messages\[0\].parts\[1\]: this model takes no images"
            with pytest.raises(grpc.aio.AioRpcError, match=problem) as caught:
                await ask(stubs.inference, "a", picture(90))
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT

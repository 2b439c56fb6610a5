"""Reads the images of a conversation: refuses those that the model cannot take, and finds what stands for each."""

import asyncio

from infermesh.inference.v1.inference_pb2 import ChatMessage, ChatPrompt, Image
from infermesh_runtime.chat_templates.control_tokens import Rendered
from infermesh_runtime.errors import InvalidArgument
from infermesh_worker.images.reader import ImageReader, MeasuredImage
from infermesh_worker.models.opened_model import OpenedModel

MAX_IMAGES = 64
MAX_IMAGE_BYTES = 128 << 20
"""Most bytes of all images of a request together; they reach the engine process in one frame."""
_DETAILS = ("", "auto", "low", "high")


def content_parts(message: ChatMessage, field: str) -> list[str | None]:
    """The parts of a message as templates take them: texts, and None for each image. Raises InvalidArgument."""
    if message.content or message.content_parts:
        raise _invalid(f"{field}.parts", "must be empty when content or content_parts is set")
    parts: list[str | None] = []
    for index, part in enumerate(message.parts):
        kind = part.WhichOneof("part")
        if kind is None or (kind == "text" and not part.text):
            raise _invalid(f"{field}.parts[{index}]", "must have a text that is not empty, or an image")
        parts.append(part.text if kind == "text" else None)
    return parts


async def measure_images(chat: ChatPrompt, model: OpenedModel) -> list[MeasuredImage]:
    """The images of a conversation, in order. Raises InvalidArgument that names the part that cannot be taken."""
    found = [
        (f"chat.messages[{i}].parts[{j}]", part.image)
        for i, message in enumerate(chat.messages)
        for j, part in enumerate(message.parts)
        if part.HasField("image")
    ]
    if not found:
        return []
    reader = model.images
    if reader is None:
        raise _invalid(found[0][0], model.why_no_images)
    if len(found) > MAX_IMAGES:
        raise _invalid(found[MAX_IMAGES][0], f"at most {MAX_IMAGES} images are accepted, got {len(found)}")
    if sum(len(image.data) for _, image in found) > MAX_IMAGE_BYTES:
        raise _invalid("chat.messages", f"its images have more than {MAX_IMAGE_BYTES >> 20} MiB together")
    return await asyncio.to_thread(lambda: [_measure(reader, *each) for each in found])


def show_images(prompt: Rendered, images: list[MeasuredImage], model: OpenedModel) -> Rendered:
    """A rendered conversation with the tokens of its images. Raises InvalidArgument."""
    if model.images is None or not images:
        return prompt
    controls = model.chat_template.control_tokens if model.chat_template is not None else ()
    try:
        return model.images.expand(prompt, images, controls)
    except InvalidArgument as error:
        raise _invalid("chat.messages", error.message) from error


def _measure(reader: ImageReader, field: str, image: Image) -> MeasuredImage:
    if image.detail not in _DETAILS:
        raise _invalid(f"{field}.image.detail", f"must be one of low, high and auto, not {image.detail!r}")
    try:
        return reader.measure(image.data, closely=image.detail != "low", field=field)
    except InvalidArgument as error:
        raise _invalid(field, error.message) from error


def _invalid(field: str, problem: str) -> InvalidArgument:
    return InvalidArgument(f"{field}: {problem}", fields={field: problem})

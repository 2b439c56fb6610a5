"""/v1/files and /v1/batches with the unmodified `openai` package, through the real Envoy."""

import json
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types import Batch

from tests.e2e.mesh import MODEL, Mesh

pytestmark = pytest.mark.timeout(120)

ASKED = "Name a colour."
LOOK_AGAIN_S = 0.05


@pytest.fixture
def client(mesh: Mesh) -> Iterator[openai.OpenAI]:
    with mesh.openai() as opened:
        yield opened


def body(**fields: Any) -> dict[str, Any]:
    return {
        "model": MODEL,
        "messages": [{"role": "user", "content": ASKED}],
        "max_tokens": 6,
        "temperature": 0,
    } | fields


def ended(client: openai.OpenAI, batch: Batch) -> Batch:
    """The batch, once it has ended: its clients have no other way than to look again."""
    while batch.status in ("validating", "in_progress", "finalizing"):
        time.sleep(LOOK_AGAIN_S)
        batch = client.batches.retrieve(batch.id)
    return batch


def test_a_batch_answers_as_the_chat_does(client: openai.OpenAI) -> None:
    lines = [
        {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": asked}
        for name, asked in {"good": body(), "odd": body(top_p=7)}.items()
    ]
    text = "\n".join(map(json.dumps, lines)).encode()
    file = client.files.create(file=("asked.jsonl", text), purpose="batch")
    assert (file.bytes, file.filename, client.files.content(file.id).content) == (len(text), "asked.jsonl", text)
    made = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"a": "b"}
    )
    batch = ended(client, made)
    assert (batch.status, batch.metadata) == ("completed", {"a": "b"})
    assert batch.request_counts is not None
    assert (batch.request_counts.completed, batch.request_counts.failed) == (1, 1)
    (answer,) = map(json.loads, client.files.content(batch.output_file_id or "").text.splitlines())
    expected = client.chat.completions.create(**body()).choices[0].message.content
    assert answer["response"]["body"]["choices"][0]["message"]["content"] == expected
    (error,) = map(json.loads, client.files.content(batch.error_file_id or "").text.splitlines())
    assert (error["custom_id"], error["response"]["body"]["error"]["param"]) == ("odd", "top_p")
    assert client.batches.cancel(batch.id).status == "completed"
    assert batch.id in [each.id for each in client.batches.list(limit=1)]
    assert {file.id, batch.output_file_id} <= {each.id for each in client.files.list(purpose=openai.omit)}
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)


def test_what_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.files.create(file=("a.txt", b"x"), purpose="assistants")
    assert caught.value.param == "purpose"
    with pytest.raises(openai.NotFoundError):
        client.batches.retrieve("batch_unknown")

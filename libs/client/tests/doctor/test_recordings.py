"""The recordings that come with the command."""

import pytest

from infermesh_client.doctor.dialects import dialect_of
from infermesh_client.doctor.fields import list_fields
from infermesh_client.doctor.recording import client_names, load_recording


def test_the_clients_of_the_issue_are_there() -> None:
    wanted = {"openai", "openai-node", "pydantic-ai", "openai-agents", "llama-index", "langchain-openai", "litellm"}
    wanted |= {"instructor", "vercel-ai-sdk", "lm-eval", "anthropic", "ollama"}
    assert wanted <= set(client_names())


@pytest.mark.parametrize("client", client_names())
def test_a_recording_is_one(client: str) -> None:
    recording = load_recording(client)
    assert recording.client == client
    assert recording.version
    assert all(source.startswith("https://") for source in recording.sources)
    assert bool(recording.sources) == (recording.package == "published sources")
    titles = [request.title for request in recording.requests]
    assert len(set(titles)) == len(titles) > 0
    for request in recording.requests:
        assert (request.method == "GET") == (request.body is None)
        if request.body is not None:
            assert dialect_of(request.path).required <= request.body.keys()
            named = {*request.expected.ignored, *request.expected.refused}
            assert named <= list_fields(request.body).keys()

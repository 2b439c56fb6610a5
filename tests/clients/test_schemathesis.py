"""schemathesis against /openapi.json: no 5xx, no hang, no status and no shape of errors that the description lacks."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.clients.running import MODEL

pytestmark = pytest.mark.timeout(240)

RUN_S = 90
"""How long schemathesis sends requests; it ends a little later."""
LONGEST_ANSWER_S = 30
SHORT: dict[str, Any] = {"type": "integer", "const": 3}
"""The same in all fields, since two of them must not differ."""
PINNED: dict[str, dict[str, Any]] = {
    "model": {"type": "string", "const": MODEL},
    "max_tokens": SHORT,
    "max_completion_tokens": SHORT,
    "n": {"type": "integer", "minimum": 1, "maximum": 2},
    "best_of": {"type": "integer", "const": 2},
    "deadline_ms": {"type": "integer", "minimum": 20_000, "maximum": 60_000},
    "max_output_tokens": SHORT,
    "options": {"type": "object", "required": ["num_predict"], "properties": {"num_predict": SHORT}},
    "keep_alive": {"enum": ["5m", "1h30m", 300]},
}
"""Fields whose values are chosen here: so that requests reach the model, it stays loaded, and answers are short."""
REQUIRED = {"model", "max_tokens", "max_completion_tokens", "max_output_tokens", "options"}
BODIES = (
    *("ChatRequest", "CompletionRequest", "ResponseRequest", "TokenizeText", "TokenizeChat", "DetokenizeBody"),
    *("AnthropicMessagesBody", "AnthropicCountBody", "OllamaChatBody", "OllamaGenerateBody", "OllamaNamedModel"),
)
CHECKS = [f"{what}_conformance" for what in ("status_code", "content_type", "response_schema")] + ["not_a_server_error"]
CONFIG = """
[[operations]]
include-path-regex = "^/api/(pull|push|create|copy|delete|blobs/{digest})$"
checks.not_a_server_error.expected-statuses = ["2xx", "4xx", "501"]
"""
"""Calls of Ollama's API that a mesh does not offer answer 501, and say what to use instead."""


@pytest.fixture(scope="module")
def description(mesh_url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mesh's description, with the fields pinned."""
    document = httpx.get(f"{mesh_url}/openapi.json").raise_for_status().json()
    for name in BODIES:
        schema = document["components"]["schemas"][name]
        pinned = PINNED.keys() & schema["properties"].keys()
        schema["properties"].update({field: PINNED[field] for field in pinned})
        required = {*schema.get("required", ()), *(pinned & REQUIRED)}
        schema["required"] = sorted(required)
    path = tmp_path_factory.mktemp("openapi") / "openapi.json"
    path.write_text(json.dumps(document))
    return path


def test_every_answer_is_as_described(description: Path, mesh_url: str) -> None:
    config = description.with_name("schemathesis.toml")
    config.write_text(CONFIG)
    command = [str(Path(sys.executable).with_name("st")), "--config-file", str(config), "run", str(description)]
    command += ["--url", mesh_url]
    command += ["--checks", ",".join(CHECKS)]
    command += ["--request-timeout", str(LONGEST_ANSWER_S), "--max-time", str(RUN_S), "--seed", "1", "--no-shrink"]
    command += ["--phases", "coverage,fuzzing", "--continue-on-failure", "--no-color"]
    done = subprocess.run(command, cwd=description.parent, capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr

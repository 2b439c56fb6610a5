"""A Node client calls the native services through Envoy with nothing but the .proto files."""

import json
import subprocess
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.e2e.mesh import Mesh

pytestmark = pytest.mark.timeout(180)

FOLDER = Path(__file__).parent / "node"
PROTOS = Path(__file__).parents[2] / "protos"
MODEL = "smollm2-135m-instruct"
NOT_FOUND, INVALID_ARGUMENT, CANCELLED = 5, 3, 1


@pytest.fixture(scope="module")
def installed() -> None:
    """Installs what package-lock.json names, again only when it changes."""
    lock, mark = FOLDER / "package-lock.json", FOLDER / "node_modules" / ".package-lock.json"
    if not mark.exists() or mark.stat().st_mtime < lock.stat().st_mtime:
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=FOLDER, check=True, timeout=150)
        mark.touch()


@pytest.fixture(scope="module")
def answers(mesh: Mesh, installed: None) -> dict[str, Any]:
    command = ["node", "client.mjs", mesh.envoy.grpc, str(PROTOS), MODEL, mesh.admin]
    done = subprocess.run(command, cwd=FOLDER, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def text_of(events: list[dict[str, Any]]) -> str:
    return "".join(event["delta"]["text"] for event in events if event["event"] == "delta")


def test_health_and_endpoints(answers: dict[str, Any], mesh: Mesh) -> None:
    assert answers["health"]["state"] == "ENDPOINT_STATE_READY"
    assert [model["name"] for model in answers["health"]["models"]] == [MODEL]
    assert [endpoint["address"] for endpoint in answers["endpoints"]] == [mesh.workers[0].address]


@pytest.mark.parametrize("prompt", ["text", "chat", "tokens"])
def test_generate(answers: dict[str, Any], prompt: str) -> None:
    events = answers[prompt]
    assert [events[0]["event"], events[-1]["event"]] == ["started", "finished"]
    assert events[0]["started"]["device"] == "DEVICE_KIND_CPU"
    assert events[-1]["finished"]["finish_reason"] == "FINISH_REASON_LENGTH"
    assert events[-1]["finished"]["usage"]["completion_tokens"] == 8
    assert text_of(events)


def test_same_tokens_as_the_openai_client(answers: dict[str, Any], client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model=MODEL, prompt="One, two, three,", max_tokens=8, temperature=0, extra_body={"ignore_eos": True}
    )
    assert text_of(answers["text"]) == answer.choices[0].text


def test_errors_have_code_and_details(answers: dict[str, Any]) -> None:
    assert answers["unknownModel"]["code"] == NOT_FOUND
    assert "nobody" in answers["unknownModel"]["details"]
    assert answers["badTemperature"]["code"] == INVALID_ARGUMENT
    assert answers["badTemperature"]["hasDetails"] == 1


def test_cancel(answers: dict[str, Any]) -> None:
    assert answers["cancelled"] == {"code": CANCELLED, "seen": 3}

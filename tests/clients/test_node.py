"""The Node openai package and Vercel's AI SDK."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.clients.running import MODEL

FOLDER = Path(__file__).parent / "node"


def install() -> None:
    """Installs what package-lock.json names, again only when it changes."""
    lock, mark = FOLDER / "package-lock.json", FOLDER / "node_modules" / ".package-lock.json"
    if not mark.exists() or mark.stat().st_mtime < lock.stat().st_mtime:
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=FOLDER, check=True, timeout=150)
        mark.touch()


@pytest.fixture(scope="module")
def answers(mesh_url: str) -> dict[str, Any]:
    install()
    command = ["node", "calls.mjs", mesh_url, mesh_url, MODEL]
    done = subprocess.run(command, cwd=FOLDER, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_openai_answers(answers: dict[str, Any]) -> None:
    found = answers["openai"]
    assert MODEL in found["models"]
    assert found["model"] == MODEL
    assert found["chat"] == found["streamed"] == found["helper"] != ""
    assert found["completion"] == found["completionStreamed"] != ""
    assert set(found["parsed"]) == {"name", "warm"}
    assert len(found["choices"]) == 2


def test_openai_errors(answers: dict[str, Any]) -> None:
    found = answers["openai"]
    assert found["unknownModel"] == ["NotFoundError", 404, "model"]
    assert found["badField"] == ["BadRequestError", 400, "temperature"]
    assert found["timeout"][0] == "APIConnectionTimeoutError"
    assert found["aborted"] is True


def test_ai_sdk(answers: dict[str, Any]) -> None:
    found = answers["ai"]
    assert found["text"] == found["streamed"] == answers["openai"]["chat"]
    assert found["usage"] == found["streamedUsage"] > 0
    assert set(found["object"]) == set(found["streamedObject"]) == {"name", "warm"}
    assert found["completion"]
    assert found["unknownModel"][:2] == ["AI_APICallError", 404] or found["unknownModel"][:2] == ["APICallError", 404]

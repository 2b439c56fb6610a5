"""Records what the clients for Node ask: `python -m tests.clients.node_recordings [FOLDER]` with their packages."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.conformance.recording.record import document, write
from tests.conformance.recording.server import recording_server

FOLDER = Path(__file__).parent / "node"
PACKAGES = {"openai-node": "openai", "vercel-ai-sdk": "@ai-sdk/openai-compatible"}
"""Names of clients, and their packages."""


def record_node(folder: Path = FOLDER) -> list[dict[str, Any]]:
    """The recordings of all of them; `folder` has the packages in node_modules."""
    script = (FOLDER / "recorded_calls.mjs").read_text(encoding="utf-8")
    with recording_server() as server:
        command = ["node", "--input-type=module", "-", server.url]
        done = subprocess.run(
            command, cwd=folder, input=script, capture_output=True, text=True, check=False, timeout=120
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        versions = json.loads(done.stdout.splitlines()[-1])
        return [document(name, package, versions[package], server.requests[name]) for name, package in PACKAGES.items()]


def main() -> None:
    for recording in record_node(*map(Path, sys.argv[1:])):
        write(recording)


if __name__ == "__main__":
    main()

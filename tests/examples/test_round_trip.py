"""Text to speech and back, by the examples, as a user runs them: Kokoro speaks, Whisper writes down."""

import asyncio
import re
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
TEXT = "The quick brown fox jumps over the lazy dog. Ask not what your country can do for you."

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]


async def run(name: str, *arguments: object) -> str:
    """What an example prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, EXAMPLES / name, *map(str, arguments), stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    return printed.decode()


def words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


@pytest.mark.parametrize("voice", ["af_heart", "bm_george+bf_emma"])
async def test_what_is_spoken_is_understood(voice: str, endpoint: str, tmp_path: Path) -> None:
    spoken = tmp_path / "spoken.wav"
    printed = await run("speak.py", TEXT, "--output", spoken, "--voice", voice, "--endpoint", endpoint)
    assert printed.endswith(f"s of speech are in {spoken}\n")
    heard = await run("transcribe.py", spoken, "--language", "en", "--endpoint", endpoint)
    assert words(" ".join(line.split(" s  ")[-1] for line in heard.splitlines())) == words(TEXT)

"""The examples, run as a user runs them, with real models on a real worker."""

import asyncio
import sys
from pathlib import Path

import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]


async def run(name: str, *arguments: object) -> list[str]:
    """The lines that an example prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, EXAMPLES / name, *map(str, arguments), stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    return printed.decode().splitlines()


async def test_people_are_found_in_a_photograph(endpoint: str, tmp_path: Path) -> None:
    photo, drawn = EXAMPLES / "data" / "parkour.jpg", tmp_path / "boxes.png"
    lines = await run("detect.py", photo, "--output", drawn, "--endpoint", endpoint)
    assert len(lines) == 2
    assert all(line.startswith("person") for line in lines)
    before, after = Image.open(photo).convert("RGB"), Image.open(drawn)
    assert after.size == before.size
    red = sum(count for count, colour in after.getcolors(1 << 24) or () if colour == (255, 0, 0))
    assert red > 1000


async def test_a_photographed_page_is_read(endpoint: str) -> None:
    lines = await run("read_text.py", EXAMPLES / "data" / "page.png", "--endpoint", endpoint)
    words = " ".join(lines).lower()
    for word in ("segmentation", "markers", "coins", "background", "histogram"):
        assert word in words


async def test_speech_is_found_in_a_recording(endpoint: str) -> None:
    lines = await run("find_speech.py", EXAMPLES / "data" / "twice.wav", "--endpoint", endpoint)
    begins = [float(line.split()[0]) for line in lines]
    assert len(begins) == 2
    assert begins[0] == pytest.approx(0.45, abs=0.1)
    assert begins[1] == pytest.approx(0.45 + 0.66 + 0.6, abs=0.1)


async def test_a_recording_is_written_down(endpoint: str) -> None:
    lines = await run("transcribe.py", EXAMPLES / "data" / "jfk.mp3", "--endpoint", endpoint)
    said = " ".join(line.partition(" s  ")[2] for line in lines)
    assert "ask not what your country can do for you, ask what you can do for your country." in said
    words = await run("transcribe.py", EXAMPLES / "data" / "jfk.mp3", "--words", "--endpoint", endpoint)
    begins = [float(line.split()[0]) for line in words]
    assert len(words) > 15
    assert begins == sorted(begins)

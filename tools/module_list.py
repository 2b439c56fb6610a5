"""Writes docs/modules.md, a list of every module with its first line, or checks that it is up to date (--check)."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "modules.md"
HEADING = """# Modules

`make modules` makes this page from the first line of each module. ARCHITECTURE.md shows how the rooms fit together.

"""


def first_line(path: Path) -> str:
    """The first sentence of a module's docstring, without its full stop."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.splitlines()[0].rstrip(".") if docstring else ""


def listed() -> str:
    """The whole page: a section for each folder, a line for each module."""
    ours = ("libs/*/src/*.py", "services/*/src/*.py", "deploy/*/src/*.py")
    command = ["git", "ls-files", *ours]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    folders: dict[Path, list[str]] = {}
    for path in sorted({Path(name) for name in names if (ROOT / name).exists()}):
        if line := first_line(ROOT / path):
            folders.setdefault(path.parent, []).append(f"- `{path.name}` — {line}")
    sections = (f"## {folder}\n\n" + "\n".join(lines) for folder, lines in folders.items())
    return HEADING + "\n\n".join(sections) + "\n"


def main() -> int:
    fresh = listed()
    if "--check" not in sys.argv:
        PAGE.write_text(fresh, encoding="utf-8")
        return 0
    current = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    if current != fresh:
        print("docs/modules.md is out of date; run `make modules`", file=sys.stderr)
    return int(current != fresh)


if __name__ == "__main__":
    sys.exit(main())

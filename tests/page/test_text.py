"""How answers are drawn: long code, formulas, lists of tasks, and what is copied of them."""

import pytest
from playwright.sync_api import expect

from tests.page.pages import ChatPage, check_accessible, copying
from tests.page.scripted import answer_with

LINES = 3000
CODE = "".join(f"    line_{i} = compute(value={i}, other={i * 7})\n" for i in range(LINES))
MATH = r"""Here \(a_1 * b_2\) and $E = mc^2$ cost $5 and $10, see `$HOME`:

$$
\sum_{i=1}^{n} i = \frac{n(n+1)}{2}
$$

So
\[ x = \frac{-b \pm \sqrt{b^2-4ac}}{2a} \]

and $\notamacro{x}$ with $\href{javascript:window.pwned=1}{x}$.
"""
BROKEN_MATH = (
    "\\[ " * 2000 + "$" * 2000 + "\\( x <img src=x onerror='window.pwned = 2'> \\) $<script>window.pwned = 3</script>$"
)
MOVED = """async (text) => {
  const { MarkdownView } = await import(new URL("lib/markdown.js", document.baseURI + "ui/"));
  const root = document.createElement("div");
  document.body.append(root);
  new MarkdownView(root).update(text, [{ offset: 12, label: "moved to xpu" }], true);
  root.querySelector("figure.code button").click();
  return root.querySelectorAll("pre .moved").length;
}"""


def copied(chat: ChatPage) -> str:
    text: str = chat.page.evaluate("navigator.clipboard.readText()")
    return text


@pytest.fixture
def clipboard(scripted: ChatPage) -> ChatPage:
    """A scripted chat that may read what it copied."""
    scripted.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    return scripted


def test_three_thousand_lines_of_code_are_code(clipboard: ChatPage) -> None:
    text = f"Here it is:\n\n```python\n{CODE}```\n\nAfter it."
    answer_with(clipboard, [text[i : i + 60] for i in range(0, len(text), 60)], every_ms=0.5)
    expect(clipboard.last).to_have_attribute("aria-busy", "false")
    expect(clipboard.last.locator("figure.code")).to_have_count(1)
    expect(clipboard.last.locator(".text .block").last).to_have_text("After it.")
    with copying(clipboard.page):
        clipboard.last.get_by_role("button", name="Copy", exact=True).click()
    assert copied(clipboard) == CODE.removesuffix("\n")


def test_code_that_still_comes_grows_and_keeps_its_button(scripted: ChatPage) -> None:
    answer_with(scripted, ["```python\n", *[f"x = {i}\n" for i in range(400)]], every_ms=5)
    code = scripted.last.locator("figure.code code")
    expect(code).to_contain_text("x = 3")
    scripted.page.evaluate("window.button = document.querySelector('figure.code button')")
    expect(code).to_contain_text("x = 50")
    assert scripted.page.evaluate("window.button.isConnected")
    expect(scripted.last).to_have_attribute("aria-busy", "false")
    expect(code.locator(".hljs-number").first).to_be_visible()
    assert code.inner_text() == "\n".join(f"x = {i}" for i in range(400))


def test_code_is_copied_without_the_mark_in_it(clipboard: ChatPage) -> None:
    with copying(clipboard.page):
        marks = clipboard.page.evaluate(MOVED, "```text\nfirst line\nsecond line\n```")
    assert marks == 1
    assert copied(clipboard) == "first line\nsecond line"


def test_formulas_are_set_and_prices_are_not(scripted: ChatPage) -> None:
    answer_with(scripted, [MATH[i : i + 5] for i in range(0, len(MATH), 5)])
    text = scripted.last.locator(".text")
    expect(text.locator("math")).to_have_count(4)
    expect(text.locator("math[display=block]")).to_have_count(2)
    expect(text).to_contain_text("cost $5 and $10, see $HOME:")
    expect(text.locator("code[data-math]")).to_have_text([r"$\notamacro{x}$", r"$\href{javascript:window.pwned=1}{x}$"])
    assert text.locator("em, a").count() == 0
    check_accessible(scripted.page)


def test_lines_of_a_formula_stand_below_each_other(scripted: ChatPage) -> None:
    answer_with(scripted, [r"$$\begin{aligned} a &= b + c \\ &= d \end{aligned}$$"])
    expect(scripted.last.locator("math mtd")).to_have_count(4)
    places = scripted.last.locator("math mtd:nth-child(2) mo").evaluate_all(
        "(each) => each.filter((sign) => sign.textContent === '=').map((sign) => sign.getBoundingClientRect().x)"
    )
    assert len(places) == 2
    assert abs(places[0] - places[1]) < 1


def test_formulas_run_nothing_and_end(scripted: ChatPage) -> None:
    answer_with(scripted, [BROKEN_MATH, "\n\n", r"$\def\a{\a\a}\a$ $$" + "{" * 3000 + "}" * 3000 + "$$ and $x$"])
    expect(scripted.last).to_have_attribute("aria-busy", "false")
    expect(scripted.last.locator(".text math").last).to_be_visible()
    assert scripted.page.evaluate("window.pwned") is None
    assert scripted.last.locator(".text").locator("script, img").count() == 0


def test_a_list_of_tasks_has_boxes_and_no_dots(scripted: ChatPage) -> None:
    answer_with(scripted, ["- [x] done\n- [ ] to do\n- plain"])
    expect(scripted.last).to_have_attribute("aria-busy", "false")
    items = scripted.last.locator(".text li")
    styles = items.evaluate_all("(each) => each.map((item) => getComputedStyle(item).listStyleType)")
    assert styles == ["none", "none", "disc"]
    check_accessible(scripted.page)

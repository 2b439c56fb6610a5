// Copies text, also where browsers have no clipboard for pages (plain http from another machine). `markup` is the same as
// HTML, for programs that take cells.
export async function copyText(text, markup) {
  try {
    await (markup ? navigator.clipboard.write([itemOf(text, markup)]) : navigator.clipboard.writeText(text));
    return true;
  } catch {
    return copyBySelection(text, markup);
  }
}

const itemOf = (text, markup) =>
  new ClipboardItem({ "text/plain": new Blob([text], { type: "text/plain" }), "text/html": new Blob([markup], { type: "text/html" }) });

// The same for a button that no component draws: it says for a moment whether it did.
export async function copyFrom(button, text) {
  const copied = await copyText(text);
  const label = button.dataset.label || button.textContent;
  button.dataset.label = label;
  button.textContent = copied ? "Copied" : "Not allowed";
  setTimeout(() => (button.textContent = label), 1500);
}

function copyBySelection(text, markup) {
  const focused = document.activeElement;
  const area = document.createElement("textarea");
  area.value = text;
  area.setAttribute("aria-hidden", "true");
  area.className = "off-screen";
  area.addEventListener("copy", (event) => {
    if (!markup) return;
    event.preventDefault();
    event.clipboardData.setData("text/plain", text);
    event.clipboardData.setData("text/html", markup);
  });
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  focused?.focus();
  return copied;
}

// Copies text, also where browsers have no clipboard for pages (plain http from another machine). A `button`, which says
// whether it did, is one that no component draws: its text would be drawn beside what is said.
export async function copyText(text, button) {
  let copied = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    copied = copyBySelection(text);
  }
  if (!button) return copied;
  const label = button.dataset.label || button.textContent;
  button.dataset.label = label;
  button.textContent = copied ? "Copied" : "Not allowed";
  setTimeout(() => (button.textContent = label), 1500);
  return copied;
}

function copyBySelection(text) {
  const area = document.createElement("textarea");
  area.value = text;
  area.setAttribute("aria-hidden", "true");
  area.className = "off-screen";
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  return copied;
}

// Whether the page is dark: as its reader chose, in this tab or another, else as the system is now.
import { createStore } from "./store.js";

const KEY = "infermesh.theme"; // theme.js beside index.html reads it before anything is drawn
const system = matchMedia("(prefers-color-scheme: dark)");
const root = document.documentElement;
const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);

export const theme = createStore({ dark: isDark() });

// A choice that is the system's is none: the page follows the system again.
export function turnTheme() {
  const dark = !isDark();
  choose(dark === system.matches ? "" : dark ? "dark" : "light");
  try {
    if (root.dataset.theme) localStorage.setItem(KEY, root.dataset.theme);
    else localStorage.removeItem(KEY);
  } catch {
    // holds for this visit
  }
}

function choose(name) {
  if (name === "light" || name === "dark") root.dataset.theme = name;
  else delete root.dataset.theme;
  theme.set({ dark: isDark() });
}

system.addEventListener("change", () => theme.set({ dark: isDark() }));
addEventListener("storage", ({ key, newValue }) => {
  if (key === KEY || key === null) choose(newValue || "");
});

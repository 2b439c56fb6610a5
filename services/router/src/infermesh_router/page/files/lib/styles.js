// Style sheets of rooms that are not there at first.
const added = new Map();

export function addStyle(name) {
  if (!added.has(name)) {
    added.set(name, new Promise((resolve) => {
      const link = document.createElement("link");
      link.rel = "stylesheet";
      link.href = new URL(`../styles/${name}.css`, import.meta.url).href;
      link.onload = link.onerror = resolve;
      document.head.append(link);
    }));
  }
  return added.get(name);
}

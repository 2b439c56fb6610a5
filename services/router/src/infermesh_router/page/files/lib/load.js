// Imports a module when it is first needed.

// Chromium remembers of a module that it could not be fetched, until the page is loaded anew. So the file is fetched by
// other means first, and the import finds it in the browser's cache. Throws if it cannot be had.
export async function load(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url} answered ${response.status}`);
  await response.arrayBuffer();
  return import(url);
}

// Runs a script that is no module. Throws if it cannot be had.
export function loadScript(url) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = url;
    script.onload = resolve;
    script.onerror = () => reject(new Error(`${url} did not come`));
    document.head.append(script);
  });
}

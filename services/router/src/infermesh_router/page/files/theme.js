// Sets the theme before anything is drawn, so that the page does not flash.
{
  let theme = "";
  try {
    theme = localStorage.getItem("infermesh.theme") || "";
  } catch {
    // without storage, the system's theme holds
  }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
}

// Light or dark: what was chosen here before, else what the system asks for. Runs before the first paint.
(() => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const stored = () => { try { return localStorage.getItem("tollkeeper-theme"); } catch { return null; } };
  const apply = () => {
    root.dataset.bsTheme = stored() ?? (system.matches ? "dark" : "light");
    document.dispatchEvent(new Event("themechange"));
  };
  apply();
  system.addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    button.hidden = false;
    button.addEventListener("click", () => {
      const next = root.dataset.bsTheme === "dark" ? "light" : "dark";
      try { localStorage.setItem("tollkeeper-theme", next); } catch { /* a private window: for this page only */ }
      root.dataset.bsTheme = next;
      document.dispatchEvent(new Event("themechange"));
    });
  });
})();

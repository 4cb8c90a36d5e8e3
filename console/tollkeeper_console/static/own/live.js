// Live: listens to /events and asks for the page's content anew when something on it changed. The badge says how it
// stands and pauses it. What comes while the page is hidden or paused is made up for at once afterwards.
(() => {
  const WORDS = { connecting: "Connecting", live: "Live", paused: "Paused", lost: "Reconnecting" };
  const badge = document.getElementById("live");
  const word = document.getElementById("live-word");
  const status = document.getElementById("live-status");
  const trouble = document.getElementById("trouble");
  let paused = false;
  let missed = false;
  let connected = false;

  const show = () => {
    const state = paused ? "paused" : connected ? "live" : badge.dataset.state === "connecting" ? "connecting" : "lost";
    badge.dataset.state = state;
    word.textContent = WORDS[state] + (paused && missed ? ", news waiting" : "");
    badge.setAttribute("aria-pressed", String(paused));
    badge.setAttribute("aria-label", `${word.textContent}. ${paused ? "Resume" : "Pause"} live updates`);
    const said = `Live updates: ${WORDS[state].toLowerCase()}`;
    if (status.textContent !== said) status.textContent = said;
  };

  const refresh = () => {
    if (paused || document.hidden) {
      missed = true;
      if (paused) show();
      return;
    }
    missed = false;
    htmx.trigger(document.body, "news");
  };

  const concerns = (limits) => {
    const own = document.getElementById("content").dataset.limit;
    return own === "*" || limits.includes("*") || limits.includes(own);
  };

  const source = new EventSource("/events");
  source.addEventListener("hello", () => {
    const again = badge.dataset.state === "lost";
    connected = true;
    show();
    if (again) refresh();
  });
  source.addEventListener("changed", (event) => { if (concerns(JSON.parse(event.data).limits)) refresh(); });
  source.addEventListener("tick", () => { if (document.getElementById("content").dataset.limit) refresh(); });
  source.addEventListener("error", () => {
    connected = false;
    if (badge.dataset.state === "connecting") badge.dataset.state = "lost";
    show();
  });

  badge.hidden = false;
  badge.addEventListener("click", () => {
    paused = !paused;
    if (!paused && missed) refresh();
    show();
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden && missed) refresh(); });

  document.addEventListener("htmx:error", () => {
    trouble.textContent = "The console does not answer. What you see may be old; it is asked again at the next change.";
    trouble.hidden = false;
  });
  document.addEventListener("htmx:after:swap", () => { trouble.hidden = true; });
  addEventListener("pagehide", () => source.close());
  show();
})();

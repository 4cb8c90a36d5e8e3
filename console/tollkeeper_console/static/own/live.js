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
  let asking = null; // the request whose answer the content waits for

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
    if (paused || document.hidden || asking) {
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

  // One request at a time: what came while the content was asked for is asked for afterwards, of the address that it then has.
  const content = () => document.getElementById("content");
  const answered = (event) => {
    if (event.detail.ctx !== asking) return;
    asking = null;
    if (missed) setTimeout(refresh);
  };
  document.addEventListener("htmx:before:request", (event) => { asking = event.detail.ctx; });
  for (const name of ["htmx:after:swap", "htmx:error", "htmx:finally:request"]) document.addEventListener(name, answered);

  // News leave a filter alone that somebody is writing; whoever goes elsewhere finds its fields as the address has them.
  const edited = (form) => form.contains(document.activeElement) || [...form.elements].some((field) =>
    field.options ? [...field.options].some((one) => one.selected !== one.defaultSelected) : field.value !== field.defaultValue);
  let news = false;
  let filtering = false;
  document.addEventListener("htmx:before:swap", (event) => {
    const form = document.getElementById("filter-form");
    const source = event.detail.ctx.sourceElement;
    news = source === content();
    filtering = source.closest("#usages-filter") !== null;
    form?.toggleAttribute("hx-morph-skip", news && edited(form));
  });
  document.addEventListener("htmx:after:swap", () => {
    const form = document.getElementById("filter-form");
    form?.removeAttribute("hx-morph-skip");
    if (!news) form?.reset();
    if (!filtering) return;
    status.textContent = document.getElementById("usages-count").textContent;
    // What was pressed may be gone with the filter that it took away.
    if (document.activeElement === document.body) document.querySelector("#usages-filter summary").focus();
  });

  document.addEventListener("htmx:error", () => {
    trouble.textContent = "The console does not answer. What you see may be old; it is asked again at the next change.";
    trouble.hidden = false;
  });
  document.addEventListener("htmx:after:swap", () => { trouble.hidden = true; });
  addEventListener("pagehide", () => source.close());
  show();
})();

// Pages whose content the server sends again when it has changed.
import { stage } from "./stage.js";

export function followPage(main) {
  let source;
  const open = () => {
    source = new EventSource(main.dataset.live);
    source.addEventListener("page", (event) => replace(main, event.data));
    source.addEventListener("leave", () => location.reload());
  };
  const close = () => source && source.close();
  // A tab nobody looks at costs nothing.
  document.addEventListener("visibilitychange", () => { close(); if (!document.hidden) open(); });
  window.addEventListener("pagehide", close);
  if (!document.hidden) open();
}

function replace(main, html) {
  const active = document.activeElement;
  const busy = active && main.contains(active) && /^(INPUT|TEXTAREA)$/.test(active.tagName);
  if (busy) return;
  const key = active && main.contains(active) ? active.getAttribute("href") || active.getAttribute("formaction") : null;
  const open = [...main.querySelectorAll("details[open][id]")].map((d) => d.id);
  const scroll = [...main.querySelectorAll(".stage, .history")].map((s) => [s.scrollLeft, s.scrollTop]);
  const part = main.querySelector("#live");
  part.innerHTML = html;
  open.forEach((id) => { const d = document.getElementById(id); if (d) d.open = true; });
  [...main.querySelectorAll(".stage, .history")].forEach((s, i) => scroll[i] && s.scrollTo(...scroll[i]));
  stage();
  if (key) main.querySelector(`[href="${CSS.escape(key)}"], [formaction="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
}

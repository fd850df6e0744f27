// A build while it runs: the server sends what to put where, ready to show.

export function followBuild(main) {
  open_target();
  window.addEventListener("hashchange", open_target);
  if (!main.dataset.live) return;
  const source = new EventSource(main.dataset.live);
  source.addEventListener("change", (event) => {
    const end = atEnd();
    for (const change of JSON.parse(event.data)) apply(change);
    if (end) window.scrollTo(0, document.documentElement.scrollHeight);
  });
  source.addEventListener("reload", () => { source.close(); location.reload(); });
  source.addEventListener("end", () => source.close());
  window.addEventListener("pagehide", () => source.close());
}

function apply(change) {
  const at = document.getElementById(change.id);
  if (!at) return;
  // What is empty is not sent.
  const html = change.html ?? "";
  if (change.do === "append") {
    at.insertAdjacentHTML("beforeend", html);
    // As many lines as the server shows; the raw log has the rest.
    if (at.classList.contains("log")) while (at.childElementCount > 2500) at.firstElementChild.remove();
  }
  if (change.do === "inner") at.innerHTML = html;
  if (change.do === "replace") at.outerHTML = html;
  if (change.do === "state") {
    at.className = change.class ?? "";
    // Unfolds when it begins; folds only what the reader has not touched.
    if (change.open && !at.open) at.open = true;
  }
}

function atEnd() {
  const page = document.documentElement;
  return page.scrollHeight > page.clientHeight && page.scrollTop + page.clientHeight > page.scrollHeight - 60;
}

function open_target() {
  if (!location.hash) return;
  const line = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let at = line; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
  if (line) line.scrollIntoView({ block: "center" });
}

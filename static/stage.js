// The pipeline graph: drag to move, buttons or ctrl and wheel to zoom, a box lights up its lines.
let zoom = 0;

export function stage() {
  const frame = document.querySelector(".stage");
  const graph = frame && frame.querySelector("svg.graph");
  if (!graph) return;
  // A filter of the pipeline's own; the page's policy allows no style in the markup.
  const backdrop = document.querySelector(".backdrop");
  if (backdrop) {
    if (backdrop.dataset.filter) backdrop.style.filter = backdrop.dataset.filter;
    backdrop.onerror = () => backdrop.remove();
    if (backdrop.complete && !backdrop.naturalWidth) backdrop.remove();
  }
  const [width, height] = graph.getAttribute("viewBox").split(" ").slice(2).map(Number);
  const fit = () => Math.min(1, Math.max((frame.clientWidth - 2) / width, 0.8));
  const draw = (next) => {
    const scale = Math.min(2.5, Math.max(0.15, next));
    const x = (frame.scrollLeft + frame.clientWidth / 2) / graph.clientWidth;
    graph.setAttribute("width", Math.floor(width * scale));
    graph.setAttribute("height", Math.floor(height * scale));
    frame.scrollLeft = x * graph.clientWidth - frame.clientWidth / 2;
    return scale;
  };
  const wide = window.matchMedia("(min-width: 641px)").matches;
  const start = frame.scrollLeft;
  if (zoom) draw(zoom);
  else if (wide) draw(fit());
  frame.scrollLeft = start;
  const current = () => graph.clientWidth / width;
  const act = { in: () => (zoom = draw(current() * 1.25)), out: () => (zoom = draw(current() / 1.25)), fit: () => { zoom = 0; draw(fit()); } };
  for (const button of document.querySelectorAll("[data-zoom]")) button.onclick = act[button.dataset.zoom];
  frame.onwheel = (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    zoom = draw(current() * (event.deltaY < 0 ? 1.1 : 1 / 1.1));
  };
  drag(frame);
  const light = (node, on) => {
    for (const line of graph.querySelectorAll(`[data-a="${node}"], [data-b="${node}"]`)) line.classList.toggle("is-lit", on);
  };
  for (const box of graph.querySelectorAll(".node")) {
    box.onmouseenter = box.onfocus = () => light(box.dataset.n, true);
    box.onmouseleave = box.onblur = () => light(box.dataset.n, false);
  }
}

function drag(frame) {
  let from = null;
  frame.onpointerdown = (event) => {
    if (event.pointerType === "mouse" && event.button === 0) from = { x: event.clientX + frame.scrollLeft, y: event.clientY + frame.scrollTop, moved: false };
  };
  frame.onpointermove = (event) => {
    if (!from) return;
    const x = from.x - event.clientX, y = from.y - event.clientY;
    if (Math.abs(x - frame.scrollLeft) + Math.abs(y - frame.scrollTop) > 5) from.moved = true;
    if (!from.moved) return;
    frame.classList.add("is-grabbed");
    frame.scrollTo(x, y);
  };
  const drop = () => {
    if (from && from.moved) frame.addEventListener("click", (event) => event.preventDefault(), { capture: true, once: true });
    from = null;
    frame.classList.remove("is-grabbed");
  };
  frame.onpointerup = drop;
  frame.onpointerleave = drop;
  frame.ondragstart = () => false;
}

// Keys: `/` search, `T` trigger, `R` rerun, `A` abort, `h` and `l` older and newer build, `f` fit, `gg` and `G` ends.

export function keys() {
  let before = "";
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (/^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const hit = document.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
    if (hit) {
      event.preventDefault();
      if (hit.tagName === "INPUT") hit.focus();
      else hit.click();
    } else if (event.key === "G") window.scrollTo(0, document.documentElement.scrollHeight);
    else if (event.key === "g" && before === "g") window.scrollTo(0, 0);
    else if (event.key === "j") window.scrollBy(0, 60);
    else if (event.key === "k") window.scrollBy(0, -60);
    before = event.key;
  });
}

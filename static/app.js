// Comfort on top of pages that work without it: live parts, keys, pan and zoom. No page needs this file.
import { followBuild } from "./build.js";
import { followPage } from "./live.js";
import { ago } from "./ago.js";
import { keys } from "./keys.js";
import { stage } from "./stage.js";

document.documentElement.classList.add("has-script");
const main = document.querySelector("main");
if (main.dataset.build) followBuild(main);
else if (main.dataset.live) followPage(main);
keys();
stage();
ago();
for (const button of document.querySelectorAll("[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).value);
    button.textContent = "Copied";
  });
}
const fly = document.querySelector("[data-fly]");
if (fly) {
  // The client waits on a port of this machine; if the browser may not reach it, the page shows what to paste.
  fetch(fly.dataset.fly, { mode: "no-cors", targetAddressSpace: "loopback" })
    .then(() => { fly.textContent = "fly has received the token. You can close this page."; })
    .catch(() => {
      fly.textContent = "fly could not be reached from this browser.";
      document.getElementById("paste").open = true;
    });
}

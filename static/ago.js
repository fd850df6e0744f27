// Keeps "5m ago" true while a page stays open, in the server's words.

export function ago() {
  setInterval(() => {
    if (document.hidden) return;
    for (const time of document.querySelectorAll("time[datetime]")) {
      const s = Math.max(0, Math.floor((Date.now() - Date.parse(time.dateTime)) / 1000));
      const text = words(s);
      if (time.textContent !== text) time.textContent = text;
    }
  }, 10000);
}

function words(s) {
  if (s < 5) return "just now";
  if (s < 60) return `${s}s ago`;
  if (s < 3600) return `${Math.floor(s / 60)}m ago`;
  if (s < 86400) return `${Math.floor(s / 3600)}h ago`;
  return `${Math.floor(s / 86400)}d ago`;
}

// The keyboard: "/" goes to the filter, j and k move in the table of runs, x ticks, ? shows the keys.

const rows = () => [...document.querySelectorAll("#table tbody tr")];
const current = () => document.activeElement?.closest("#table tbody tr");

/** Put the focus on the link of a row next to the current one; from outside of the table, on the first. */
function move(step) {
  const all = rows();
  const row = all[Math.min(Math.max(all.indexOf(current()) + step, 0), all.length - 1)];
  const link = row?.querySelector("th a");
  link?.focus({ preventScroll: true });
  row?.scrollIntoView({ block: "nearest" });
}

const press = (selector) => current()?.querySelector(selector)?.click();

const KEYS = {
  "/": () => {
    const field = document.querySelector("input[name=filter], input[name=charts]");
    field?.focus();
    field?.select();
  },
  j: () => move(1),
  k: () => move(-1),
  x: () => press("[data-choose]"),
  p: () => press("[data-pin]"),
  b: () => press("[data-baseline]"),
  "?": () => document.getElementById("keys")?.showModal(),
};

addEventListener("keydown", (event) => {
  const key = KEYS[event.key];
  if (!key || event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  // Keys that are typed into a field are its text. A checkbox takes no text: x can be pressed again there.
  if (event.target.closest?.("input:not([type=checkbox]), textarea, select, [contenteditable], dialog")) return;
  event.preventDefault();
  key();
});

document.getElementById("keys-button")?.addEventListener("click", KEYS["?"]);

// Keeps the page up to date, and changes its tables without leaving it: the server renders, this puts the
// parts that differ ([data-live]) in place.
import { abandon, adopt, refresh } from "./charts.js";

const main = document.querySelector("main");
const away = document.getElementById("away");
const shown = new Map(); // id of a part -> the HTML that the server sent for it
let last = null; // the page's text as the server sent it last

for (const part of document.querySelectorAll("[data-live]")) shown.set(part.id, part.innerHTML);

/** Fetch a page and put what differs from the one in view in its place. */
async function show(url) {
  const answer = await fetch(url, { headers: { Accept: "text/html" } });
  if (answer.status === 401) location.reload();
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  const text = await answer.text();
  if (text === last) return;
  last = text;
  const page = new DOMParser().parseFromString(text, "text/html");
  for (const part of page.querySelectorAll("[data-live]")) replace(part);
  document.title = page.title;
  main.dataset.liveEvery = page.querySelector("main").dataset.liveEvery;
}

function replace(fresh) {
  const old = document.getElementById(fresh.id);
  if (!old || shown.get(fresh.id) === fresh.innerHTML) return;
  shown.set(fresh.id, fresh.innerHTML);
  const open = new Map([...old.querySelectorAll("[data-keep]")].map((part) => [part.dataset.keep, part.open]));
  const places = new Map([...old.querySelectorAll("[data-strip]")].map(position));
  const side = old.scrollLeft;
  abandon(old);
  old.replaceChildren(...fresh.childNodes);
  for (const part of old.querySelectorAll("[data-keep]")) part.open = open.get(part.dataset.keep) ?? part.open;
  for (const strip of old.querySelectorAll("[data-strip]")) {
    const place = places.get(strip.dataset.strip);
    if (place !== undefined) slide(strip, place);
  }
  old.scrollLeft = side;
  adopt(old);
  follow(old);
}

/** Where a reader has put a strip's slider; nowhere while it stands at the newest. */
function position(strip) {
  const slider = strip.querySelector("input[type=range]");
  return [strip.dataset.strip, slider && slider.value !== slider.max ? Number(slider.value) : undefined];
}

function slide(strip, place) {
  const slider = strip.querySelector("input[type=range]");
  const moments = strip.querySelectorAll(".moment");
  if (!slider || !moments[place]) return;
  slider.value = place;
  moments.forEach((moment, number) => (moment.hidden = number !== place));
  strip.querySelector("output").textContent = moments[place].dataset.at;
}

/** A console that was read to its end stays at its end. */
function follow(root) {
  for (const log of root.querySelectorAll("[data-follow]")) log.scrollTop = log.scrollHeight;
}

async function go(url) {
  history.pushState(null, "", url);
  await show(location.href);
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-swap]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  go(link.href);
});

function submit(form) {
  const query = new URLSearchParams([...new FormData(form)].filter(([, value]) => value !== ""));
  go(`?${query}`);
}

document.addEventListener("submit", (event) => {
  if (!event.target.matches("[data-swap-form]")) return;
  event.preventDefault();
  submit(event.target);
});

let typing = 0;
document.addEventListener("input", (event) => {
  const target = event.target;
  if (target.matches("[data-swap-form] input[type=search]")) {
    clearTimeout(typing);
    typing = setTimeout(() => submit(target.form), 250);
  } else if (target.matches("[data-swap-form] select")) {
    submit(target.form);
  } else if (target.matches(".slider input")) {
    slide(target.closest("[data-strip]"), Number(target.value));
  }
});

document.addEventListener("change", (event) => {
  if (!event.target.matches("[data-choose]")) return;
  const query = new URLSearchParams(location.search);
  const chosen = new Set(query.getAll("run"));
  chosen[event.target.checked ? "add" : "delete"](event.target.value);
  query.delete("run");
  for (const id of chosen) query.append("run", id);
  go(`?${query}`);
});

addEventListener("popstate", () => show(location.href));

// Where a link leads to a closed part of the page, open it.
function reveal() {
  const goal = document.getElementById(location.hash.slice(1));
  goal?.querySelector("details")?.setAttribute("open", "");
}
addEventListener("hashchange", reveal);

async function watch() {
  if (!document.hidden) {
    try {
      await show(location.href);
      await refresh();
      away.hidden = true;
    } catch {
      away.hidden = false;
    }
  }
  setTimeout(watch, 1000 * Number(main.dataset.liveEvery ?? 10));
}

reveal();
follow(document);
setTimeout(watch, 1000 * Number(main.dataset.liveEvery ?? 10));

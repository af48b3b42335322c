// Keeps the page up to date, and changes its tables without leaving it: the server renders, this puts the
// parts that differ ([data-live]) in place.
import { abandon, adopt, refresh } from "./charts.js";

const main = document.querySelector("main");
const away = document.getElementById("away");
const shown = new Map(); // id of a part -> the HTML that the server sent for it
let last = null; // the page's text as the server sent it last
let asked = 0; // requests for the page so far: an answer that was overtaken is dropped

for (const part of document.querySelectorAll("[data-live]")) shown.set(part.id, part.innerHTML);

/** Fetch a page and put what differs from the one in view in its place. Says so where the server is away. */
async function show(url) {
  const number = ++asked;
  try {
    const answer = await fetch(url, { headers: { Accept: "text/html" } });
    const text = await answer.text();
    if (number !== asked) return;
    // Logged out, or what the page is about was deleted: the server has a page that says so.
    if (answer.status >= 400 && answer.status < 500) location.reload();
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    away.hidden = true;
    if (text === last) return;
    last = text;
    const page = new DOMParser().parseFromString(text, "text/html");
    for (const strip of document.querySelectorAll("#strips > [data-live]")) {
      if (!page.getElementById(strip.id)) remove(strip);
    }
    for (const part of page.querySelectorAll("[data-live]")) replace(part);
    document.title = page.title;
    main.dataset.liveEvery = page.querySelector("main").dataset.liveEvery;
  } catch {
    away.hidden = false;
  }
}

function remove(part) {
  abandon(part);
  shown.delete(part.id);
  part.remove();
}

function replace(fresh) {
  const old = document.getElementById(fresh.id);
  if (!old) {
    // New on the page, as the first media of a key.
    shown.set(fresh.id, fresh.innerHTML);
    document.getElementById(fresh.parentElement.id)?.append(fresh);
    adopt(fresh);
    return;
  }
  if (shown.get(fresh.id) === fresh.innerHTML) return;
  shown.set(fresh.id, fresh.innerHTML);
  const open = new Map([...old.querySelectorAll("[data-keep]")].map((part) => [part.dataset.keep, part.open]));
  const [slider, log] = [old.querySelector(".slider input"), old.querySelector("[data-follow]")];
  // Where the reader has put them; nowhere while they stand at the newest.
  const line = slider && slider.value !== slider.max ? old.querySelectorAll(".moment")[slider.value].dataset.line : null;
  const read = log && log.scrollTop + log.clientHeight < log.scrollHeight - 4 ? log.scrollTop : null;
  const focused = old.contains(document.activeElement) ? label(document.activeElement) : null;
  const { scrollLeft, scrollTop } = old;
  abandon(old);
  old.replaceChildren(...fresh.childNodes);
  for (const part of old.querySelectorAll("[data-keep]")) part.open = open.get(part.dataset.keep) ?? part.open;
  if (line !== null) slide(old, [...old.querySelectorAll(".moment")].findIndex((moment) => moment.dataset.line === line));
  Object.assign(old, { scrollLeft, scrollTop });
  follow(old, read);
  adopt(old);
  if (focused) [...old.querySelectorAll("a, button, input, select, summary")].find((part) => label(part) === focused)?.focus({ preventScroll: true });
}

/** What makes a control the same one after its part was replaced. */
function label(control) {
  return [control.tagName, control.name, control.getAttribute("value"), control.title || control.textContent].join(" ");
}

/** Show another moment of a strip of media; what it holds is fetched when it is looked at first. */
async function slide(strip, place) {
  const moments = strip.querySelectorAll(".moment");
  const moment = moments[place];
  if (!moment) return;
  strip.querySelector(".slider input").value = place;
  strip.querySelector("output").textContent = moment.dataset.at;
  moments.forEach((other) => (other.hidden = other !== moment));
  if (!moment.dataset.part) return;
  const answer = await fetch(moment.dataset.part).catch(() => null);
  if (!answer?.ok) return;
  delete moment.dataset.part;
  moment.innerHTML = await answer.text();
  adopt(moment);
}

/** A console stands at its end, or where its reader has scrolled to. */
function follow(root, read = null) {
  for (const log of root.querySelectorAll("[data-follow]")) log.scrollTop = read ?? log.scrollHeight;
}

/** Go to another view of this page, such as another order of its table. */
function go(query) {
  history.pushState(null, "", query.size ? `?${query}` : location.pathname);
  show(location.href);
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-swap]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  go(new URL(link.href).searchParams);
});

/** The page's query with the form's fields in it. */
function submit(form) {
  const query = new URLSearchParams(location.search);
  query.delete("page");
  for (const field of form.elements) {
    if (field.name && field.type !== "hidden") field.value ? query.set(field.name, field.value) : query.delete(field.name);
  }
  go(query);
}

document.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (event.target.matches("[data-swap-form]")) {
    submit(event.target);
    return;
  }
  // A button such as Pause. Where the server is away, the page stays and says so.
  const body = new URLSearchParams(new FormData(event.target, event.submitter));
  await fetch(location.pathname, { method: "POST", body }).catch(() => null);
  show(location.href);
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
    slide(target.closest(".strip"), Number(target.value));
  }
});

document.addEventListener("change", (event) => {
  if (!event.target.matches("[data-choose]")) return;
  const query = new URLSearchParams(location.search);
  const chosen = new Set(query.getAll("run"));
  chosen[event.target.checked ? "add" : "delete"](event.target.value);
  query.delete("run");
  for (const id of chosen) query.append("run", id);
  go(query);
});

addEventListener("popstate", () => {
  const query = new URLSearchParams(location.search);
  for (const field of document.querySelectorAll("[data-swap-form] input[type=search]")) field.value = query.get(field.name) ?? "";
  show(location.href);
});

// Where a link leads to a closed part of the page, open it.
function reveal() {
  document.getElementById(location.hash.slice(1))?.querySelector("details")?.setAttribute("open", "");
}
addEventListener("hashchange", reveal);

async function watch() {
  if (!document.hidden) {
    await show(location.href);
    if (away.hidden) await refresh().catch(() => {});
  }
  setTimeout(watch, 1000 * Number(main.dataset.liveEvery ?? 10));
}

reveal();
follow(document);
setTimeout(watch, 1000 * Number(main.dataset.liveEvery ?? 10));

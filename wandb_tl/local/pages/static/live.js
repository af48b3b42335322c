// Keeps the page up to date, and changes its tables without leaving it: the server renders, this puts the
// parts that differ ([data-live]) in place.
import { abandon, adopt, redraw, refresh } from "./charts.js";
import { place } from "./media.js";

const main = document.querySelector("main");
const away = document.getElementById("away");
const refusal = document.getElementById("refusal");
const parts = new Map(); // id of a part -> the HTML that the server sent for it
let last = null; // the page's text as the server sent it last
let asked = 0; // requests for the page so far: an answer that was overtaken is dropped

for (const part of document.querySelectorAll("[data-live]")) parts.set(part.id, part.innerHTML);

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
  parts.delete(part.id);
  part.remove();
}

function replace(fresh) {
  const old = document.getElementById(fresh.id);
  if (!old) {
    // New on the page, as the first media of a key.
    parts.set(fresh.id, fresh.innerHTML);
    document.getElementById(fresh.parentElement.id)?.append(fresh);
    adopt(fresh);
    place(fresh);
    return;
  }
  if (parts.get(fresh.id) === fresh.innerHTML) return;
  parts.set(fresh.id, fresh.innerHTML);
  const open = new Map([...old.querySelectorAll("[data-keep]")].map((part) => [part.dataset.keep, part.open]));
  const log = old.querySelector("[data-follow]");
  // Where the reader has scrolled to; nowhere while it stands at the newest.
  const read = log && log.scrollTop + log.clientHeight < log.scrollHeight - 4 ? log.scrollTop : null;
  const focused = old.contains(document.activeElement) ? label(document.activeElement) : null;
  const { scrollLeft, scrollTop } = old;
  abandon(old);
  old.replaceChildren(...fresh.childNodes);
  for (const part of old.querySelectorAll("[data-keep]")) part.open = open.get(part.dataset.keep) ?? part.open;
  place(old);
  Object.assign(old, { scrollLeft, scrollTop });
  follow(old, read);
  adopt(old);
  if (focused) [...old.querySelectorAll("a, button, input, select, summary")].find((part) => label(part) === focused)?.focus({ preventScroll: true });
}

/** What makes a control the same one after its part was replaced. */
function label(control) {
  return [control.tagName, control.name, control.getAttribute("value"), control.title || control.textContent].join(" ");
}

/** A console stands at its end, or where its reader has scrolled to. */
function follow(root, read = null) {
  for (const log of root.querySelectorAll("[data-follow]")) log.scrollTop = read ?? log.scrollHeight;
}

/** Go to another view of this page, such as another order of its table. */
export function go(query, replaces = false) {
  history[replaces ? "replaceState" : "pushState"](null, "", query.size ? `?${query}` : location.pathname);
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
  const fields = [...form.elements].filter((field) => field.name && field.type !== "hidden");
  for (const field of fields) query.delete(field.name);
  for (const field of fields) {
    const isDefault = field.type === "checkbox" ? !field.checked : field.value === "" || (field.type === "range" && field.value === field.min);
    if (!isDefault) query.append(field.name, field.value);
  }
  // A slider passes many places: only the last one is a step back.
  go(query, form.querySelector("[type=range]:focus") !== null);
  if (form.matches("[data-draws]")) redraw();
}

document.addEventListener("submit", async (event) => {
  // What it changes is all over the page, or the page is gone. A dialog is closed by its own form.
  if (event.target.closest(".forms, .account, dialog")) return;
  event.preventDefault();
  if (event.target.matches("[data-swap-form]")) {
    submit(event.target);
    return;
  }
  // A button such as Pause. Where the server is away, the page stays and says so.
  const body = new URLSearchParams(new FormData(event.target, event.submitter));
  const answer = await fetch(location.pathname, { method: "POST", body }).catch(() => null);
  refusal.textContent = answer && !answer.ok ? await reason(answer) : "";
  if (answer?.ok) event.target.closest("details")?.removeAttribute("open");
  show(location.href);
});

/** Why the server refused a form: the page that it answers with says so. */
async function reason(answer) {
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  return page.querySelector("main p")?.textContent ?? `The server refused this, with status ${answer.status}.`;
}

let typing = 0;
document.addEventListener("input", (event) => {
  const target = event.target;
  if (target.matches("[data-swap-form] input:is([type=search], [type=range])")) {
    clearTimeout(typing);
    typing = setTimeout(() => submit(target.form), target.type === "range" ? 60 : 250);
  } else if (target.matches("[data-swap-form] :is(select, [type=checkbox])")) {
    submit(target.form);
  }
});

addEventListener("popstate", () => {
  const query = new URLSearchParams(location.search);
  for (const field of document.querySelectorAll("[data-swap-form] :is(input, select)[name]")) {
    const value = query.get(field.name);
    // A part that the server sends anew has its fields as the address says.
    if (field.closest("[data-live]")) continue;
    if (field.type === "checkbox") field.checked = value === field.value;
    else if (field.type !== "hidden") field.value = value ?? (field.type === "range" ? field.min : "");
  }
  show(location.href);
  redraw();
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

// The table of runs: ticked runs, pinned runs and the baseline, which the page's address keeps.
import { go } from "./live.js";

/** The query with some ids under a name, in place of those that it has. */
function withIds(name, ids) {
  const query = new URLSearchParams(location.search);
  query.delete(name);
  for (const id of ids) query.append(name, id);
  return query;
}

const idsOf = (name) => new Set(new URLSearchParams(location.search).getAll(name));

function setAll(ids, wanted, isIn) {
  for (const id of wanted) ids[isIn ? "add" : "delete"](id);
  return ids;
}

/** Pin a run to the top of the table, or unpin it. */
function pin(id) {
  const ids = idsOf("pin");
  go(withIds("pin", setAll(ids, [id], !ids.has(id))));
}

/** Compare all other runs with this one, or with none if it is the baseline already. */
function compareWith(id) {
  go(withIds("baseline", idsOf("baseline").has(id) ? [] : [id]));
}

document.addEventListener("change", ({ target }) => {
  if (target.matches("[data-choose]")) go(withIds("run", setAll(idsOf("run"), [target.value], target.checked)));
  if (!target.matches("[data-choose-all]")) return;
  const boxes = [...target.closest("table").querySelectorAll("[data-choose]")];
  go(withIds("run", setAll(idsOf("run"), boxes.map((box) => box.value), target.checked)));
});

document.addEventListener("click", ({ target }) => {
  const button = target.closest("[data-pin], [data-baseline]");
  if (button?.dataset.pin) pin(button.dataset.pin);
  else if (button?.dataset.baseline) compareWith(button.dataset.baseline);
});

/** The box in the header is ticked if all rows are, and half ticked if some are. */
function showAll() {
  for (const all of document.querySelectorAll("[data-choose-all]")) {
    const boxes = [...all.closest("table").querySelectorAll("[data-choose]")];
    const count = boxes.filter((box) => box.checked).length;
    all.checked = count > 0 && count === boxes.length;
    all.indeterminate = count > 0 && count < boxes.length;
  }
}

const table = document.getElementById("table");
if (table) {
  showAll();
  new MutationObserver(showAll).observe(table, { childList: true, subtree: true });
}

// The values of a chart as a table, in a fold below it, for those who cannot see or point at lines.
import { rowsOf } from "./downloads.js";
import { show } from "./look.js";

// Rows of a table; the CSV file has all.
const MOST = 500;

/** Put the fold below a chart that has lines or points, or bring an open one up to date. */
export function offerTable(element, chart) {
  // Charts whose data stand on the page have a table there.
  if (!(chart.figure.lines.length || chart.figure.rows) || element.dataset.bars !== undefined) return;
  const old = element.querySelector(":scope > details.data");
  if (old) {
    if (old.open) fill(old, element, chart);
    return;
  }
  const fold = document.createElement("details");
  fold.className = "data";
  const summary = document.createElement("summary");
  summary.textContent = "Values as a table";
  fold.append(summary);
  fold.addEventListener("toggle", () => fold.open && fill(fold, element, chart));
  element.append(fold);
}

function fill(fold, element, { figure, data }) {
  const [headings, ...rows] = figure.rows?.() ?? (figure.axes ? named(rowsOf(figure, data)) : tips(figure));
  const table = document.createElement("table");
  table.className = "rows";
  line(table.createTHead().insertRow(), headings, () => "th");
  const body = table.createTBody();
  for (const row of rows.slice(0, MOST)) line(body.insertRow(), row, (place) => (place ? "td" : "th"));
  const box = document.createElement("div");
  box.className = "scroll";
  box.tabIndex = 0;
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", `Values of ${element.getAttribute("aria-label")}`);
  box.append(table);
  if (rows.length > MOST) box.append(`${MOST} of ${rows.length} rows${figure.rows ? "." : "; the CSV file has all."}`);
  fold.replaceChildren(fold.firstElementChild, box);
}

/** Of id, name and label, only what the reader knows the line by. */
function named([[, , , across, up], ...rows]) {
  return [["run", across, up], ...rows.map(([, name, label, x, y]) => [label || name, x, y])];
}

/** One row a line, of a chart whose axes are not x and y. */
function tips({ lines, tip }) {
  const rows = lines.map((one) => tip(one));
  return [["run", ...rows[0].slice(1).map(([name]) => name)], ...rows.map(([[label], ...rest]) => [label, ...rest.map(([, value]) => value)])];
}

function line(row, values, tag) {
  values.forEach((value, place) => {
    const cell = document.createElement(tag(place));
    cell.textContent = typeof value === "number" ? show(value) : value ?? "";
    if (cell.tagName === "TH") cell.scope = row.parentElement.tagName === "THEAD" ? "col" : "row";
    else if (typeof value === "number") cell.className = "number";
    row.append(cell);
  });
}

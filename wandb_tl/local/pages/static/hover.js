// Whose curve is it: the tooltip of a chart, and one run marked in all charts, legends and tables of the page.
import { show } from "./look.js";

const NEAR = 50; // pixels from the pointer to what it points at
const ROW = 17; // pixels of a row of a tooltip
const DOUBLE_CLICK = 300; // milliseconds
const MOST = 10; // rows of a tooltip, and lines of a legend

/** Mark what belongs to these ids of runs or of groups of runs, and nothing else. */
export function mark(ids) {
  const wanted = new Set(ids);
  for (const element of document.querySelectorAll("[data-run]")) {
    element.classList.toggle("marked", wanted.has(element.dataset.run) || wanted.has(element.dataset.group));
  }
  for (const canvas of document.querySelectorAll(".canvas")) {
    const lines = canvas.lines ?? [];
    const places = lines.flatMap((line, i) => (wanted.has(line.id) ? [i] : []));
    canvas.classList.toggle("some-marked", places.length > 0);
    copyOnTop(canvas, places);
  }
}

/** Draw copies of some lines above the chart, where they change without the chart being painted again. */
function copyOnTop(canvas, places) {
  let top = canvas.parentElement.querySelector(".marks");
  const box = places.length ? canvas.querySelector(".nsewdrag")?.getBoundingClientRect() : null;
  if (!box) return top?.replaceChildren();
  if (!top) {
    top = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    top.setAttribute("class", "marks");
    top.setAttribute("aria-hidden", "true");
    canvas.after(top);
  }
  const frame = canvas.parentElement.getBoundingClientRect();
  const size = { left: box.left - frame.left, top: box.top - frame.top, width: box.width, height: box.height };
  for (const [name, value] of Object.entries(size)) top.style[name] = `${value}px`;
  const parts = places.flatMap((i) => partsOf(canvas, i));
  top.replaceChildren(
    ...parts.map((part) => {
      const { a, d, e, f } = part.getScreenCTM();
      const copy = part.cloneNode();
      copy.setAttribute("transform", `matrix(${a} 0 0 ${d} ${e - box.left} ${f - box.top})`);
      return copy;
    }),
  );
}

/** The elements of the line at place i: those of its traces, or one point of the trace of all points. */
function partsOf(canvas, i) {
  const points = canvas.querySelectorAll(".tracepoints .point");
  if (points.length) return [...points].filter((point) => point.__data__.i === i);
  return ["band", "raw", ""].flatMap((end) => [...canvas.querySelectorAll(`.trace${CSS.escape(i + end)} :is(.js-fill, .js-line, .point)`)]);
}

/** The ids of a row's or a legend's run, and of its group. */
const idsOf = (element) => [element.dataset.run, element.dataset.group].filter(Boolean);

addEventListener("pointerover", (event) => {
  const element = event.target.closest?.("[data-run]");
  if (element) mark(idsOf(element));
});
addEventListener("pointerout", (event) => {
  const element = event.target.closest?.("[data-run]");
  if (element && !element.contains(event.relatedTarget)) mark([]);
});

/** The line of a swatch, in the colour and the dashes of a run. */
export function swatch(line) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", `swatch ${line.dash ?? "solid"}`);
  svg.setAttribute("viewBox", "0 0 20 10");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", "M0 5H20");
  path.setAttribute("stroke", line.color);
  svg.append(path);
  return svg;
}

function row(line, label, value) {
  const element = document.createElement("div");
  const [name, number] = [document.createElement("span"), document.createElement("b")];
  name.textContent = label;
  number.textContent = value;
  if (line) element.append(swatch(line));
  element.append(name, number);
  return element;
}

/** Below a chart: its lines by name, the highest at its end first; of many lines the first few. */
export function legend(element, lines, lowestFirst, choose) {
  const old = element.querySelector(".legend");
  if (lines.length < 2 || !lines.some((line) => line.label)) {
    old?.remove();
    return;
  }
  const last = (line) => line.y.findLast((y) => y !== null) ?? NaN;
  const order = lines.toSorted((a, b) => (lowestFirst ? last(a) - last(b) : last(b) - last(a)) || 0);
  const list = document.createElement("ol");
  list.className = "legend";
  const most = lines.length > MOST ? MOST / 2 : MOST;
  for (const line of order.slice(0, most)) {
    const item = document.createElement("li");
    item.dataset.run = line.id;
    item.title = line.name;
    item.append(row(line, line.label, Number.isFinite(last(line)) ? show(last(line)) : ""));
    item.addEventListener("click", () => choose(line));
    list.append(item);
  }
  if (order.length > most) {
    const item = document.createElement("li");
    item.className = "quiet";
    item.textContent = `and ${order.length - most} more: point at a curve, or at a row of the table`;
    list.append(item);
  }
  if (old) old.replaceWith(list);
  else element.append(list);
}

/** Where on the plot the pointer is: shares of its width and height, from the lower left; null outside of it. */
function spot(canvas, event) {
  const box = canvas.querySelector(".nsewdrag")?.getBoundingClientRect();
  if (!box?.width) return null;
  const [x, y] = [event.clientX - box.left, box.bottom - event.clientY];
  return x < 0 || y < 0 || x > box.width || y > box.height ? null : { x, y, width: box.width, height: box.height };
}

/** Functions from a value to pixels on an axis, and back. */
function pixels(axis, size) {
  const map = axis.type === "log" ? Math.log10 : (value) => value;
  const back = axis.type === "log" ? (value) => 10 ** value : (value) => value;
  const [low, high] = axis.type === "date" ? axis.range.map((text) => Date.parse(text.replace(" ", "T"))) : axis.range;
  return {
    to: (value) => ((map(value) - low) / (high - low)) * size,
    from: (pixel) => back(low + (pixel / size) * (high - low)),
  };
}

/** The value of a line at x, between its points; null outside of the line and in its gaps. */
function valueAt({ x, y }, at) {
  let [low, high] = [0, x.length - 1];
  if (high < 0 || at < x[0] || at > x[high]) return null;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (x[middle] <= at) low = middle;
    else high = middle;
  }
  if (at === x[high]) return y[high];
  if (at === x[low]) return y[low];
  if (y[low] === null || y[high] === null) return null;
  return y[low] + ((y[high] - y[low]) * (at - x[low])) / (x[high] - x[low]);
}

/** The place of a logged point next to x. */
function nextTo(lines, at) {
  let best = NaN;
  for (const { x } of lines) {
    let [low, high] = [0, x.length - 1];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (x[middle] <= at) low = middle;
      else high = middle;
    }
    for (const i of [low, high]) if (!(Math.abs(x[i] - at) >= Math.abs(best - at))) best = x[i];
  }
  return best;
}

/** What the pointer is at: {x, line: the next one, rows: [line, value] of all lines there}. */
function pointed(canvas, figure, place) {
  const [across, up] = [pixels(canvas.layout.xaxis, place.width), pixels(canvas.layout.yaxis, place.height)];
  const lines = figure.lines.filter((line) => !line.outside);
  if (!figure.whole) {
    const far = (line) => Math.hypot(across.to(line.x[0]) - place.x, up.to(line.y[0]) - place.y);
    const line = lines.reduce((a, b) => (a && far(a) <= far(b) ? a : b), null);
    return line && far(line) < NEAR / 2 ? { line } : {};
  }
  const [x, at] = [nextTo(lines, across.from(place.x)), across.from(place.x)];
  // Parallel coordinates have no values between their axes: the line is chosen where the pointer is.
  const rows = lines.map((line) => [line, valueAt(line, figure.tip ? at : x)]).filter(([, y]) => y !== null);
  const far = ([, y]) => Math.abs(up.to(y) - place.y);
  const nearest = rows.reduce((a, b) => (a && far(a) <= far(b) ? a : b), null);
  return { x, rows, line: nearest && far(nearest) < NEAR ? nearest[0] : null };
}

/** The rows of a tooltip: the highest first, at most as many as fit, and the one that is pointed at. */
function rowsOf(figure, target, height) {
  if (figure.tip) return figure.tip(target.line).map(([label, value], i) => row(i ? null : target.line, label, value));
  const order = target.rows.toSorted((a, b) => b[1] - a[1]);
  const most = Math.max(1, Math.min(MOST, Math.floor(height / ROW) - 3));
  const listed = order.slice(0, most);
  const own = target.line && !listed.some(([line]) => line === target.line) ? order.find(([line]) => line === target.line) : null;
  const rows = [...listed, ...(own ? [own] : [])].map(([line, value]) => {
    const element = row(line, line.label, show(value));
    element.classList.toggle("marked", line === target.line);
    return element;
  });
  const rest = order.length - rows.length;
  if (rest > 0) rows.push(row(null, `and ${rest} more`, ""));
  return [row(null, figure.head(target.x), ""), ...rows];
}

/** Follow the pointer over a chart. figure(): what is drawn; choose(line): called for a click. */
export function follow(canvas, figure, choose) {
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  canvas.parentElement.append(tip);
  let at = null;
  const leave = () => {
    if (at) mark([]);
    at = null;
    tip.hidden = true;
  };
  const move = (event) => {
    const [now, place] = [figure(), spot(canvas, event)];
    if (!place || !now?.lines.length || event.buttons || event.target.closest(".modebar")) return leave();
    const target = pointed(canvas, now, place);
    if (target.line !== at) mark(target.line ? [target.line.id, target.line.group].filter(Boolean) : []);
    at = target.line ?? null;
    canvas.classList.toggle("pointed", Boolean(at?.id));
    if (!at && (now.tip || !target.rows?.length)) return (tip.hidden = true);
    tip.replaceChildren(...rowsOf(now, target, canvas.clientHeight));
    tip.hidden = false;
    const frame = canvas.parentElement.getBoundingClientRect();
    const x = event.clientX - frame.left;
    const [width, room] = [tip.offsetWidth, frame.width];
    const left = Math.max(0, Math.min(room - width, x > room / 2 ? x - width - 18 : x + 18));
    const top = Math.max(0, Math.min(frame.height - tip.offsetHeight, event.clientY - frame.top - tip.offsetHeight / 2));
    // A transform moves the layer of the tooltip: the chart below is not painted again.
    tip.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
  };
  // At most once per frame: a pointer moves more often.
  let latest = null;
  canvas.addEventListener("pointermove", (event) => {
    if (!latest) requestAnimationFrame(() => latest && (move(latest), (latest = null)));
    latest = event;
  });
  canvas.addEventListener("pointerleave", () => {
    latest = null;
    leave();
  });
  // A drag, and the double click that resets the zoom, choose nothing. While a button is down, plotly covers
  // the page, and the pointer leaves the chart.
  let [down, chosen] = [null, 0];
  canvas.addEventListener("pointerdown", ({ clientX, clientY }) => (down = { clientX, clientY, line: at }), true);
  canvas.addEventListener("click", (event) => {
    clearTimeout(chosen);
    if (!down?.line || event.target.closest?.(".modebar")) return;
    const { line, clientX, clientY } = down;
    down = null;
    if (event.detail > 1 || Math.hypot(event.clientX - clientX, event.clientY - clientY) > 4) return;
    chosen = setTimeout(() => choose(line), DOUBLE_CLICK);
  });
}

// Ranges on the axes of parallel coordinates: dragged along an axis, or typed in the form below the chart. They are
// kept in the page's address; lines outside fade, and the server leaves their runs out of the table.
import { isInside } from "./parallel.js";

const NEAR = 14; // pixels from the pointer to the axis that it drags along
const LEAST = 4; // pixels of a drag

/** Draw the ranges of a chart and let the reader change them. chart: {canvas, data, figure}. */
export function showRanges(element, chart) {
  chart.tools ??= create(element, chart);
  const { tools, data, figure } = chart;
  if (tools.axes !== JSON.stringify(data.axes)) fill(tools, data.axes);
  for (const field of tools.form.elements) {
    if (field.name && field !== document.activeElement) field.value = new URLSearchParams(location.search).get(field.name) ?? "";
  }
  fade(chart, figure.spans, figure.isChosen);
}

/** Fade the lines outside of the ranges, and their rows in the tables of the page. */
function fade({ canvas, figure, tools }, spans, isChosen) {
  const inside = new Set();
  figure.lines.forEach((line, i) => {
    line.outside = !isInside(line, spans, isChosen);
    if (!line.outside) inside.add(line.id);
    canvas.querySelector(`.trace${CSS.escape(i)}`)?.classList.toggle("outside", line.outside);
  });
  const isAny = isChosen.some(Boolean);
  tools.fadeRows = () => {
    for (const { classList, dataset } of document.querySelectorAll("tr[data-run]")) {
      classList.toggle("outside", isAny && !inside.has(dataset.run) && !inside.has(dataset.group));
    }
  };
  tools.fadeRows();
  tools.count.textContent = isAny ? `${inside.size} of ${figure.lines.length} in range` : "";
  tools.reset.hidden = !isAny;
}

function make(name, properties, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

/** The form below the chart, and what follows the pointer. */
function create(element, chart) {
  const form = make("form", { className: "tools" });
  // live.js puts its fields into the address.
  Object.assign(form.dataset, { swapForm: "", draws: "" });
  const count = make("output", {});
  const reset = make("button", { type: "button", textContent: "Reset ranges", hidden: true });
  const summary = make("summary", {}, "Ranges ", make("span", { className: "quiet", textContent: "drag along an axis, or type here" }));
  const tools = make("div", { className: "ranges" }, make("div", { className: "tools" }, make("details", {}, summary, form), count, reset));
  element.after(tools);
  Object.assign(tools, { form, count, reset });
  const clear = () => {
    for (const field of form.elements) field.value = "";
    form.requestSubmit();
  };
  reset.addEventListener("click", clear);
  chart.canvas.addEventListener("dblclick", () => !reset.hidden && clear());
  // A number counts when it is complete; live.js submits choices itself.
  form.addEventListener("change", ({ target }) => {
    const before = new URLSearchParams(location.search).get(target.name) ?? "";
    if (target.matches("input") && target.value !== before) form.requestSubmit();
  });
  form.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !event.target.matches("input")) return;
    event.preventDefault();
    form.requestSubmit();
  });
  // The tables of the page are replaced when they change.
  new MutationObserver(() => tools.isConnected && tools.fadeRows?.()).observe(document.querySelector("main"), { childList: true, subtree: true });
  drag(element, chart, form);
  return tools;
}

/** Two fields for each axis. */
function fill(tools, axes) {
  tools.axes = JSON.stringify(axes);
  tools.form.replaceChildren(
    ...axes.map(({ name, type, categories }) => {
      const fields = ["from", "to"].map((end) => {
        const properties = { name: `${end}.${name}`, ariaLabel: `${name} ${end}` };
        if (type !== "category") return make("input", { ...properties, type: "number", step: "any", placeholder: end });
        const options = categories.map((text) => make("option", { value: text, textContent: text }));
        return make("select", properties, make("option", { value: "", textContent: end }), ...options);
      });
      return make("span", { className: "range" }, make("span", { className: "quiet", textContent: name }), ...fields);
    }),
  );
}

/** The place of the pointer: the axis near it, its share of the axis, and what a drag needs to draw. */
function placeOf({ canvas }, event) {
  const box = canvas.querySelector(".nsewdrag")?.getBoundingClientRect();
  if (!box?.width) return null;
  const [left, right] = canvas.layout.xaxis.range;
  const [low, high] = canvas.layout.yaxis.range;
  const unit = box.width / (right - left);
  const axis = Math.round((event.clientX - box.left) / unit + left);
  const at = box.left + (axis - left) * unit;
  const share = low + ((box.bottom - event.clientY) / box.height) * (high - low);
  return { axis, isNear: Math.abs(event.clientX - at) < NEAR && share > low && share < high, share: Math.min(1, Math.max(0, share)), at };
}

function drag(element, chart, form) {
  const bar = make("div", { className: "range-bar", hidden: true });
  element.append(bar);
  let start = null;
  const spanTo = (place) => [Math.min(start.share, place.share), Math.max(start.share, place.share)];
  const stop = () => {
    start = null;
    bar.hidden = true;
  };
  chart.canvas.addEventListener("pointerdown", (event) => {
    const place = placeOf(chart, event);
    // A finger scrolls the page.
    if (!place?.isNear || !chart.figure.scales[place.axis] || event.button !== 0 || event.pointerType === "touch") return;
    start = { ...place, clientY: event.clientY };
  }, true);
  addEventListener("pointermove", (event) => {
    if (!start) {
      const place = chart.canvas.contains(event.target) ? placeOf(chart, event) : null;
      chart.canvas.classList.toggle("at-axis", Boolean(place?.isNear));
      return;
    }
    if (Math.abs(event.clientY - start.clientY) < LEAST) return;
    const frame = element.getBoundingClientRect();
    const [top, bottom] = [start.clientY, event.clientY].sort((a, b) => a - b);
    Object.assign(bar.style, { left: `${start.at - frame.left - 6}px`, top: `${top - frame.top}px`, height: `${bottom - top}px` });
    bar.hidden = false;
    const { spans, isChosen } = chart.figure;
    fade(chart, spans.with(start.axis, spanTo(placeOf(chart, event))), isChosen.with(start.axis, true));
  });
  addEventListener("pointercancel", stop);
  addEventListener("pointerup", (event) => {
    if (!start) return;
    if (Math.abs(event.clientY - start.clientY) >= LEAST) {
      const span = spanTo(placeOf(chart, event));
      const texts = chart.figure.scales[start.axis].text(...span) ?? ["", ""];
      const { name } = chart.data.axes[start.axis];
      ["from", "to"].forEach((end, i) => (form.elements[`${end}.${name}`].value = texts[i]));
      form.requestSubmit();
    }
    stop();
  });
}

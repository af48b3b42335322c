// Parallel coordinates: one line per run, or per recipe, over an axis for each parameter and one for the metric.
import { between, layout, plain, shortened, show, style } from "./look.js";

// How much of the page's background is in the line with the worst value of the last axis. The best line has none. The
// scale has no hues: elsewhere on the page, a hue says which run it is.
const WEAKEST = 0.75;

/** Where a value lies on an axis of parallel coordinates, from 0 to 1, and its ticks as [share, text]. */
function scale({ type, categories }, values) {
  if (type === "category") {
    const last = Math.max(categories.length - 1, 1);
    const place = (name) => (categories.length > 1 ? categories.indexOf(name) / last : 0.5);
    const every = Math.ceil(categories.length / 10);
    const share = (name) => (categories.includes(name) ? place(name) : null);
    // The names between two shares.
    const text = (low, high) => {
      const names = categories.filter((name) => place(name) >= low - 1e-9 && place(name) <= high + 1e-9);
      return names.length ? [names[0], names.at(-1)] : null;
    };
    return { place, share, text, ticks: categories.filter((_, i) => i % every === 0).map((name) => [place(name), shortened(name, 16)]) };
  }
  const numbers = values.filter((value) => value !== null);
  const [least, most] = [Math.min(...numbers), Math.max(...numbers)];
  const map = type === "log" ? Math.log10 : (value) => value;
  const back = type === "log" ? (value) => 10 ** value : (value) => value;
  const width = map(most) - map(least);
  const place = (value) => (value === null ? null : width > 0 ? (map(value) - map(least)) / width : 0.5);
  const distinct = [...new Set(numbers)];
  // Whole powers of ten, or whole steps.
  const step = type === "log" ? Math.ceil(width / 5) : niceStep(width / 4);
  const steps = Array.from({ length: 12 }, (_, i) => (Math.ceil(map(least) / step) + i) * step).filter((at) => at <= map(most));
  const at = distinct.length <= 5 ? distinct : steps.length > 1 ? steps.map(back) : [least, most];
  // Below the axis, on it or above it.
  const beside = (value) => (value < least ? -1 : value > most ? 2 : place(value));
  const share = (text) => (text.trim() !== "" && Number.isFinite(Number(text)) ? beside(Number(text)) : null);
  // The numbers at two shares, in digits that a person can read; an end of the axis is left open.
  const number = (at) => Number(back(map(least) + at * width).toPrecision(4)).toString();
  const text = (low, high) => (width > 0 ? [low <= 0 ? "" : number(low), high >= 1 ? "" : number(high)] : null);
  return { place, share, text, ticks: at.map((value) => [place(value), Number(value.toPrecision(3)).toString()]) };
}

/** Whether a line is in the ranges of all axes that have one. */
export const isInside = ({ y }, spans, isChosen) =>
  spans.every(([low, high], i) => !isChosen[i] || (y[i] !== null && y[i] >= low - 1e-9 && y[i] <= high + 1e-9));

const selection = (i, [low, high]) => ({
  type: "rect",
  x0: i - 0.03,
  x1: i + 0.03,
  y0: Math.max(low, 0) - 0.012,
  y1: Math.min(high, 1) + 0.012,
  line: { color: style("--accent"), width: 1.5 },
  fillcolor: style("--accent"),
  opacity: 0.35,
});

/** The step 1, 2 or 5 times a power of ten that is next above. */
function niceStep(step) {
  const power = 10 ** Math.floor(Math.log10(step));
  return power * [1, 2, 5, 10].find((factor) => factor * power >= step * 0.999);
}

export function parallel(data, { ranges }, width) {
  const count = data.axes.length;
  const scales = data.axes.map((axis, i) => scale(axis, data.lines.map((line) => line.values[i])));
  const lines = data.lines.map((line) => {
    const y = line.values.map((value, i) => scales[i].place(value));
    const last = y[count - 1];
    const share = WEAKEST * (data.lowest_first ? last : 1 - last);
    return { ...line, x: y.map((_, i) => i), y, color: between([style("--text"), style("--back")], share) };
  });
  // Of each axis its range as shares, [0, 1] without one; an end that is not on the axis does not count.
  const spans = data.axes.map(({ name }, i) => (ranges[name] ?? ["", ""]).map((text, end) => scales[i].share(text) ?? end));
  const isChosen = data.axes.map(({ name }) => name in ranges);
  for (const line of lines) line.outside = !isInside(line, spans, isChosen);
  const room = Math.max(5, Math.floor((0.85 * width) / count / 7));
  const text = (extra) => ({ showarrow: false, font: { size: 10.5, color: style("--text") }, ...extra });
  return {
    lines,
    scales,
    spans,
    isChosen,
    whole: true,
    traces: lines.map((line, i) => ({
      type: "scatter",
      mode: "lines",
      hoverinfo: "skip",
      uid: `${i}`,
      x: line.x,
      y: line.y,
      line: { color: line.color.replace("rgb(", "rgba(").replace(")", ",0.85)"), width: lines.length > 60 ? 1.2 : 2 },
    })),
    layout: layout({
      margin: { l: 30, r: 62, t: 34, b: 12 },
      dragmode: false,
      xaxis: { visible: false, range: [-0.15, count - 1 + 0.25], fixedrange: true },
      yaxis: { visible: false, range: [-0.06, 1.06], fixedrange: true },
      shapes: [
        ...data.axes.map((_, i) => ({ type: "line", layer: "below", x0: i, x1: i, y0: 0, y1: 1, line: { color: style("--quiet"), width: 1 } })),
        ...data.axes.flatMap((_, i) => (isChosen[i] ? [selection(i, spans[i])] : [])),
      ],
      annotations: data.axes.flatMap(({ name }, i) => [
        text({ x: i, y: 1, yshift: 18, xanchor: "left", text: `<b>${plain(shortened(name, room))}</b>`, hovertext: plain(name) }),
        ...scales[i].ticks.map(([share, label]) => text({ x: i, y: share, xanchor: "left", xshift: 3, text: plain(label), bgcolor: style("--back"), opacity: 0.85 })),
      ]),
    }),
    tip: (line) => [[line.label, ""], ...data.axes.map(({ name }, i) => [name, show(line.values[i])])],
  };
}

// Turns the data of a chart into what plotly draws: SVG lines, points and bars. WebGL needs scripts that the
// content policy forbids.
//
// A figure: {traces, layout, lines, whole, axes, tip}. lines: what can be pointed at, [{id, label, name, color, dash,
// x, y}] in plotly's coordinates; whole: whether they are lines, otherwise points; axes: whether x and y are values;
// names: of the values of x, where these are places in a list; isDate: whether x is in milliseconds; smooth: the
// weight of the moving average; tip: the rows of a tooltip.
import { axis, layout, leftMargin, logTicks, named, plain, show, style, wholeTicks } from "./look.js";
import { logged } from "./logged_figures.js";
import { parallel } from "./parallel.js";
import { smoothed } from "./settings.js";

/** Milliseconds as plotly's date axes take them, in the reader's time zone. */
const date = (milliseconds) => {
  const moment = new Date(milliseconds);
  return new Date(milliseconds - moment.getTimezoneOffset() * 60000).toISOString().slice(0, -1);
};

// Alpha values of the raw line below a smooth one, and of an interval. Not the opacity of a trace: browsers paint each
// trace with an opacity apart, which is slow with hundreds.
const [FAINT, BAND] = ["40", "2e"];

function curves(data, { smooth, log }) {
  const isDate = data.axis_type === "date";
  const series = data.series.map((one) => ({
    ...one,
    x: one.points.map((point) => (isDate ? point[0] * 1000 : point[0])),
    y: one.points.map((point) => point[1]),
  }));
  const all = series.flatMap((one) => one.x);
  const [least, most] = [all.reduce((a, b) => Math.min(a, b), Infinity), all.reduce((a, b) => Math.max(a, b), -Infinity)];
  const isWhole = !isDate && all.every(Number.isInteger);
  const traces = [];
  const lines = series.map((one, i) => {
    const place = isDate ? one.x.map(date) : one.x;
    const base = { type: "scatter", hoverinfo: "skip", x: place };
    if (one.band) traces.push(band(one, i));
    if (smooth) traces.push({ ...base, uid: `${i}raw`, y: one.y, mode: "lines", line: { color: one.color + FAINT, width: 1 } });
    // Of a long curve, the means of its buckets are smoothed: their least and greatest values zigzag.
    const means = smooth && one.means ? one.means : null;
    const x = means ? means.map((point) => (isDate ? point[0] * 1000 : point[0])) : one.x;
    const y = smooth ? smoothed(x, means ? means.map((point) => point[1]) : one.y, smooth, most - least) : one.y;
    const width = one.band ? 2.4 : series.length > 60 ? 1.3 : 1.8;
    const line = { color: one.color, dash: one.dash, width };
    // A point between gaps has no line.
    const mode = y.some((value, at) => value !== null && (y[at - 1] ?? null) === null && (y[at + 1] ?? null) === null) ? "lines+markers" : "lines";
    traces.push({ ...base, uid: `${i}`, x: isDate ? x.map(date) : x, y, mode, line, marker: { color: one.color, size: 5 } });
    return { ...one, x, y };
  });
  const values = lines.flatMap((line) => line.y).filter((value) => value !== null);
  const above = values.filter((value) => value > 0);
  // A logarithmic axis has no place for zeros and negative values; without any others, the axis stays linear.
  const isLog = log && above.length > 0;
  const left = log && above.length < values.length ? values.length - above.length : 0;
  // Around a small constant, such as a learning rate, the range that plotly chooses is -1 to 1.
  const constant = values.length > 0 && values[0] !== 0 && values.every((value) => value === values[0]);
  const range = constant ? { range: [0, 2 * values[0]] } : {};
  const types = { xaxis: axis(data.axis, isDate ? { type: "date" } : { type: "linear", ...(isWhole ? wholeTicks(least, most) : {}) }) };
  return {
    traces,
    lines,
    whole: true,
    axes: true,
    legend: true,
    isDate,
    smooth,
    note: left ? (isLog ? `${left} value${left > 1 ? "s" : ""} at or below 0 not on the log axis` : "no value above 0: linear axis") : "",
    layout: layout({ ...types, margin: { l: leftMargin(isLog ? above : values, isLog), r: 14, t: 10, b: 34 }, yaxis: axis("", isLog ? logTicks(above) : { type: "linear", ...range }) }),
    head: (x) => (isDate ? date(x).replace("T", " ").slice(0, 19) : `${data.axis} ${show(x)}`),
  };
}

/** The interval of a mean, as an area. */
function band(one, i) {
  const x = one.band.map((row) => row[0]);
  return {
    type: "scatter",
    hoverinfo: "skip",
    uid: `${i}band`,
    mode: "lines",
    x: [...x, ...x.toReversed()],
    y: [...one.band.map((row) => row[2]), ...one.band.map((row) => row[1]).toReversed()],
    fill: "toself",
    fillcolor: one.color + BAND,
    line: { width: 0 },
  };
}

function strip(data) {
  const { type, categories } = data.axis;
  const lines = data.points.map((point) => ({
    ...point,
    x: [type === "category" ? categories.indexOf(point.value[0]) : point.value[0]],
    y: [point.value[1]],
  }));
  const at = lines.map((line) => line.x[0]).filter((x) => x !== null);
  const isWhole = type !== "category" && at.every(Number.isInteger);
  const ticks = isWhole && type === "value" ? wholeTicks(Math.min(...at), Math.max(...at)) : {};
  return {
    ...points(lines),
    names: type === "category" ? categories : null,
    layout: layout({
      margin: { l: 62, r: 14, t: 10, b: 30 },
      xaxis: axis("", type === "category" ? named(categories) : type === "log" ? logTicks(at) : { type: "linear", ...ticks }),
      yaxis: axis(data.metric),
    }),
    tip: (line) => [[line.label, ""], [data.axis.name, show(line.value[0])], [data.metric, show(line.value[1])]],
  };
}

/** Two objectives of a sweep, with the runs of the Pareto front ringed and, of two objectives, joined by steps. */
function objectives(data) {
  const lines = data.points.map((point) => ({ ...point, x: [point.value[0]], y: [point.value[1]] }));
  const figure = points(lines);
  const either = (front, other) => lines.map((line) => (line.front ? front : other));
  Object.assign(figure.traces[0].marker, { size: either(12, 8), opacity: either(1, 0.55), line: { width: either(2, 0), color: style("--text") } });
  const [across, up] = data.axes;
  // Where both objectives get worse beyond a step, its corner lies; which way depends on the goals.
  const shape = across.goal === "minimize" ? "hv" : "vh";
  const [x, y] = [0, 1].map((place) => data.front.map((value) => value[place]));
  figure.traces.push({ type: "scatter", mode: "lines", hoverinfo: "skip", uid: "front", x, y, line: { shape, width: 1.5, dash: "dot", color: style("--text") } });
  const title = ({ name, goal }) => `${name} (${goal})`;
  return {
    ...figure,
    layout: layout({ margin: { l: 62, r: 14, t: 10, b: 40 }, xaxis: axis(title(across)), yaxis: axis(title(up)) }),
    tip: (line) => [[line.label, ""], ...line.rows.map(([name, value]) => [name, show(value)]), ...(line.front ? [["on the Pareto front", ""]] : [])],
  };
}

/** Points in one trace: plotly takes as long for a trace as for hundreds of points. */
const points = (lines) => ({
  lines,
  whole: false,
  axes: true,
  traces: [
    {
      type: "scatter",
      mode: "markers",
      hoverinfo: "skip",
      uid: "points",
      x: lines.map((line) => line.x[0]),
      y: lines.map((line) => line.y[0]),
      marker: { color: lines.map((line) => line.color), size: 9, opacity: 0.85 },
    },
  ],
});

function plot(data, settings) {
  if (data.kind === "histogram") return bars(data.series[0].points.map(([x, y]) => [x, x, y]));
  if (data.kind === "bar") {
    const rows = data.series.flatMap((series) => series.points);
    const names = rows.map((row) => String(row[0]));
    return columns(names.map((_, i) => i), rows.map((row) => row[1]), names, data.series[0]?.color, axis(data.axis, named(names)));
  }
  // Names on the axis instead of numbers.
  const names = [...new Set(data.series.flatMap((one) => one.points.map((point) => point[0])))];
  const isNamed = !names.every((name) => typeof name === "number");
  const place = (x) => (isNamed ? names.indexOf(x) : x);
  const series = data.series.map((one) => ({ ...one, points: one.points.map(([x, y]) => [place(x), y]) }));
  const labelled = isNamed ? axis(data.axis, named(names.map(String))) : axis(data.axis);
  if (data.kind === "line") {
    const figure = curves({ ...data, series }, { ...settings, smooth: 0, log: false });
    figure.layout.xaxis = labelled;
    return { ...figure, names: isNamed ? names : null };
  }
  const lines = series.flatMap((one) => one.points.map(([x, y]) => ({ ...one, x: [x], y: [y] })));
  return {
    ...points(lines),
    names: isNamed ? names : null,
    layout: layout({ xaxis: labelled, yaxis: axis("") }),
    tip: (line) => [...(line.label ? [[line.label, ""]] : []), [`${data.axis} ${show(isNamed ? names[line.x[0]] : line.x[0])}`, show(line.y[0])]],
  };
}

/** Bars [left, right, height] of a histogram. */
function bars(data) {
  const x = data.map(([left, right]) => (left + right) / 2);
  return columns(x, data.map((bar) => bar[2]), x.map(show), style("--accent"), axis(""));
}

function columns(x, y, names, color, xaxis) {
  return {
    lines: [],
    traces: [{ type: "bar", x, y, marker: { color }, customdata: names.map(plain), hovertemplate: "%{customdata}: %{y}<extra></extra>" }],
    layout: layout({ hovermode: "closest", bargap: 0.05, xaxis, yaxis: axis("", { rangemode: "tozero" }) }),
  };
}

export const FIGURES = { curves, parallel, strip, objectives, plot, bars, plotly: logged };

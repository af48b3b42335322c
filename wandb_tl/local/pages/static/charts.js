// Draws every [data-chart] of the page with ECharts: what each shows, its data-src tells as JSON.
/* global echarts */

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const charts = new Map(); // element -> {chart, text: the JSON that is drawn, data}

const inView = new Set();

const visible = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    inView[isIntersecting ? "add" : "delete"](target);
    if (isIntersecting) load(target);
  }
}, { rootMargin: "300px" });

const resized = new ResizeObserver((entries) => {
  for (const entry of entries) charts.get(entry.target.parentElement)?.chart.resize();
});

/** Take charge of the charts below `root`; those that come into view are fetched and drawn. */
export function adopt(root) {
  for (const element of root.querySelectorAll("[data-chart]")) visible.observe(element);
}

/** Forget the charts below `root`, which is about to be replaced. */
export function abandon(root) {
  for (const element of root.querySelectorAll("[data-chart]")) {
    visible.unobserve(element);
    inView.delete(element);
    resized.unobserve(element.querySelector(".canvas"));
    charts.get(element)?.chart.dispose();
    charts.delete(element);
  }
}

/** Fetch the data of the charts in view again, and draw those anew whose data have changed. */
export async function refresh() {
  await Promise.all([...inView].map(load));
}

async function load(element) {
  let text = element.dataset.bars;
  if (text === undefined) {
    const answer = await fetch(element.dataset.src, { headers: { Accept: "application/json" } });
    if (!answer.ok) return;
    text = await answer.text();
  }
  if (charts.get(element)?.text === text || !element.isConnected) return;
  const known = charts.get(element) ?? { chart: create(element) };
  known.text = text;
  known.data = JSON.parse(text);
  charts.set(element, known);
  render(element, known);
}

function create(element) {
  const canvas = element.querySelector(".canvas");
  resized.observe(canvas);
  const chart = echarts.init(canvas, null, { renderer: "canvas" });
  chart.on("click", (event) => {
    // A curve is a series with the run's id, a line or a point holds it in its data.
    const id = event.data?.id ?? event.seriesId;
    const runs = document.querySelector("main").dataset.runs;
    if (id && runs && !location.pathname.includes("/runs/")) location.href = `${runs}/${encodeURIComponent(id)}`;
  });
  // Drawing anew forgets what was chosen on the axes of parallel coordinates.
  const chosen = new Map();
  chart.on("axisareaselected", (event) => chosen.set(event.parallelAxisId, event.intervals));
  element.choose = () => {
    for (const [parallelAxisId, intervals] of chosen) chart.dispatchAction({ type: "axisAreaSelect", parallelAxisId, intervals });
  };
  return chart;
}

function render(element, { chart, data }) {
  const option = OPTIONS[element.dataset.chart](data);
  chart.setOption({ animation: false, textStyle: { fontFamily: style("--font") }, ...option }, { notMerge: true });
  element.choose();
  element.dataset.drawn = element.dataset.chart === "bars" ? data.length : size(data);
}

const size = (data) => (data.series ?? data.lines ?? data.points ?? []).length;

const show = (value) => (typeof value === "number" ? Number(value.toPrecision(4)).toString() : String(value ?? ""));

function axis(name, extra = {}) {
  return {
    name,
    nameLocation: "middle",
    nameGap: 26,
    scale: true,
    axisLine: { lineStyle: { color: style("--line") } },
    axisLabel: { color: style("--quiet"), hideOverlap: true, formatter: extra.type === "category" ? undefined : show },
    nameTextStyle: { color: style("--quiet") },
    splitLine: { lineStyle: { color: style("--line"), opacity: 0.5 } },
    ...extra,
  };
}

const tooltip = (extra = {}) => ({
  confine: true,
  backgroundColor: style("--panel"),
  borderColor: style("--line"),
  textStyle: { color: style("--text"), fontSize: 12 },
  ...extra,
});

const grid = { left: 8, right: 14, top: 10, bottom: 30, containLabel: true };

const shortened = (text) => (text.length > 18 ? `${text.slice(0, 17)}…` : text);

function escaped(text) {
  const span = document.createElement("span");
  span.textContent = text;
  return span.innerHTML;
}

const mark = (color, text) =>
  `<span class="dot" style="background:${encodeURI(color)}"></span>${escaped(text)}`;

function curves(data) {
  const many = data.series.length > 1;
  const whole = data.series.every((series) => series.points.every((point) => Number.isInteger(point[0])));
  return {
    grid,
    tooltip: tooltip({
      trigger: "axis",
      order: "valueDesc",
      formatter: (points) =>
        [escaped(`${data.axis} ${show(points[0].axisValue)}`)]
          .concat(points.slice(0, 12).map((p) => `${mark(p.color, many ? p.seriesName : "")} <b>${escaped(show(p.value[1]))}</b>`))
          .concat(points.length > 12 ? [`and ${points.length - 12} more`] : [])
          .join("<br>"),
    }),
    xAxis: axis(data.axis, { type: "value", min: "dataMin", max: "dataMax", minInterval: whole ? 1 : 0 }),
    yAxis: axis("", { type: "value" }),
    series: data.series.map((series) => ({
      type: "line",
      id: series.id,
      name: series.name,
      data: series.points,
      color: series.color,
      showSymbol: series.points.length < 2,
      symbolSize: 6,
      lineStyle: { width: 1.8 },
      triggerLineEvent: true,
      emphasis: { focus: "series", lineStyle: { width: 3 } },
    })),
  };
}

function parallel(data) {
  const metric = data.axes.length - 1;
  const values = data.lines.map((line) => line.values[metric]);
  const [least, most] = [Math.min(...values), Math.max(...values)];
  return {
    tooltip: tooltip({ formatter: (line) => `${escaped(line.data.name)}<br>${escaped(data.axes[metric].name)} <b>${escaped(show(line.data.value[metric]))}</b>` }),
    // There is nothing to tell apart by colour before the second value.
    visualMap: least < most ? {
      dimension: metric,
      min: least,
      max: most,
      calculable: false,
      orient: "vertical",
      right: 0,
      top: "middle",
      itemHeight: 120,
      itemWidth: 10,
      formatter: show,
      textStyle: { color: style("--quiet") },
      inRange: { color: ["#3b4cc0", "#2a9d8f", "#e9a03b", "#d1495b"] },
    } : undefined,
    parallel: { left: 60, right: 110, top: 40, bottom: 24, parallelAxisDefault: { nameLocation: "end" } },
    parallelAxis: data.axes.map((given, dim) => ({
      dim,
      id: given.name,
      name: given.name,
      type: given.type,
      data: given.categories,
      scale: true,
      nameTextStyle: { color: style("--text"), width: 120, overflow: "truncate" },
      axisLine: { lineStyle: { color: style("--quiet") } },
      axisLabel: { color: style("--text"), backgroundColor: style("--back"), padding: [1, 3], formatter: given.type === "category" ? shortened : show },
      areaSelectStyle: { width: 16, borderColor: style("--accent"), color: style("--accent"), opacity: 0.25 },
    })),
    series: [
      {
        type: "parallel",
        smooth: 0.1,
        lineStyle: { width: 2, opacity: 0.8, color: style("--accent") },
        inactiveOpacity: 0.05,
        activeOpacity: 1,
        data: data.lines.map((line) => ({ id: line.id, name: line.name, value: line.values })),
      },
    ],
  };
}

function strip(data) {
  return {
    grid,
    tooltip: tooltip({
      formatter: (point) => `${mark(point.color, point.data.name)}<br>${escaped(show(point.value[0]))} <b>${escaped(show(point.value[1]))}</b>`,
    }),
    xAxis: axis("", { type: data.axis.type, data: data.axis.categories }),
    yAxis: axis(data.metric, { type: "value", nameGap: 44 }),
    series: [
      {
        type: "scatter",
        symbolSize: 10,
        data: data.points.map((point) => ({ ...point, itemStyle: { color: point.color, opacity: 0.85 } })),
      },
    ],
  };
}

function plot(data) {
  if (data.kind === "bar") {
    const points = data.series.flatMap((series) => series.points);
    return {
      grid,
      tooltip: tooltip({ trigger: "item" }),
      xAxis: axis(data.axis, { type: "category", data: points.map((point) => String(point[0])) }),
      yAxis: axis("", { type: "value", scale: false }),
      series: [{ type: "bar", data: points.map((point) => point[1]), color: data.series[0]?.color }],
    };
  }
  if (data.kind === "histogram") return bars(data.series[0].points.map(([x, y]) => [x, x, y]));
  if (data.kind === "line") return curves(data);
  return {
    grid,
    tooltip: tooltip({ trigger: "item" }),
    xAxis: axis(data.axis, { type: "value" }),
    yAxis: axis("", { type: "value" }),
    series: data.series.map((series) => ({ type: "scatter", name: series.name, color: series.color, symbolSize: 6, data: series.points })),
  };
}

function bars(data) {
  return {
    grid,
    tooltip: tooltip({ trigger: "axis" }),
    xAxis: axis("", { type: "category", data: data.map(([left, right]) => show((left + right) / 2)) }),
    yAxis: axis("", { type: "value", scale: false }),
    series: [{ type: "bar", data: data.map((bar) => bar[2]), barCategoryGap: "4%", color: style("--accent") }],
  };
}

const OPTIONS = { curves, parallel, strip, plot, bars };

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const [element, known] of charts) render(element, known);
});

adopt(document);

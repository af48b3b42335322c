// Draws every [data-chart] of the page with plotly: what each shows, its data-src gives as JSON.
import { offerTable } from "./chart_table.js";
import { buttons } from "./downloads.js";
import { FIGURES } from "./figures.js";
import { follow, legend, mark } from "./hover.js";
import { showRanges } from "./ranges.js";
import { settings } from "./settings.js";

const charts = new Map(); // element -> {canvas, text: the JSON that is drawn, data, figure, again: timer of the next part}
const inView = new Set();
// Milliseconds until more of a part is asked for, and between two parts that are drawn.
const [AGAIN, DRAWN_PARTS] = [200, 5000];
let loading = null;

const visible = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    inView[isIntersecting ? "add" : "delete"](target);
    if (isIntersecting) load(target).catch(() => {});
  }
}, { rootMargin: "300px" });

const resized = new ResizeObserver((entries) => {
  for (const { target, contentRect } of entries) {
    if (contentRect.width && charts.get(target.parentElement)?.figure) window.Plotly.Plots.resize(target);
  }
});

/** plotly.js, fetched when the first chart comes into view: the page can be read before. */
function plotly() {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = document.querySelector("main").dataset.plotly;
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => {
      loading = null;
      reject(new Error("plotly.js did not load"));
    };
    document.head.append(script);
  });
  return loading;
}

/** Take charge of the charts below `root`; those that come into view are fetched and drawn. */
export function adopt(root) {
  for (const element of root.querySelectorAll("[data-chart]")) visible.observe(element);
}

/** Forget the charts below `root`, which is about to be replaced. */
export function abandon(root) {
  for (const element of root.querySelectorAll("[data-chart]")) {
    visible.unobserve(element);
    inView.delete(element);
    const chart = charts.get(element);
    if (!chart) continue;
    clearTimeout(chart.again);
    resized.unobserve(chart.canvas);
    window.Plotly?.purge(chart.canvas);
    charts.delete(element);
  }
}

/** Fetch the data of the charts in view again, and draw those anew whose data have changed. */
export async function refresh() {
  await Promise.all([...inView].map(load));
}

/** Draw the charts in view anew, as the settings in the address have changed; others when they come into view. */
export async function redraw() {
  for (const element of inView) if (charts.get(element)?.drawn !== wanted(element)) await draw(element);
  await refresh();
}

async function load(element) {
  plotly().catch(() => {});
  let [text, more] = [element.dataset.bars, false];
  if (text === undefined) {
    const { x } = settings(element.dataset.chart);
    // Where a part was drawn just now, the next one is of use only if it is whole.
    const { part } = charts.get(element) ?? {};
    more = part?.wanted === wanted(element) && Date.now() - part.at < DRAWN_PARTS;
    const choices = `${x ? `&x=${encodeURIComponent(x)}` : ""}${more ? "&more=1" : ""}`;
    const source = element.dataset.src + (element.dataset.chart === "curves" ? choices : "");
    const answer = await fetch(source, { headers: { Accept: "application/json" } });
    if (!answer.ok) return;
    text = await answer.text();
    // An answer that comes late: the reader has chosen something else to draw over.
    if (settings(element.dataset.chart).x !== x) return;
  }
  if (!element.isConnected) return;
  const chart = charts.get(element) ?? create(element);
  // Where histories are long, the server answers in parts, which are not all drawn: drawing takes longer. Two
  // parts may be equal, and more follow.
  const isPart = text.includes('"partial":true');
  clearTimeout(chart.again);
  if (isPart) chart.again = setTimeout(() => inView.has(element) && load(element).catch(() => {}), AGAIN);
  if (chart.text === text && chart.drawn === wanted(element)) return;
  if (isPart && more) return;
  chart.part = isPart ? { wanted: wanted(element), at: Date.now() } : null;
  Object.assign(chart, { text, data: JSON.parse(text) });
  await draw(element);
}

function create(element) {
  const chart = { canvas: element.querySelector(".canvas") };
  charts.set(element, chart);
  follow(chart.canvas, () => chart.figure, choose);
  return chart;
}

/** Go to the page of the run that a line belongs to; the mean of a group has none. */
function choose(line) {
  const runs = document.querySelector("main").dataset.runs;
  if (line.id && !line.id.startsWith("group:") && runs && !location.pathname.includes("/runs/")) location.href = `${runs}/${encodeURIComponent(line.id)}`;
}

const config = (element) => ({
  displaylogo: false,
  doubleClick: "reset",
  modeBarButtonsToRemove: ["toImage", "select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"],
  modeBarButtonsToAdd: buttons(element.getAttribute("aria-label"), () => charts.get(element)),
});

/** The settings that a chart is to be drawn with. */
const wanted = (element) => JSON.stringify(settings(element.dataset.chart));

async function draw(element) {
  const library = await plotly();
  const chart = charts.get(element);
  if (!chart?.data || !element.isConnected) return;
  // Several parts may have come while plotly.js was loading.
  if (chart.drawnText === chart.text && chart.drawn === wanted(element)) return;
  const figure = FIGURES[element.dataset.chart](chart.data, settings(element.dataset.chart), chart.canvas.clientWidth);
  // Where the reader has zoomed to stays while new data arrive, not where an axis changes.
  const { xaxis, yaxis } = figure.layout;
  figure.layout.uirevision = [xaxis.title?.text, xaxis.type, yaxis.type].join();
  Object.assign(chart, { figure, drawn: wanted(element), drawnText: chart.text });
  chart.canvas.lines = figure.lines;
  await library.react(chart.canvas, figure.traces, figure.layout, config(element));
  const { lacking, partial, axis } = chart.data;
  const notes = [partial ? "still reading" : lacking ? `${lacking} without ${axis}` : "", figure.note];
  const note = notes.filter(Boolean).join(" · ");
  if (figure.legend) element.querySelector("figcaption").dataset.note = note;
  if (figure.legend) legend(element, figure.lines, chart.data.lowest_first, choose);
  if (figure.spans) showRanges(element, chart);
  mark([]);
  resized.observe(chart.canvas);
  offerTable(element, chart);
  element.dataset.drawn = element.dataset.chart === "bars" ? chart.data.length : size(chart.data);
}

const size = (data) => (data.series ?? data.lines ?? data.points ?? []).length;

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const chart of charts.values()) chart.drawn = null;
  redraw();
});

adopt(document);

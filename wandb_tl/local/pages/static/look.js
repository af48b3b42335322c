// What all charts look like: colours of the page's scheme, axes, numbers, and text that plotly takes literally.

export const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** A text without meaning to plotly, which reads tags such as <b> and <a>. */
export const plain = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

/** A value in four significant digits. */
export function show(value) {
  if (typeof value !== "number") return String(value ?? "");
  return Math.abs(value) >= 1e4 && Number.isInteger(value) ? value.toLocaleString("en") : Number(value.toPrecision(4)).toString();
}

/** The middle of a long text is left out: names often differ at their ends. */
export function shortened(text, most) {
  if (text.length <= most) return text;
  const half = Math.max(1, Math.floor((most - 1) / 2));
  return `${text.slice(0, most - 1 - half)}…${text.slice(-half)}`;
}

export function axis(title, extra = {}) {
  return {
    title: { text: plain(title), standoff: 6 },
    gridcolor: style("--line"),
    linecolor: style("--line"),
    zeroline: false,
    exponentformat: "e",
    nticks: 7,
    ...extra,
  };
}

/** Ticks of whole numbers where the values are whole: plotly puts halves between the first epochs. */
export const wholeTicks = (least, most) => (most - least <= 8 ? { tick0: 0, dtick: 1 } : {});

/** The margin left of a y axis that has room for the labels of its ticks, which are long where values differ little. */
export function leftMargin(values, isLog) {
  const [least, most] = [values.reduce((a, b) => Math.min(a, b), Infinity), values.reduce((a, b) => Math.max(a, b), -Infinity)];
  const [step, size] = [(most - least) / 5, Math.max(Math.abs(least), Math.abs(most))];
  if (!(step > 0)) return 50;
  const digits = Math.ceil(Math.log10(size / step)) + 1;
  const places = Math.max(0, Math.ceil(-Math.log10(step)));
  const isShort = size < 1e6 && step > 1e-6;
  const length = isLog && most / least > 10 ? `${least}`.length : isShort ? `${Math.trunc(size)}`.length + 1 + places : digits + 5;
  return Math.min(130, Math.max(50, 16 + 6.4 * length));
}

/** Ticks of a logarithmic axis over some values: plotly has one per digit, and labels it with the digit alone. */
export function logTicks(values) {
  const above = values.filter((value) => value > 0);
  const decades = Math.log10(above.reduce((a, b) => Math.max(a, b), 0) / above.reduce((a, b) => Math.min(a, b), Infinity));
  const step = decades > 2 ? { dtick: Math.ceil(decades / 6) } : decades > 0.8 ? { dtick: "D2" } : {};
  // Between values that differ little, the format would make labels equal.
  return { type: "log", ...(decades > 0.1 ? { tickformat: "~g" } : {}), ...step };
}

/** An axis of names, at the places 0, 1, … */
export const named = (names) => ({
  automargin: true,
  tickmode: "array",
  tickvals: names.map((_, i) => i),
  ticktext: names.map((name) => plain(shortened(name, 18))),
  range: [-0.5, names.length - 0.5],
});

export function layout(extra) {
  return {
    autosize: true,
    // Margins that fit the labels of themselves would draw everything twice.
    margin: { l: 50, r: 14, t: 10, b: 34 },
    paper_bgcolor: style("--back"),
    plot_bgcolor: style("--back"),
    font: { family: "system-ui, sans-serif", size: 11, color: style("--quiet") },
    showlegend: false,
    hovermode: false,
    // A finger scrolls the page.
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    hoverlabel: { bgcolor: style("--panel"), bordercolor: style("--line"), font: { color: style("--text") } },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: style("--quiet"), activecolor: style("--text") },
    ...extra,
  };
}

/** A colour between those of a scale, share from 0 to 1. */
export function between(colors, share) {
  const place = Math.min(Math.max(share, 0), 1) * (colors.length - 1);
  const [low, part] = [Math.min(Math.floor(place), colors.length - 2), place - Math.min(Math.floor(place), colors.length - 2)];
  const [a, b] = [colors[low], colors[low + 1]].map((color) => [1, 3, 5].map((i) => parseInt(color.slice(i, i + 2), 16)));
  return `rgb(${a.map((one, i) => Math.round(one + (b[i] - one) * part)).join(",")})`;
}

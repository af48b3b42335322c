// Charts that a run logged as plotly figures: they keep their own colours, on a white card.

// plotly draws these with WebGL or with maps from other hosts, which the content policy forbids.
const DRAWN = new Set(["scatter", "bar", "box", "violin", "histogram", "histogram2d", "histogram2dcontour", "heatmap", "contour", "pie", "sunburst", "treemap", "icicle", "funnel", "funnelarea", "waterfall", "candlestick", "ohlc", "indicator", "table", "sankey", "scatterpolar", "barpolar", "scatterternary", "carpet", "scattercarpet", "contourcarpet", "image", "parcats"]);
// The lists of a kind's trace whose values are one row of the table per point; those of others have no table.
const LISTS = {
  ...Object.fromEntries(["scatter", "bar", "box", "violin", "histogram", "funnel", "waterfall"].map((kind) => [kind, ["x", "y"]])),
  ...Object.fromEntries(["pie", "sunburst", "treemap", "icicle", "funnelarea"].map((kind) => [kind, ["labels", "values"]])),
  ...Object.fromEntries(["scatterpolar", "barpolar"].map((kind) => [kind, ["theta", "r"]])),
};
// Kinds with a value for each place of a grid.
const GRIDS = new Set(["heatmap", "contour"]);
// Kinds whose points plotly counts where x or y is missing.
const COUNTED = new Set(["scatter", "bar", "funnel", "waterfall"]);
const WITHOUT_WEBGL = { scattergl: "scatter", heatmapgl: "heatmap", scatterpolargl: "scatterpolar" };

/** data: {data, layout} as wandb.Plotly stores it. */
export function logged({ data, layout = {} }) {
  const traces = data.map((trace) => ({ ...trace, type: WITHOUT_WEBGL[trace.type] ?? trace.type ?? "scatter" }));
  const drawn = traces.filter((trace) => DRAWN.has(trace.type));
  const left = [...new Set(traces.filter((trace) => !DRAWN.has(trace.type)).map((trace) => trace.type))];
  const { width, height, images, ...rest } = layout;
  const words = left.length ? [{ text: `not drawn here: ${left.join(", ").replaceAll("<", "&lt;")}`, showarrow: false, xref: "paper", yref: "paper", x: 0.5, y: 0.5 }] : [];
  return {
    traces: drawn,
    lines: [],
    rows: drawn.some(({ type }) => LISTS[type] || GRIDS.has(type)) ? () => rowsOf(drawn) : null,
    layout: {
      ...rest,
      autosize: true,
      xaxis: { ...layout.xaxis },
      yaxis: { ...layout.yaxis },
      paper_bgcolor: "#fff",
      plot_bgcolor: layout.plot_bgcolor ?? "#fff",
      font: { color: "#24292f", ...layout.font },
      margin: { l: 50, r: 20, t: layout.title?.text ? 50 : 20, b: 40 },
      annotations: [...(layout.annotations ?? []), ...words],
    },
  };
}

// How plotly names the types of the numbers that it stores as base64.
const NUMBERS = { f8: Float64Array, f4: Float32Array, i4: Int32Array, u4: Uint32Array, i2: Int16Array, u2: Uint16Array, i1: Int8Array, u1: Uint8Array };

/** A list of values, or of lists of them, as plotly stores either: as it is, or as base64. */
function listed(values) {
  if (Array.isArray(values)) return values;
  const type = NUMBERS[values?.dtype];
  if (!type) return [];
  const list = [...new type(Uint8Array.from(atob(values.bdata), (letter) => letter.charCodeAt(0)).buffer)];
  const width = Number(String(values.shape ?? "").split(",")[1]);
  return width ? Array.from({ length: list.length / width }, (_, row) => list.slice(row * width, (row + 1) * width)) : list;
}

/** The values of traces as rows of a table, below its headings. */
function rowsOf(traces) {
  const rows = traces.flatMap((trace, number) => {
    const name = trace.name ?? `${trace.type} ${number + 1}`;
    return (GRIDS.has(trace.type) ? gridRows(trace) : listRows(trace)).map((row) => ({ trace: name, ...row }));
  });
  const headings = [...new Set(rows.flatMap(Object.keys))];
  return [headings, ...rows.map((row) => headings.map((heading) => row[heading]))];
}

/** {x, y} of each point, or what else its kind has. A null is a gap. */
function listRows(trace) {
  const lists = (LISTS[trace.type] ?? []).map((field) => [field, listed(trace[field])]);
  const present = lists.filter(([, values]) => values.length || COUNTED.has(trace.type));
  const count = Math.max(0, ...lists.map(([, values]) => values.length));
  return Array.from({ length: count }, (_, place) => Object.fromEntries(present.map(([field, values]) => [field, values.length ? values[place] : place])));
}

/** {x, y, z} of each place of a grid. */
function gridRows(trace) {
  const [across, up] = [listed(trace.x), listed(trace.y)];
  return listed(trace.z).flatMap((row, j) => listed(row).map((z, i) => ({ x: across[i] ?? i, y: up[j] ?? j, z })));
}

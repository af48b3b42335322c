// Charts that a run logged as plotly figures: they keep their own colours, on a white card.

// plotly draws these with WebGL or with maps from other hosts, which the content policy forbids.
const DRAWN = new Set(["scatter", "bar", "box", "violin", "histogram", "histogram2d", "histogram2dcontour", "heatmap", "contour", "pie", "sunburst", "treemap", "icicle", "funnel", "funnelarea", "waterfall", "candlestick", "ohlc", "indicator", "table", "sankey", "scatterpolar", "barpolar", "scatterternary", "carpet", "scattercarpet", "contourcarpet", "image", "parcats"]);
// Kinds whose values are one row per point.
const WITH_ROWS = new Set(["scatter", "bar"]);
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
    rows: drawn.some((trace) => WITH_ROWS.has(trace.type)) ? () => rowsOf(drawn) : null,
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

function listed(values) {
  if (Array.isArray(values)) return values;
  const type = NUMBERS[values?.dtype];
  return type && !values.shape ? [...new type(Uint8Array.from(atob(values.bdata), (letter) => letter.charCodeAt(0)).buffer)] : [];
}

/** The points of lines and bars as rows of a table, below its headings. */
function rowsOf(traces) {
  const rows = traces.filter((trace) => WITH_ROWS.has(trace.type)).flatMap((trace, number) => {
    const [across, up] = [listed(trace.x), listed(trace.y)];
    const name = trace.name ?? `${trace.type} ${number + 1}`;
    // Plotly counts the points of a trace that has only one of both. A null is a gap.
    return Array.from({ length: Math.max(across.length, up.length) }, (_, place) => [name, across.length ? across[place] : place, up.length ? up[place] : place]);
  });
  return [["trace", "x", "y"], ...rows];
}

// Charts that a run logged as plotly figures: they keep their own colours, on a white card.

// plotly draws these with WebGL or with maps from other hosts, which the content policy forbids.
const DRAWN = new Set(["scatter", "bar", "box", "violin", "histogram", "histogram2d", "histogram2dcontour", "heatmap", "contour", "pie", "sunburst", "treemap", "icicle", "funnel", "funnelarea", "waterfall", "candlestick", "ohlc", "indicator", "table", "sankey", "scatterpolar", "barpolar", "scatterternary", "carpet", "scattercarpet", "contourcarpet", "image", "parcats"]);
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

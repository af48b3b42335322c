// A chart as a PNG picture or as a CSV table. plotly's own button makes the picture from a blob: address, which
// the content policy forbids; this one uses a data: address.

const SCALE = 2;

function save(blob, name) {
  const link = document.createElement("a");
  Object.assign(link, { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

async function png(canvas, name) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const picture = new Image();
  picture.src = await window.Plotly.toImage(canvas, { format: "svg", width, height });
  await picture.decode();
  const bitmap = document.createElement("canvas");
  Object.assign(bitmap, { width: width * SCALE, height: height * SCALE });
  bitmap.getContext("2d").drawImage(picture, 0, 0, bitmap.width, bitmap.height);
  bitmap.toBlob((blob) => save(blob, `${name}.png`));
}

/** A field as spreadsheets read it. One that starts like a formula gets a blank before it. */
function field(value) {
  const text = String(value ?? "");
  const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? ` ${text}` : text;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** The points that the chart shows: a row of headings, then one row each, with names and times as they are written. */
export function rowsOf({ lines, names, isDate, smooth }, data) {
  const written = (x) => (names ? names[x] : isDate ? new Date(x).toISOString() : x);
  const across = isDate ? "time" : data.axis?.name ?? data.axis ?? "x";
  const up = (data.metric ?? data.key ?? "y") + (smooth ? ` (smoothed ${smooth})` : "");
  const rows = lines.flatMap((line) => line.x.map((x, i) => [line.id, line.name, line.label, written(x), line.y[i]]));
  return [["id", "name", "label", across, up], ...rows];
}

function csv(figure, data, name) {
  const text = rowsOf(figure, data).map((row) => row.map(field).join(",")).join("\r\n");
  save(new Blob([text], { type: "text/csv" }), `${name}.csv`);
}

const SHEET = { width: 24, height: 24, path: "M3 3h18v18H3zM5 9h4v4H5zm6 0h8v4h-8zM5 15h4v4H5zm6 0h8v4h-8z" };

/** Buttons for plotly's bar. chart(): what is drawn. */
export function buttons(name, chart) {
  const csvButton = { name: "csv", title: "Download the points as CSV", icon: SHEET, click: () => csv(chart().figure, chart().data, name) };
  const pngButton = { name: "png", title: "Download the chart as PNG", icon: window.Plotly.Icons.camera, click: (canvas) => png(canvas, name) };
  return [pngButton, ...(chart().figure.lines.length && chart().figure.axes ? [csvButton] : [])];
}

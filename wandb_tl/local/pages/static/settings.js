// How the reader wants curves to be drawn: kept in the page's address, so that a link shows the same charts.

/** What holds for a kind of chart. smooth: weight of the moving average, 0 for none. log: whether y is logarithmic.
x: what to draw over. ranges: {name of an axis: [from, to]} of parallel coordinates, as written in the address. */
export function settings(kind) {
  const query = new URLSearchParams(location.search);
  if (kind === "parallel") return { ranges: ranges(query) };
  const smooth = Number(query.get("smooth"));
  return {
    smooth: smooth > 0 && smooth < 1 ? smooth : 0,
    log: query.get("log") === "1",
    x: query.get("x") ?? "",
  };
}

function ranges(query) {
  // Without a prototype: an axis can have any name, such as "constructor".
  const axes = Object.create(null);
  for (const [key, text] of query) {
    const [, end, name] = key.match(/^(from|to)\.(.+)$/s) ?? [];
    if (name === undefined || text === "") continue;
    axes[name] ??= ["", ""];
    axes[name][end === "from" ? 0 : 1] = text;
  }
  return axes;
}

/** The moving average of a line, its weight per thousandth of the width of the chart, without a bias to zero. */
export function smoothed(x, y, weight, width) {
  const base = Math.min(Math.sqrt(weight), 0.999);
  let [last, total, before] = [0, 0, x[0]];
  return y.map((value, i) => {
    if (value === null) return null;
    const share = base ** (width > 0 ? ((x[i] - before) / width) * 1000 : 1);
    last = last * share + value;
    total = total * share + 1;
    before = x[i];
    return last / total;
  });
}

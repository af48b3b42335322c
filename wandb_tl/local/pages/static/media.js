// Media: one slider for all strips of a run, boxes and masks over images, and confusion matrices.
import { adopt } from "./charts.js";

let readerPosition = null; // the position that the reader has moved the slider to; null while it stands at the newest

const slider = () => document.querySelector("#media-step input[type=range]");
const positions = (input) => JSON.parse(input.dataset.positions);

/** Show what a strip had last logged at the slider's position. */
async function slide(strip) {
  const moments = [...strip.querySelectorAll(".moment")];
  if (!moments.length) return;
  const logged = moments.filter((moment) => readerPosition === null || Number(moment.dataset.position) <= readerPosition || moment.dataset.line === "-1");
  const moment = logged.at(-1);
  moments.forEach((other) => (other.hidden = other !== moment));
  strip.querySelector("[data-nothing]").hidden = moment !== undefined;
  strip.querySelector("[data-place]").textContent = moment?.dataset.at ?? "";
  if (!moment?.dataset.part) return;
  const answer = await fetch(moment.dataset.part).catch(() => null);
  if (!answer?.ok || !moment.dataset.part) return;
  delete moment.dataset.part;
  moment.innerHTML = await answer.text();
  adopt(moment);
  drawMasks(moment);
}

/** Take charge of the media below `part`, which is new on the page. */
export function place(part) {
  const input = slider();
  if (input && part.contains(input) && readerPosition !== null) {
    // A later step has come: the reader's own stays.
    const at = positions(input).findLastIndex((position) => position <= readerPosition);
    input.value = Math.max(at, 0);
    name(input);
  }
  for (const strip of part.matches(".strip") ? [part] : part.querySelectorAll(".strip")) slide(strip);
  drawMasks(part);
}

function name(input) {
  const at = String(Number(positions(input)[input.value].toPrecision(6)));
  input.nextElementSibling.textContent = at;
  input.setAttribute("aria-valuetext", at);
}

document.addEventListener("input", ({ target }) => {
  if (target === slider()) {
    readerPosition = target.value === target.max ? null : positions(target)[target.value];
    name(target);
    document.querySelectorAll(".strip").forEach(slide);
  } else if (target.matches(".layers [data-layer]")) {
    const figure = target.closest("figure");
    for (const box of figure.querySelectorAll("rect[data-layer]")) {
      if (box.dataset.layer === target.dataset.layer) box.toggleAttribute("hidden", !target.checked);
    }
    for (const canvas of figure.querySelectorAll("canvas[data-mask]")) paint(canvas);
  } else if (target.matches("[data-shares]")) {
    shares(target.closest(".matrix"), target.checked);
  }
});

// ---- masks ----------------------------------------------------------------------------------------------------

const pixels = new WeakMap(); // canvas -> ids of classes, one per pixel

function drawMasks(part) {
  for (const canvas of part.querySelectorAll("canvas[data-mask]")) {
    if (pixels.has(canvas)) continue;
    pixels.set(canvas, null);
    seen.observe(canvas);
  }
}

const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    seen.unobserve(target);
    read(target).catch(() => pixels.delete(target));
  }
}, { rootMargin: "300px" });

async function read(canvas) {
  const image = new Image();
  image.src = canvas.dataset.mask;
  await image.decode();
  Object.assign(canvas, { width: image.naturalWidth, height: image.naturalHeight });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  pixels.set(canvas, Uint8Array.from({ length: data.length / 4 }, (_, i) => data[4 * i]));
  paint(canvas);
}

/** Paint the classes of a mask that are ticked. */
function paint(canvas) {
  const classes = pixels.get(canvas);
  if (!classes) return;
  const colors = new Map();
  for (const box of canvas.closest("figure").querySelectorAll(".layers input:checked")) {
    if (box.dataset.layer === `${canvas.dataset.group} ${box.dataset.class}`) {
      colors.set(Number(box.dataset.class), [1, 3, 5].map((i) => parseInt(box.dataset.color.slice(i, i + 2), 16)));
    }
  }
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  classes.forEach((number, i) => {
    const color = colors.get(number);
    if (color) image.data.set([...color, 128], 4 * i);
  });
  context.putImageData(image, 0, 0);
  canvas.dataset.classes = [...colors.keys()].join(" ");
}

// ---- confusion matrices ---------------------------------------------------------------------------------------

function shares(matrix, isShare) {
  const largest = Number(matrix.querySelector("table").dataset.largest);
  for (const cell of matrix.querySelectorAll("td[data-count]")) {
    const text = cell.querySelector("a") ?? cell;
    const share = Number(cell.dataset.share);
    const count = Number(cell.dataset.count);
    if (count) text.textContent = isShare ? `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %` : cell.dataset.count;
    const shade = isShare ? share : count / largest;
    cell.style.setProperty("--share", shade.toFixed(3));
    cell.classList.toggle("strong", shade > 0.5);
  }
}

/** What a cell without a count stands for. */
function nothing(cell) {
  const actual = cell.parentElement.querySelector("th").textContent;
  const predicted = cell.closest("table").querySelectorAll("thead tr:last-child th")[cell.cellIndex].title;
  return `0 of ${actual} predicted as ${predicted}`;
}

for (const kind of ["pointerover", "focusin"]) {
  document.addEventListener(kind, ({ target }) => {
    const cell = target.closest?.(".matrix tbody td");
    if (cell) cell.closest(".matrix").querySelector("[data-cell]").textContent = cell.title || nothing(cell);
  });
}

place(document.body);

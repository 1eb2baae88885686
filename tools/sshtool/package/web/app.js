// The page: takes a picture, and shows the detections. The runtime computes in this thread and not in a worker, because
// the page's policy, which forbids other connections, does not apply to workers.

import * as ort from "./runtime/ort.wasm.bundle.min.mjs";
import { detect } from "./detector.js";

const MOST_PIXELS = 50_000_000; // twice a 24-megapixel photo
const SVG = "http://www.w3.org/2000/svg";
const element = (id) => document.getElementById(id);
const [file, status, error, score] = ["file", "status", "error", "score"].map(element);

let page; // models.json
let chosen; // the entry of the model in models.json, and its session
let shown; // the last picture and its detections, if any
let last = 0; // the number of the last picture or model; what an older one gives is dropped

ort.env.wasm.numThreads = 1; // more need headers that static servers do not send

function create(parent, name, attributes = {}, text = "") {
  const made = parent.namespaceURI === SVG ? document.createElementNS(SVG, name) : document.createElement(name);
  Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
  made.textContent = text;
  parent.append(made);
  return made;
}

function fail(message) {
  status.textContent = "";
  error.textContent = message;
  error.hidden = false;
}

function say(message) {
  error.hidden = true;
  status.textContent = message;
}

/** Let the browser paint before the computation blocks it. */
const painted = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));

async function start() {
  say("Loading the model …");
  page = await (await fetch("models.json")).json();
  document.title = page.title;
  element("title").textContent = page.title;
  element("weights").textContent = page.note;
  element("runtime").textContent = page.runtime;
  page.models.forEach((model, number) => create(element("model"), "option", { value: number }, model.label));
  element("choice").hidden = page.models.length < 2;
  await load();
}

async function load() {
  const number = ++last;
  const model = page.models[element("model").value || 0];
  file.disabled = score.disabled = true;
  say("Loading the model …");
  const session = await ort.InferenceSession.create(model.path, { executionProviders: ["wasm"] });
  if (number !== last) return session.release();
  await chosen?.session.release();
  score.min = model.least;
  score.value = chosen ? score.value : model.shown;
  showLeast();
  chosen = { session, model };
  file.disabled = score.disabled = false;
  say("Ready.");
  if (shown) await compute(shown.picture);
}

/** The pixels of a picture, upright, its first frame, on grey where it is transparent, without colour profiles. */
async function decoded(blob) {
  const options = { imageOrientation: "from-image", colorSpaceConversion: "none" };
  const bitmap = await createImageBitmap(blob, options).catch(() => {
    throw new Error(`${blob.name}: is no picture that this browser can decode; save it as PNG or JPEG`);
  });
  const { width, height } = bitmap;
  if (width * height > MOST_PIXELS) {
    throw new Error(`${blob.name}: has ${width}x${height} pixels, at most ${MOST_PIXELS} are taken; scale it down`);
  }
  const canvas = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  canvas.fillStyle = "rgb(128 128 128)";
  canvas.fillRect(0, 0, width, height);
  canvas.drawImage(bitmap, 0, 0);
  bitmap.close();
  return { pixels: canvas.getImageData(0, 0, width, height).data, width, height, blob };
}

async function take(blobs) {
  if (file.disabled) throw new Error("no model is loaded yet; give the picture again when the page is ready");
  if (blobs.length !== 1) throw new Error(`${blobs.length} files came; give one picture at a time`);
  const number = ++last;
  forget();
  say(`Reading ${blobs[0].name} …`);
  const picture = await decoded(blobs[0]);
  if (number === last) await compute(picture);
}

function forget() {
  element("result").hidden = true;
  URL.revokeObjectURL(element("photo").src);
  shown = undefined;
}

async function compute(picture) {
  const number = last;
  const { session, model } = chosen;
  say(`Computing ${picture.blob.name} …`);
  await painted();
  const { detections, fitting, network } = await detect(ort, session, model, picture);
  if (number !== last) return;
  if (!shown) element("photo").src = URL.createObjectURL(picture.blob);
  shown = { picture, detections };
  const seconds = (value) => `${(value / 1000).toFixed(2)} s`;
  const size = `${picture.width}x${picture.height} pixels, fitted to ${model.width}x${model.height}`;
  element("timing").textContent = `${size} in ${seconds(fitting)}; the network took ${seconds(network)}.`;
  show();
}

function showLeast() {
  element("least").textContent = Number(score.value).toFixed(2);
}

/** Show the detections of at least the chosen score. */
function show() {
  const { picture, detections } = shown;
  const visible = detections.filter((item) => item.score >= score.value);
  const found = `${visible.length} ${page.noun}${visible.length === 1 ? "" : "s"}`;
  element("heading").textContent = `${found} in ${picture.blob.name}`;
  element("photo").alt = `${picture.blob.name}, with ${found} marked; the table lists them`;
  say(`Found ${found}.`);
  draw(visible, picture);
  list(visible);
  element("result").hidden = false;
  scaleNumbers();
}

function draw(visible, { width, height }) {
  const boxes = element("boxes");
  const unit = Math.max(width, height) / 100;
  const { last_pixel: last } = chosen.model;
  boxes.setAttribute("viewBox", `0 0 ${width} ${height}`);
  boxes.replaceChildren();
  visible.forEach(({ box: [left, top, right, bottom], landmarks }, number) => {
    // A box with its corner pixels goes from the first pixel's edge to the last one's.
    const place = { x: left, y: top, width: right - left + last, height: bottom - top + last };
    create(boxes, "rect", { class: "edge", ...place });
    create(boxes, "rect", { class: "box", ...place });
    landmarks.forEach(([x, y]) => create(boxes, "circle", { cx: x + last / 2, cy: y + last / 2, r: 0.5 * unit }));
    const beside = top > 3 * unit ? "-0.3em" : "1.1em";
    create(boxes, "text", { x: left, y: top, dx: "0.2em", dy: beside }, String(number + 1));
  });
}

/** Keep the numbers of the boxes as large as text, whatever the size of the shown picture. */
function scaleNumbers() {
  const boxes = element("boxes");
  const { width } = boxes.getBoundingClientRect();
  if (width && shown) boxes.setAttribute("font-size", (14 * shown.picture.width) / width);
}

function list(visible) {
  const points = Array.from(visible[0]?.landmarks ?? [], (_, number) => `point ${number + 1} (x, y)`);
  const columns = ["no.", "score", "left", "top", "right", "bottom", ...points, ...chosen.model.attributes];
  element("columns").replaceChildren();
  columns.forEach((name) => create(element("columns"), "th", { scope: "col" }, name));
  element("rows").replaceChildren();
  visible.forEach(({ box, score: value, landmarks, attributes }, number) => {
    const row = create(element("rows"), "tr");
    create(row, "th", { scope: "row" }, String(number + 1));
    const pixels = (place) => place.map((at) => at.toFixed(1));
    const cells = [value.toFixed(3), ...pixels(box), ...landmarks.map((point) => pixels(point).join(", "))];
    [...cells, ...attributes.map((share) => share.toFixed(2))].forEach((text) => create(row, "td", {}, text));
  });
}

/** Call a function for an event, and show what it throws. */
function on(target, name, act) {
  target.addEventListener(name, async (event) => {
    try {
      await act(event);
    } catch (problem) {
      fail(problem.message);
    }
  });
}

new ResizeObserver(scaleNumbers).observe(element("boxes"));
const over = (is) => element("drop").classList.toggle("over", is);
on(file, "change", () => file.files.length && take(file.files));
on(element("model"), "change", load);
on(score, "input", () => (showLeast(), shown && show()));
on(document, "dragover", (event) => (event.preventDefault(), over(true)));
on(document, "dragleave", () => over(false));
on(document, "drop", (event) => (event.preventDefault(), over(false), take(event.dataTransfer.files)));
start().catch((problem) => fail(`The model cannot be loaded: ${problem.message}`));

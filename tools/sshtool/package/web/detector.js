// From the pixels of a picture to detections in its pixels, by the rules of `sshtool detect`.

import { letterbox } from "./resampling.js";

const ORDERS = { RGB: [0, 1, 2], BGR: [2, 1, 0] };

/** The tensor's data: the channels of RGBA pixels in the model's order and layout, minus its mean. */
export function inputData(pixels, model) {
  const area = model.width * model.height;
  const data = new (model.dtype === "uint8" ? Uint8Array : Float32Array)(3 * area);
  const [step, jump] = model.layout === "NHWC" ? [3, 1] : [1, area];
  ORDERS[model.order].forEach((source, channel) => {
    for (let at = 0; at < area; at++) data[at * step + channel * jump] = pixels[at * 4 + source] - model.mean[channel];
  });
  return data;
}

/** Detect in RGBA pixels. `session` is of `ort`, the runtime's module; `model` is an entry of models.json. */
export async function detect(ort, session, model, { pixels, width, height }) {
  const start = performance.now();
  const fitted = letterbox(pixels, width, height, model.width, model.height, model.padding);
  const shape = model.layout === "NHWC" ? [1, model.height, model.width, 3] : [1, 3, model.height, model.width];
  const input = new ort.Tensor(model.dtype, inputData(fitted.pixels, model), shape);
  const begun = performance.now();
  const outputs = await session.run({ [model.input]: input });
  const ended = performance.now();
  return { detections: decode(outputs, model, fitted, width, height), fitting: begun - start, network: ended - begun };
}

/** The detections, best first, whose box lies in the picture and not in the padding. */
function decode({ boxes, scores, count, landmarks, attributes }, model, { scaleX, scaleY }, width, height) {
  const half = model.last_pixel / 2; // boxes with their corner pixels count from pixels' centres
  const x = (value) => (value + half) / scaleX - half;
  const y = (value) => (value + half) / scaleY - half;
  const clip = (value, size) => Math.min(Math.max(value, 0), size - model.last_pixel);
  const results = [];
  for (let number = 0; number < count.data[0]; number++) {
    const [left, top, right, bottom] = row(boxes, number);
    const values = [...row(boxes, number), scores.data[number], ...row(landmarks, number), ...row(attributes, number)];
    if (!values.every(Number.isFinite)) throw new Error("the outputs of the model are not finite");
    if (x(left) >= width - half || y(top) >= height - half) continue;
    const points = row(landmarks, number);
    results.push({
      box: [clip(x(left), width), clip(y(top), height), clip(x(right), width), clip(y(bottom), height)],
      score: scores.data[number],
      landmarks: Array.from({ length: points.length / 2 }, (_, k) => [x(points[2 * k]), y(points[2 * k + 1])]),
      attributes: Array.from(row(attributes, number)),
    });
  }
  return results;
}

/** The values of one detection in an output [1, K, ...], none of an output that the model does not have. */
function row(output, number) {
  if (!output) return [];
  const size = output.data.length / output.dims[1];
  return output.data.subarray(size * number, size * (number + 1));
}

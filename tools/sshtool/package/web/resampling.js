// The same resampling as `sshtool detect`: a bicubic filter that averages where it reduces, in two passes of whole
// numbers with 22 bits behind the point. So the network gets the same bytes here and there.

const BITS = 22;
const SHARPNESS = -0.5;
const REACH = 2; // of the filter, in pixels of the smaller grid

function cubic(distance) {
  const x = Math.abs(distance);
  if (x < 1) return ((SHARPNESS + 2) * x - (SHARPNESS + 3)) * x * x + 1;
  return x < REACH ? (((x - 5) * x + 8) * x - 4) * SHARPNESS : 0;
}

/** The first neighbour of each new pixel, and the weights of its neighbours. */
function taps(before, after) {
  const scale = before / after;
  const stretch = Math.max(scale, 1);
  return Array.from({ length: after }, (_, place) => {
    const centre = (place + 0.5) * scale;
    const first = Math.max(Math.trunc(centre - REACH * stretch + 0.5), 0);
    const last = Math.min(Math.trunc(centre + REACH * stretch + 0.5), before);
    const inverse = 1 / stretch;
    const weights = Array.from({ length: last - first }, (_, k) => cubic((k + first - centre + 0.5) * inverse));
    const sum = weights.reduce((total, weight) => total + weight, 0);
    return { first, weights: Int32Array.from(weights, (weight) => whole((sum ? weight / sum : weight) * 2 ** BITS)) };
  });
}

const whole = (value) => Math.trunc(value + (value < 0 ? -0.5 : 0.5));

/** Resample one axis of `lines` x `before` pixels. `step` leads to the next pixel of the axis, `jump` to the next line. */
function pass(source, lines, jump, step, before, after, target, targetJump, targetStep) {
  taps(before, after).forEach(({ first, weights }, place) => {
    for (let line = 0; line < lines; line++) {
      const from = line * jump + first * step;
      const to = line * targetJump + place * targetStep;
      for (let channel = 0; channel < 3; channel++) {
        let sum = 1 << (BITS - 1);
        for (let k = 0; k < weights.length; k++) sum += source[from + k * step + channel] * weights[k];
        target[to + channel] = sum >> BITS; // a clamped array cuts to 0-255
      }
    }
  });
}

/** Resize RGBA pixels to `newWidth` x `newHeight`; the fourth channel is not used. */
export function resize(pixels, width, height, newWidth, newHeight) {
  let result = pixels;
  if (newWidth !== width) {
    const target = new Uint8ClampedArray(newWidth * height * 4);
    pass(result, height, width * 4, 4, width, newWidth, target, newWidth * 4, 4);
    result = target;
  }
  if (newHeight !== height) {
    const target = new Uint8ClampedArray(newWidth * newHeight * 4);
    pass(result, newWidth, 4, newWidth * 4, height, newHeight, target, 4, newWidth * 4);
    result = target;
  }
  return result;
}

/** Round as Python does: a half goes to the even neighbour. */
function round(value) {
  const low = Math.floor(value);
  const above = value - low;
  return above > 0.5 || (above === 0.5 && low % 2) ? low + 1 : low;
}

/**
 * Put RGBA pixels of `width` x `height` into the upper left corner of the network's input, in their proportions, and
 * fill the rest with the colour `padding`.
 *
 * Returns the pixels, RGBA, and the scales from the picture to the input.
 */
export function letterbox(pixels, width, height, inputWidth, inputHeight, padding) {
  const scale = Math.min(inputHeight / height, inputWidth / width);
  const usedWidth = Math.max(1, round(width * scale));
  const usedHeight = Math.max(1, round(height * scale));
  const canvas = new Uint8ClampedArray(inputWidth * inputHeight * 4);
  for (let at = 0; at < canvas.length; at += 4) canvas.set(padding, at);
  const resized = resize(pixels, width, height, usedWidth, usedHeight);
  for (let row = 0; row < usedHeight; row++) {
    canvas.set(resized.subarray(row * usedWidth * 4, (row + 1) * usedWidth * 4), row * inputWidth * 4);
  }
  return { pixels: canvas, scaleX: usedWidth / width, scaleY: usedHeight / height };
}

// Runs a model once, for node and for browsers: tensors are [type, shape, base64 of the data] by name.

const ARRAYS = { float32: Float32Array, uint8: Uint8Array, int32: Int32Array, int64: BigInt64Array };

const decoded = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;

function encoded({ buffer, byteOffset, byteLength }) {
  const bytes = new Uint8Array(buffer, byteOffset, byteLength);
  let text = "";
  for (let at = 0; at < bytes.length; at += 4096) text += String.fromCharCode(...bytes.subarray(at, at + 4096));
  return btoa(text);
}

export async function infer(ort, model, inputs) {
  const session = await ort.InferenceSession.create(model);
  const tensors = Object.entries(inputs).map(([name, [type, shape, data]]) => [
    name,
    new ort.Tensor(type, new ARRAYS[type](decoded(data)), shape),
  ]);
  const outputs = await session.run(Object.fromEntries(tensors));
  return Object.fromEntries(
    Object.entries(outputs).map(([name, { type, dims, data }]) => [name, [type, dims, encoded(data)]]),
  );
}

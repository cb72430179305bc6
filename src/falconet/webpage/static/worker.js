// Runs networks with onnxruntime-web, one picture after the other.
import { classesOf, detectionsOf } from "./answers.js";
import { fit } from "./pixels.js";

const MOST_THREADS = 4;
const BUILDS = { cpu: ["./ort/ort.wasm.min.mjs", "wasm"], gpu: ["./ort/ort.webgpu.min.mjs", "webgpu"] };

const runtimes = new Map();
const sessions = new Map();
let before = Promise.resolve();

self.onmessage = ({ data }) => {
  before = before.then(() => answer(data));
};

async function answer({ id, model, device, bitmap }) {
  try {
    const running = await opened(model, device);
    const picture = bitmap ? read(bitmap) : blank(model.input);
    self.postMessage({ id, result: await detected(running, model, picture) });
  } catch (error) {
    self.postMessage({ id, error: error?.message || String(error) });
  } finally {
    bitmap?.close();
  }
}

async function detected({ ort, session }, model, image) {
  const picture = { width: image.width, height: image.height };
  const started = performance.now();
  const placement = fit(image, { ...model.input, ...model.preprocess });
  const prepared = performance.now();
  const { height, width } = model.input;
  const tensor = new ort.Tensor("uint8", placement.pixels, [1, height, width, 3]);
  const wanted = model.task === "classify" ? "probabilities" : "detections";
  const outputs = await session.run({ [session.inputNames[0]]: tensor }, [wanted]);
  const ran = performance.now();
  const values = outputs[wanted].data;
  const found =
    model.task === "classify"
      ? { classes: classesOf(values, model) }
      : { detections: detectionsOf(values, placement, picture, model) };
  const milliseconds = { prepare: prepared - started, detect: ran - prepared };
  return { ...picture, ...found, milliseconds, threads: ort.env.wasm.numThreads };
}

/** The runtime of a device and the session of a model, each opened once. */
async function opened(model, device) {
  const [address, provider] = BUILDS[device];
  if (!runtimes.has(device)) runtimes.set(device, import(address).then(ready));
  const ort = await runtimes.get(device);
  const key = `${device} ${model.file}`;
  if (!sessions.has(key)) sessions.set(key, open(ort, model, provider));
  try {
    return { ort, session: await sessions.get(key) };
  } catch (error) {
    sessions.delete(key);
    throw error;
  }
}

function ready(ort) {
  // Threads share memory, which browsers allow to isolated pages alone.
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, MOST_THREADS) : 1;
  ort.env.wasm.wasmPaths = new URL("./ort/", self.location.href).href;
  return ort;
}

async function open(ort, model, provider) {
  const response = await fetch(model.file);
  if (!response.ok) throw new Error(`${model.file} cannot be read: ${response.status} ${response.statusText}`);
  const bytes = new Uint8Array(await response.arrayBuffer());
  return ort.InferenceSession.create(bytes, { executionProviders: [provider, ...(provider === "wasm" ? [] : ["wasm"])], logSeverityLevel: 3 });
}

function blank({ width, height }) {
  return { width, height, data: new Uint8ClampedArray(4 * width * height) };
}

function read(bitmap) {
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height);
}

// Runs networks with onnxruntime-web, one picture after the other.
import { classesOf, detectionsOf } from "./answers.js";
import { fit } from "./pixels.js";
import { difference } from "./processor.js";

const MOST_THREADS = 4;
const BUILDS = { cpu: ["./ort/ort.wasm.min.mjs", "wasm"], gpu: ["./ort/ort.webgpu.min.mjs", "webgpu"] };

/** Milliseconds after which a run on a graphics card counts as lost: it takes far less, compiling programs included. */
const MOST_WAITED = 60_000;
/** Of a comparison: runs that are measured, and milliseconds after which no further one is begun. */
const RUNS = 5;
const FEWEST = 2;
const LONGEST = 3000;
/** Runs of a graphics card before. */
const WARM_UP = 2;

const runtimes = new Map();
const sessions = new Map();
let before = Promise.resolve(); // the pictures before
let sayLost;
/** Fails once the graphics card is lost, which may be while it computes. */
const lost = new Promise((_, fail) => (sayLost = (words) => fail(new Error(words))));
lost.catch(() => {});

self.onmessage = ({ data }) => {
  if (!data.compare) return enqueue(data);
  // A card is loaded and warmed up beside the answers, which need not wait for it.
  const ready = warmedUp(data.model);
  ready.catch(() => {}).then(() => enqueue({ ...data, ready }));
};

function enqueue(data) {
  before = before.then(() => answer(data));
}

async function answer({ id, model, device, bitmap, compare, ready }) {
  try {
    await ready;
    const picture = bitmap ? read(bitmap) : blank(model.input);
    const result = compare ? await compared(model, picture) : await detected(model, device, picture);
    self.postMessage({ id, result });
  } catch (error) {
    self.postMessage({ id, error: error?.message || String(error) });
  } finally {
    bitmap?.close();
  }
}

async function detected(model, device, image) {
  const running = await opened(model, device);
  const picture = { width: image.width, height: image.height };
  const started = performance.now();
  const placement = fit(image, { ...model.input, ...model.preprocess });
  const prepared = performance.now();
  const values = await run(running, model, placement.pixels);
  const ran = performance.now();
  const found =
    model.task === "classify"
      ? { classes: classesOf(values, model) }
      : { detections: detectionsOf(values, placement, picture, model) };
  const milliseconds = { prepare: prepared - started, detect: ran - prepared };
  return { ...picture, ...found, milliseconds, device, threads: running.ort.env.wasm.numThreads };
}

/** The first runs compile programs and lay out memory. */
async function warmedUp(model) {
  const gpu = await opened(model, "gpu");
  const { width, height } = model.input;
  for (let turn = 0; turn < WARM_UP; turn++) await run(gpu, model, new Uint8Array(3 * width * height));
}

/** The same picture by both: {cpu, gpu: milliseconds of each run, number: of what is found, different: in words, or null}. */
async function compared(model, image) {
  const { pixels } = fit(image, { ...model.input, ...model.preprocess });
  const [cpu, gpu] = [await opened(model, "cpu"), await opened(model, "gpu")];
  const expected = await run(cpu, model, pixels);
  const different = difference(expected, await run(gpu, model, pixels), model.task);
  if (different) return { cpu: [], gpu: [], number: 0, different };
  const times = { cpu: [], gpu: [] };
  const until = performance.now() + LONGEST;
  // Alternately, so that both see the machine as it is at the time.
  for (let turn = 0; turn < RUNS && (turn < FEWEST || performance.now() < until); turn++) {
    for (const running of [cpu, gpu]) {
      const started = performance.now();
      await run(running, model, pixels);
      times[running.device].push(performance.now() - started);
    }
  }
  return { ...times, number: model.task === "classify" ? 0 : expected.length / 6, different: null };
}

/** What the network puts out: rows of detections, or probabilities. */
async function run({ ort, session, device }, model, pixels) {
  const { height, width } = model.input;
  const tensor = new ort.Tensor("uint8", pixels, [1, height, width, 3]);
  const wanted = model.task === "classify" ? "probabilities" : "detections";
  const start = () => session.run({ [session.inputNames[0]]: tensor }, [wanted]);
  const outputs = await (device === "gpu" ? oneByOne(() => orLost(start())) : start());
  return outputs[wanted].data;
}

/** The runtime of a device and the session of a model, each opened once. */
async function opened(model, device) {
  const [address, provider] = BUILDS[device];
  if (!runtimes.has(device)) runtimes.set(device, import(address).then(ready));
  const key = `${device} ${model.file}`;
  try {
    const ort = await runtimes.get(device);
    if (!sessions.has(key)) sessions.set(key, device === "gpu" ? oneByOne(() => open(ort, model, provider)) : open(ort, model, provider));
    return { ort, device, session: await sessions.get(key) };
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
  // One provider alone: a graphics card that does not start is an error here, not the CPU under another name.
  const session = await ort.InferenceSession.create(bytes, { executionProviders: [provider], logSeverityLevel: 3 });
  if (provider === "webgpu") ort.env.webgpu.device?.lost.then(({ message }) => sayLost(`it was lost: ${message || "the browser says no reason"}`));
  return session;
}

let cardBefore = Promise.resolve();

/** The runtime of a graphics card does one thing at a time; what warms up does not stand in the queue of the pictures. */
function oneByOne(work) {
  const done = cardBefore.then(work);
  cardBefore = done.catch(() => {});
  return done;
}

/** What a graphics card computes: an error once it is lost, or does not answer. */
async function orLost(promise) {
  let timer;
  const silent = new Promise((_, fail) => {
    timer = setTimeout(() => fail(new Error("it does not answer")), MOST_WAITED);
  });
  try {
    return await Promise.race([promise, lost, silent]);
  } finally {
    clearTimeout(timer);
  }
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

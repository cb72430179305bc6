// Which processor runs a network: run by 'node --test', see test_modules.py.
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

const page = new URL("../../src/falconet/webpage/static/", import.meta.url);
const { chosenProcessor, difference, reason, verdictOf, Verdicts } = await import(new URL("processor.js", page));

const rows = (...values) => Float32Array.from(values.flat());
const dog = [10, 20, 30, 40, 0.8, 1];
const cat = [50, 20, 80, 40, 0.3, 0];

test("rounding and the order of detections are no difference", () => {
  assert.equal(difference(rows(dog, cat), rows([50, 20.4, 80, 40, 0.304, 0], dog), "detect"), null);
  assert.equal(difference(rows(), rows(), "detect"), null);
});

test("boxes, scores and classes that differ by more are one", () => {
  const moved = rows([10, 20, 30.6, 40, 0.8, 1]);
  assert.match(difference(rows(dog), moved, "detect"), /^2 boxes that the other does not find/);
  assert.match(difference(rows(dog), rows([10, 20, 30, 40, 0.79, 1]), "detect"), /^2 boxes/);
  assert.match(difference(rows(dog), rows([10, 20, 30, 40, 0.8, 0]), "detect"), /^2 boxes/);
  assert.match(difference(rows(dog, cat), rows(dog), "detect"), /^1 box that/);
  assert.match(difference(rows(dog), rows(dog, cat), "detect"), /^1 box that/);
  assert.notEqual(difference(rows(dog), rows([NaN, NaN, NaN, NaN, NaN, 1]), "detect"), null);
});

test("what scores as little as the floor may be found by one alone", () => {
  assert.equal(difference(rows(dog, [0, 0, 5, 5, 0.054, 2]), rows(dog), "detect"), null);
  assert.notEqual(difference(rows(dog, [0, 0, 5, 5, 0.056, 2]), rows(dog), "detect"), null);
});

test("probabilities are compared one by one", () => {
  assert.equal(difference(rows([0.2, 0.8]), rows([0.204, 0.796]), "classify"), null);
  assert.equal(difference(rows([0.2, 0.8]), rows([0.21, 0.79]), "classify"), "other probabilities");
  assert.equal(difference(rows([0.2, 0.8]), rows([NaN, NaN]), "classify"), "other probabilities");
});

const quick = verdictOf({ cpu: [30, 31, 90], gpu: [9, 10, 11], number: 3, different: null });
const slow = verdictOf({ cpu: [30, 31], gpu: [29, 28], number: 3, different: null });
const other = verdictOf({ cpu: [], gpu: [], number: 0, different: "1 box that the other does not find" });

test("a card computes by itself where it is clearly faster and finds the same", () => {
  assert.deepEqual([quick.cpu, quick.gpu, slow.cpu], [31, 10, 30.5]);
  assert.equal(chosenProcessor("auto", quick), "gpu");
  assert.equal(chosenProcessor("auto", slow), "cpu");
  assert.equal(chosenProcessor("gpu", slow), "gpu");
  assert.equal(chosenProcessor("cpu", quick), "cpu");
  for (const wanted of ["auto", "cpu", "gpu"]) {
    assert.equal(chosenProcessor(wanted, other), "cpu");
    assert.equal(chosenProcessor(wanted, null), "cpu", "a card that nobody compared");
  }
});

test("each case has its sentence", () => {
  const told = (words) => reason({ wanted: "auto", adapter: true, ...words });
  assert.match(told({ adapter: false }), /offers pages no graphics card/);
  assert.match(told({ wanted: "cpu" }), /as chosen/);
  assert.match(told({ verdict: quick }), /^The graphics card computes, which is faster; .*31\.0 ms on the CPU, 10\.0 ms on the graphics card/);
  assert.match(told({ verdict: slow }), /^The CPU computes, since the graphics card is not clearly faster/);
  assert.match(told({ verdict: other, wanted: "gpu" }), /finds something else \(1 box/);
  assert.match(told({ failure: "it was lost" }), /cannot be used \(it was lost\)/);
  assert.match(told({ measuring: true }), /is loaded and compared/);
  assert.match(told({}), /With the second picture/);
  assert.match(told({ wanted: "gpu" }), /the first picture in which something is found/);
});

function storage(content = {}) {
  return { content, getItem: (name) => content[name] ?? null, setItem: (name, value) => (content[name] = value) };
}

test("verdicts are kept by the browser, the newest twenty", () => {
  const kept = storage();
  const first = new Verdicts(kept);
  for (let number = 0; number < 21; number++) first.set(`model ${number}`, quick);
  const second = new Verdicts(kept);
  assert.equal(second.get("model 0"), null);
  assert.deepEqual(second.get("model 20"), quick);
  second.delete("model 20");
  assert.equal(new Verdicts(kept).get("model 20"), null);
});

test("a browser that keeps nothing, or something else, is borne", () => {
  for (const content of ["no JSON", "{}", '[["a", {}]]', '[["a", null]]', "[7]", '[["a", {"cpu": "1", "gpu": 2}]]']) {
    assert.equal(new Verdicts(storage({ "falconet processors": content })).get("a"), null, content);
  }
  const full = { getItem: () => null, setItem: () => { throw new Error("full"); } };
  for (const place of [full, null]) {
    const verdicts = new Verdicts(place);
    verdicts.set("a", quick);
    assert.deepEqual(verdicts.get("a"), quick);
  }
});

// ---- browser.js, before a worker that answers as it is told

let asked = [];
let answers = {};

class FakeWorker {
  postMessage({ id, device, compare }) {
    const kind = compare ? "compare" : device;
    asked.push(kind);
    setTimeout(() => {
      const answer = answers[kind]?.();
      this.onmessage({ data: answer instanceof Error ? { id, error: answer.message } : { id, result: answer } });
    });
  }
}

const model = { name: "m", sha256: "1", engine: "onnxruntime-web", classes: ["a"] };
const adapter = { info: { vendor: "drawn", architecture: "card" } };
const bitmap = { close() {} };
const found = (device) => ({ device, detections: [dog] });
let turn = 0;

async function opened({ card = adapter, saveData = false } = {}) {
  Object.defineProperty(globalThis, "navigator", {
    configurable: true,
    value: { gpu: { requestAdapter: async () => card }, connection: { saveData }, hardwareConcurrency: 2 },
  });
  const backend = await import(`${new URL("browser.js", page)}?${(turn += 1)}`); // a page of its own
  await backend.models();
  return { backend, devices: await backend.devices(() => {}) };
}

async function devicesOf(backend, number, wanted) {
  const told = [];
  for (let index = 0; index < number; index++) {
    told.push((await backend.detect(model, { bitmap }, wanted)).device);
    await new Promise((resolve) => setTimeout(resolve, 5)); // for what goes on by itself
  }
  return told;
}

beforeEach(() => {
  Object.assign(globalThis, {
    self: { crossOriginIsolated: true },
    Worker: FakeWorker,
    createImageBitmap: async () => ({ close() {} }),
    fetch: async () => ({ ok: true, json: async () => ({ models: [model] }) }),
    localStorage: storage(),
  });
  asked = [];
  answers = {
    cpu: () => found("cpu"),
    gpu: () => found("gpu"),
    compare: () => ({ cpu: [30, 30], gpu: [10, 10], number: 1, different: null }),
  };
});

test("a faster card takes over after the second picture, and from the first one on at the next visit", async () => {
  const { backend, devices } = await opened();
  assert.deepEqual(devices, ["auto", "cpu", "gpu"]);
  assert.deepEqual(await devicesOf(backend, 4, "auto"), ["cpu", "cpu", "gpu", "gpu"]);
  assert.equal(asked.filter((one) => one === "compare").length, 1);
  assert.match(backend.processor(model, "auto"), /^The graphics card computes, which is faster/);
  const again = await opened();
  await again.backend.prepare(model, "auto");
  assert.deepEqual(await devicesOf(again.backend, 1, "auto"), ["gpu"]);
});

test("one picture fetches nothing for a card, nor do pictures in which nothing is found", async () => {
  const { backend } = await opened();
  await devicesOf(backend, 1, "auto");
  answers.cpu = () => ({ device: "cpu", detections: [] });
  await devicesOf(backend, 3, "auto");
  await devicesOf(backend, 1, "gpu");
  assert.deepEqual(new Set(asked), new Set(["cpu"]));
});

test("where the user saves data, a card has to be asked for", async () => {
  const { backend } = await opened({ saveData: true });
  assert.deepEqual(await devicesOf(backend, 4, "auto"), ["cpu", "cpu", "cpu", "cpu"]);
  assert.deepEqual(await devicesOf(backend, 1, "gpu"), ["gpu"]);
});

test("a slower card is left alone, unless it is chosen", async () => {
  answers.compare = () => ({ cpu: [10, 10], gpu: [30, 30], number: 1, different: null });
  const { backend } = await opened();
  assert.deepEqual(await devicesOf(backend, 4, "auto"), ["cpu", "cpu", "cpu", "cpu"]);
  assert.deepEqual(await devicesOf(backend, 2, "gpu"), ["gpu", "gpu"]);
  assert.equal(asked.filter((one) => one === "compare").length, 1);
});

test("a card that finds something else never answers", async () => {
  answers.compare = () => ({ cpu: [], gpu: [], number: 0, different: "2 boxes that the other does not find" });
  const { backend } = await opened();
  assert.deepEqual(await devicesOf(backend, 3, "gpu"), ["cpu", "cpu", "cpu"]);
  assert.match(backend.processor(model, "gpu"), /finds something else/);
  assert.equal(asked.includes("gpu"), false);
});

test("a card that cannot run the network is told, and the CPU answers", async () => {
  answers.compare = () => new Error("no such operator");
  const { backend } = await opened();
  assert.deepEqual(await devicesOf(backend, 2, "gpu"), ["cpu", "cpu"]);
  assert.match(backend.processor(model, "gpu"), /cannot be used \(no such operator\)/);
  assert.equal(asked.filter((one) => one === "compare").length, 1);
  answers.compare = () => ({ cpu: [30], gpu: [10], number: 1, different: null });
  assert.equal(backend.canMeasureAgain(model, "auto"), true);
  await backend.measureAgain(model, bitmap);
  assert.deepEqual(await devicesOf(backend, 1, "auto"), ["gpu"]);
});

test("a card that is lost leaves no picture without an answer", async () => {
  const { backend } = await opened();
  assert.deepEqual(await devicesOf(backend, 1, "gpu"), ["gpu"]);
  answers.gpu = () => new Error("it was lost");
  assert.deepEqual(await devicesOf(backend, 2, "gpu"), ["cpu", "cpu"]);
  assert.equal(asked.filter((one) => one === "gpu").length, 2);
  assert.match(backend.processor(model, "gpu"), /cannot be used \(it was lost\)/);
  assert.equal(backend.canMeasureAgain(model, "auto"), false);
});

test("a remembered card that does not start is told while the network is prepared", async () => {
  const { backend } = await opened();
  await devicesOf(backend, 1, "gpu");
  const again = await opened();
  answers.gpu = () => new Error("no memory");
  await again.backend.prepare(model, "gpu");
  assert.deepEqual(await devicesOf(again.backend, 1, "gpu"), ["cpu"]);
  assert.match(again.backend.processor(model, "gpu"), /no memory/);
});

test("without a card there is nothing to choose", async () => {
  const { backend, devices } = await opened({ card: null });
  assert.deepEqual(devices, ["cpu"]);
  assert.deepEqual(await devicesOf(backend, 3, "cpu"), ["cpu", "cpu", "cpu"]);
  assert.match(backend.processor(model, "cpu"), /offers pages no graphics card/);
});

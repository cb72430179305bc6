// The page's modules that touch no page: run by 'node --test', see test_modules.py.
import assert from "node:assert/strict";
import { test } from "node:test";

const page = new URL("../../src/falconet/webpage/static/", import.meta.url);
const { asCsv, asJson, chosen, counted, sentence } = await import(new URL("detections.js", page));
const { classesOf, detectionsOf, told } = await import(new URL("answers.js", page));
const { colour, inkOn } = await import(new URL("colours.js", page));
const { fit, toPicture } = await import(new URL("pixels.js", page));
const { cannotOpen, Picture, sorted } = await import(new URL("pictures.js", page));
const { stem } = await import(new URL("save.js", page));
const { draw, stretched } = await import(new URL("draw.js", page));
const { Levels } = await import(new URL("levels.js", page));
const { Answering, answerOf, failureOf } = await import(new URL("answering.js", page));
const { computedBy } = await import(new URL("show.js", page));
const { recalled, remember } = await import(new URL("stored.js", page));

const found = [
  { label: "dog", label_id: 1, score: 0.9, box: [1, 2, 3, 4] },
  { label: "cat", label_id: 0, score: 0.6, box: [0, 0, 9, 9] },
  { label: "dog", label_id: 1, score: 0.3, box: [5, 5, 6, 6] },
];

test("what counts scores above the threshold and is of a class that is shown", () => {
  assert.deepEqual(chosen(found, { threshold: 0.3 }), found.slice(0, 2));
  assert.deepEqual(chosen(found, { threshold: 0.05, hidden: new Set(["dog"]) }), [found[1]]);
});

test("stored thresholds go by class", () => {
  assert.deepEqual(chosen(found, { threshold: 0.05, thresholds: { cat: 0.7, dog: 0.2 } }), [found[0], found[2]]);
});

test("objects are counted and told, the most frequent first", () => {
  assert.deepEqual([...counted(found)], [["dog", 2], ["cat", 1]]);
  assert.equal(sentence(found), "3 objects: 2 dog, 1 cat");
  assert.equal(sentence([found[1]]), "1 object: 1 cat");
  assert.match(sentence([]), /^Nothing is found/);
  assert.match(sentence([], new Set(["dog"])), /^Nothing of the classes that are shown/);
});

test("CSV quotes what needs it, and leaves the box of a whole picture empty", () => {
  const results = [{ file: 'a, "b".jpg', width: 9, height: 9, detections: [found[0], { label: "x", score: 0.5 }] }];
  assert.equal(
    asCsv([{ model: "m", threshold: 0.25, results }]),
    "model,file,label,score,x1,y1,x2,y2\r\n" +
      'm,"a, ""b"".jpg",dog,0.9000,1.00,2.00,3.00,4.00\r\n' +
      'm,"a, ""b"".jpg",x,0.5000,,,,\r\n',
  );
  assert.deepEqual(JSON.parse(asJson([{ model: "m", results }])).answers[0].results, results);
});

test("rows of a network become detections of the picture, the best first", () => {
  const rows = Float32Array.from([0, 0, 10, 10, 0.2, 1, 8, 4, 40, 12, 0.8, 0, 0, 0, 1, 1, 0.04, 0]);
  const placement = { scale: [0.5, 0.5], offset: [4, 0] };
  const model = { classes: ["cat", "dog"], max_detections: 10 };
  const answer = detectionsOf(rows, placement, { width: 60, height: 20 }, model);
  assert.deepEqual(answer.map(({ label, box }) => [label, box]), [["cat", [8, 8, 60, 20]], ["dog", [0, 0, 12, 20]]]);
  assert.equal(detectionsOf(rows, placement, { width: 60, height: 20 }, { ...model, max_detections: 1 }).length, 1);
});

test("calibrated scores are told on straight lines, and order what was found", () => {
  const map = { scores: [0, 0.5, 1], probabilities: [0.1, 0.2, 0.9] };
  assert.equal(told(0, map), 0.1);
  assert.ok(Math.abs(told(0.25, map) - 0.15) < 1e-9);
  assert.ok(Math.abs(told(0.75, map) - 0.55) < 1e-9);
  assert.ok(Math.abs(told(1, map) - 0.9) < 1e-9);
  const rows = Float32Array.from([0, 0, 1, 1, 0.9, 0, 0, 0, 1, 1, 0.8, 1]);
  const calibration = [{ scores: [0, 1], probabilities: [0, 0.5] }, { scores: [0, 1], probabilities: [0, 1] }];
  const model = { classes: ["a", "b"], calibration, max_detections: 5 };
  const answer = detectionsOf(rows, { scale: [1, 1], offset: [0, 0] }, { width: 9, height: 9 }, model);
  assert.deepEqual(answer.map(({ label }) => label), ["b", "a"]);
});

test("a classifier tells its best classes", () => {
  const answer = classesOf(Float32Array.from([0.1, 0.7, 0.2]), { classes: ["a", "b", "c"] });
  assert.deepEqual(answer.map(({ label }) => label), ["b", "c", "a"]);
});

test("boxes on the filled border are clipped to the picture", () => {
  const placement = { scale: [0.5, 0.5], offset: [0, 8] };
  assert.deepEqual(toPicture([-5, 0, 100, 100], placement, { width: 40, height: 30 }), [0, 0, 40, 30]);
});

test("letters can be read on every colour", () => {
  for (let index = 0; index < 90; index++) {
    assert.match(colour(index), /^hsl\(/);
    assert.match(inkOn(index), /^#(000|fff)$/);
  }
  assert.equal(new Set(Array.from({ length: 80 }, (_, index) => colour(index))).size, 80);
});

test("files are told apart by their type", () => {
  const file = (name, type) => ({ name, type });
  const kinds = sorted([file("a.jpg", "image/jpeg"), file("b.mp4", "video/mp4"), file("c.txt", "text/plain")]);
  assert.deepEqual(Object.values(kinds).map((ones) => ones.map(({ name }) => name)), [["a.jpg"], ["b.mp4"], ["c.txt"]]);
});

test("endings tell where the system tells no type", () => {
  const file = (name, type) => ({ name, type });
  const kinds = sorted([file("a.tif", ""), file("b.JP2", ""), file("c.jpg.txt", ""), file("d", ""), file("e.tif", "text/plain")]);
  assert.deepEqual(kinds.pictures.map(({ name }) => name), ["a.tif", "b.JP2"]);
  assert.equal(kinds.others.length, 3);
});

test("formats that browsers do not open are named, with what helps", () => {
  assert.match(cannotOpen("scan.TIF"), /opens no TIFF\. Save it as JPEG or PNG, or use the page of 'falconet serve'/);
  assert.match(cannotOpen("a.heic"), /opens no HEIC\. Save it as JPEG or PNG\.$/);
  assert.match(cannotOpen("a.jpg"), /cannot open it as a picture/);
});

test("what the browser does not open is converted once", async () => {
  globalThis.createImageBitmap = async (blob) => {
    if (blob !== "jpeg") throw new Error("no");
    return "bitmap";
  };
  let asked = 0;
  const picture = new Picture({ name: "a.tif" }, { convert: async () => ((asked += 1), "jpeg") });
  assert.equal(await picture.open(), "bitmap");
  assert.equal(await picture.open(), "bitmap");
  assert.equal(asked, 1);
  const refused = new Picture({ name: "b.tif" }, { convert: async () => { throw new Error("too large"); } });
  await assert.rejects(refused.open(), /^Error: b\.tif: too large$/);
  await assert.rejects(new Picture({ name: "c.tif" }).open(), /c\.tif: this browser opens no TIFF/);
});

test("each model has a threshold of its own", () => {
  const levels = new Levels();
  const first = { name: "a", score_threshold: 0.4, operating_points: [{ name: "recall=0.9", thresholds: { cat: 0.1 } }] };
  const second = { name: "b", score_threshold: 0.01 };
  assert.deepEqual([levels.of(first).threshold, levels.of(second).threshold], [0.4, 0.05]);
  levels.slide(first, 0.7);
  assert.deepEqual(levels.limits(first), { threshold: 0.7, thresholds: undefined });
  assert.equal(levels.limits(second).threshold, 0.05);
  levels.choose(first, "recall=0.9");
  assert.deepEqual(levels.limits(first).thresholds, { cat: 0.1 });
  assert.deepEqual([levels.told(first), levels.told(second)], ["recall=0.9", 0.05]);
  levels.choose(first, "");
  assert.equal(levels.told(first), 0.7);
});

test("pictures are answered by each model once, and what fails is kept as its answer", async () => {
  globalThis.createImageBitmap = async () => ({ width: 9, height: 9, close() {} });
  globalThis.document = { createElement: () => ({ getContext: () => ({ drawImage() {} }) }) };
  const [one, two] = [new Picture({ name: "a" }), new Picture({ name: "b" })];
  const models = [{ name: "x", sha256: "1" }, { name: "y", sha256: "2" }];
  const state = { asked: models, device: "cpu", pictures: [one, two], current: two, live: null, left: 0 };
  const asked = [];
  class TokenNeeded extends Error {}
  const backend = {
    TokenNeeded,
    detect: async (model, { blob }) => {
      asked.push(`${blob.name} ${model.name}`);
      if (model.name === "y") throw new Error("does not run");
      return { detections: [] };
    },
  };
  const told = [];
  const page = { say() {}, render() {}, askToken: () => told.push("token"), trouble: ({ message }) => told.push(message) };
  const answering = new Answering(state, backend, page);
  await answering.work();
  await answering.work();
  assert.deepEqual(asked, ["b x", "b y", "a x", "a y"], "the one on the screen first");
  assert.deepEqual(answerOf(state, one, models[0]), { detections: [] });
  assert.equal(answerOf(state, one, models[1]), null);
  assert.equal(failureOf(state, one).message, "a: does not run");
  assert.match(told[0], /^2 of 2 pictures have no answer\. The first: a: does not run/);
  backend.detect = async () => { throw new TokenNeeded("no"); };
  state.device = "gpu";
  await answering.work();
  assert.equal(told.at(-1), "token");
});

test("it is said who computed", () => {
  assert.equal(computedBy({ device: "cpu", threads: 1 }), "CPU, 1 thread");
  assert.equal(computedBy({ device: "cpu", threads: 4 }), "CPU, 4 threads");
  assert.equal(computedBy({ device: "gpu", threads: 1 }), "graphics card (WebGPU)");
  assert.equal(computedBy({ device: "server" }), "the server");
});

test("a choice is remembered while it is one", () => {
  const content = {};
  const storage = { getItem: (name) => content[name] ?? null, setItem: (name, value) => (content[name] = value) };
  assert.equal(recalled("processor", ["auto", "gpu"], storage), "auto");
  remember("processor", "gpu", storage);
  assert.equal(recalled("processor", ["auto", "gpu"], storage), "gpu");
  assert.equal(recalled("processor", ["cpu"], storage), "cpu");
  remember("processor", "gpu", { setItem: () => { throw new Error("full"); } });
  assert.equal(recalled("processor", ["auto"], null), "auto");
});

test("a slim picture is stretched on the screen, and its boxes with it; what is saved is not", () => {
  const calls = [];
  const context = new Proxy({}, {
    get: (_, name) => (name === "measureText" ? () => ({ width: 10 }) : (...values) => calls.push([name, ...values])),
    set: () => true,
  });
  const canvas = { width: 0, height: 0, getContext: () => context };
  const hair = { width: 3000, height: 2 };
  const box = { label: "a", label_id: 0, score: 0.5, box: [0, 0, 1500, 1] };
  draw(canvas, hair, [box], { place: () => 0, side: 1200 });
  assert.deepEqual([canvas.width, canvas.height], [1200, 100]);
  assert.deepEqual(calls.find(([name]) => name === "strokeRect"), ["strokeRect", 0, 0, 600, 50]);
  draw(canvas, { width: 2, height: 3000 }, [], { place: () => 0, side: 1200 });
  assert.deepEqual([canvas.width, canvas.height], [100, 1200]);
  draw(canvas, hair, [], { place: () => 0, side: Infinity });
  assert.deepEqual([canvas.width, canvas.height], [3000, 2]);
  assert.equal(stretched(hair), "shown 125 times as high as it is");
  assert.equal(stretched({ width: 10, height: 240 }), "shown 2.0 times as wide as it is");
  assert.equal(stretched({ width: 1200, height: 100 }), "");
});

test("what is saved is named after the picture", () => {
  assert.equal(stem("a.b.jpg"), "a.b");
  assert.equal(stem(".jpg"), "picture");
});

test("boxes are drawn to scale, the best last", () => {
  const calls = [];
  const context = new Proxy({}, {
    get: (_, name) => (name === "measureText" ? () => ({ width: 10 }) : (...values) => calls.push([name, ...values])),
    set: () => true,
  });
  const canvas = { width: 0, height: 0, getContext: () => context };
  draw(canvas, { width: 4000, height: 2000 }, found, { place: () => 0, side: 1000 });
  assert.deepEqual([canvas.width, canvas.height], [1000, 500]);
  const boxes = calls.filter(([name]) => name === "strokeRect");
  assert.deepEqual(boxes.at(-1), ["strokeRect", 0.25, 0.5, 0.5, 0.5]);
  assert.equal(boxes.length, 3);
});

test("a picture of the input's size stays as it is, blue first", () => {
  const data = Uint8ClampedArray.from([1, 2, 3, 255, 4, 5, 6, 255]);
  const { pixels, scale } = fit({ data, width: 2, height: 1 }, { height: 1, width: 2, resize: "stretch", pad_value: 0 });
  assert.deepEqual([...pixels], [3, 2, 1, 6, 5, 4]);
  assert.deepEqual(scale, [1, 1]);
});

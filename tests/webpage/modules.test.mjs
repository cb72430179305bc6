// The page's modules that touch no page: run by 'node --test', see test_modules.py.
import assert from "node:assert/strict";
import { test } from "node:test";

const page = new URL("../../src/falconet/webpage/static/", import.meta.url);
const { asCsv, asJson, chosen, counted, sentence } = await import(new URL("detections.js", page));
const { classesOf, detectionsOf, told } = await import(new URL("answers.js", page));
const { colour, inkOn } = await import(new URL("colours.js", page));
const { fit, toPicture } = await import(new URL("pixels.js", page));
const { sorted } = await import(new URL("pictures.js", page));
const { stem } = await import(new URL("save.js", page));
const { draw } = await import(new URL("draw.js", page));

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

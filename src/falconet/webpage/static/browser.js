// Detects in this browser, in a worker, so that the page stays quick.
import { chosenProcessor, reason, verdictOf, Verdicts } from "./processor.js";
import { stored } from "./stored.js";

/** Pictures that a model has answered before the graphics card is fetched and compared: whoever has one picture needs none. */
const PICTURES_BEFORE = 2;

let worker = null;
let known = [];
let last = 0;
const waiting = new Map();

let card = null; // a description of the graphics card; null: there is none
let verdicts = null;
let changed = () => {};
const answered = new Map(); // model -> number of pictures
const comparing = new Map(); // model -> promise
const failures = new Map(); // model, or all of them -> what went wrong with the graphics card
const ALL = "all";

export class TokenNeeded extends Error {}

export function useToken() {}

export const where = "Pictures stay in this browser.";

/** The models of the site. */
export async function models() {
  const response = await fetch("models.json");
  if (!response.ok) throw new Error(`models.json of this site cannot be read: ${response.status} ${response.statusText}`);
  known = (await response.json()).models;
  worker = new Worker("worker.js", { type: "module" });
  worker.onmessage = ({ data }) => settle(data);
  worker.onerror = (event) => failAll(new Error(event.message || "What detects does not start in this browser."));
  return known;
}

/** What can be chosen to run networks. `tell` is called when `processor` has something new to say. */
export async function devices(tell) {
  changed = tell;
  card = await cardOf();
  verdicts = new Verdicts(stored());
  return card === null ? ["cpu"] : ["auto", "cpu", "gpu"];
}

async function cardOf() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  if (!adapter) return null;
  const { vendor, architecture, device, description } = adapter.info ?? {};
  return [vendor, architecture, device, description].filter(Boolean).join(" ");
}

/** Load what a model takes, and let it run once, so that the first picture is answered as quickly as others. */
export async function prepare(model, wanted) {
  if (processorOf(model, wanted) === "gpu") {
    try {
      return await asked({ model, device: "gpu" });
    } catch (error) {
      failed(model, error);
    }
  }
  return asked({ model, device: "cpu" });
}

/**
 * What a model finds in a picture {bitmap}.
 * @param wanted "cpu", "gpu" or "auto"; a graphics card answers once it was compared with the CPU and found the same
 */
export async function detect(model, { bitmap }, wanted) {
  if (processorOf(model, wanted) === "gpu") return (await byCard(model, bitmap)) ?? byCpu(model, bitmap);
  const answer = await byCpu(model, bitmap);
  if (!canCompare(model, wanted) || !(answer.classes ?? answer.detections).length) return answer;
  if (wanted === "gpu") {
    await compare(model, await createImageBitmap(bitmap));
    return processorOf(model, wanted) === "gpu" ? ((await byCard(model, bitmap)) ?? answer) : answer;
  }
  answered.set(model.name, (answered.get(model.name) ?? 0) + 1);
  // Nobody asked for the card: where the user saves data, its files are not fetched.
  if (answered.get(model.name) < PICTURES_BEFORE || navigator.connection?.saveData) return answer;
  compare(model, await createImageBitmap(bitmap)); // which goes on by itself
  return answer;
}

/** What computes and why, in words. */
export function processor(model, wanted) {
  const measuring = comparing.has(model.name);
  return reason({ wanted, adapter: card !== null, verdict: verdicts?.get(keyOf(model)), failure: failureOf(model), measuring });
}

/** Whether there is a comparison that could be made anew. */
export function canMeasureAgain(model, wanted) {
  if (wanted !== "auto" || card === null || comparing.has(model.name) || failures.has(ALL)) return false;
  return Boolean(verdicts.get(keyOf(model)) || failures.has(model.name));
}

/** Compare both anew, on a picture. */
export async function measureAgain(model, bitmap) {
  verdicts.delete(keyOf(model));
  failures.delete(model.name);
  await compare(model, await createImageBitmap(bitmap));
}

function processorOf(model, wanted) {
  if (card === null || failureOf(model)) return "cpu";
  return chosenProcessor(wanted, verdicts?.get(keyOf(model)));
}

function canCompare(model, wanted) {
  return wanted !== "cpu" && card !== null && !failureOf(model) && !verdicts.get(keyOf(model));
}

/** A verdict is about a network, the runtime, the card, and how many threads there are. */
function keyOf(model) {
  const threads = self.crossOriginIsolated ? navigator.hardwareConcurrency : 1;
  return [model.sha256, model.engine, card, threads].join(" ");
}

function failureOf(model) {
  return failures.get(ALL) ?? failures.get(model.name);
}

function failed(model, error) {
  failures.set(model.name, error.message);
  changed();
}

/** Compare both on a picture, which is closed then; a comparison that goes on already is waited for. */
function compare(model, bitmap) {
  if (comparing.has(model.name)) {
    bitmap.close();
    return comparing.get(model.name);
  }
  const compared = asked({ model, compare: true, bitmap }, [bitmap])
    .then((result) => verdicts.set(keyOf(model), verdictOf(result)))
    .catch((error) => failures.set(model.name, error.message))
    .finally(() => {
      comparing.delete(model.name);
      changed();
    });
  comparing.set(model.name, compared);
  changed();
  return compared;
}

async function byCpu(model, bitmap) {
  const copy = await createImageBitmap(bitmap);
  return asked({ model, device: "cpu", bitmap: copy }, [copy]);
}

/** Null where the graphics card has no answer: it may be lost at any time. */
async function byCard(model, bitmap) {
  const copy = await createImageBitmap(bitmap);
  try {
    return await asked({ model, device: "gpu", bitmap: copy }, [copy]);
  } catch (error) {
    // Whatever it was, no further picture shall wait for it; the page loaded anew tries again.
    failures.set(ALL, error.message);
    changed();
    return null;
  }
}

function asked(words, handed = []) {
  last += 1;
  const answer = new Promise((resolve, reject) => waiting.set(last, { resolve, reject }));
  worker.postMessage({ id: last, ...words }, handed);
  return answer;
}

function settle({ id, result, error }) {
  const { resolve, reject } = waiting.get(id);
  waiting.delete(id);
  if (error) reject(new Error(error));
  else resolve(result);
}

function failAll(error) {
  for (const { reject } of waiting.values()) reject(error);
  waiting.clear();
}

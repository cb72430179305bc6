// Detects in this browser, in a worker, so that the page stays quick.

let worker = null;
let known = [];
let last = 0;
const waiting = new Map();

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

/** Load what a model takes, and let it run once, so that the first picture is answered as quickly as others. */
export function prepare(model, device) {
  return asked({ model, device });
}

/** What a model finds in a picture {bitmap}. */
export async function detect(model, { bitmap }, device) {
  const copy = await createImageBitmap(bitmap);
  return asked({ model, device, bitmap: copy }, [copy]);
}

function asked(words, handed = []) {
  last += 1;
  const answer = new Promise((resolve, reject) => waiting.set(last, { resolve, reject }));
  worker.postMessage({ id: last, ...words }, handed);
  return answer;
}

/** Where networks can run: the processor, and a graphics card where the browser lets it compute. */
export async function devices() {
  const card = await navigator.gpu?.requestAdapter().catch(() => null);
  return card ? ["cpu", "gpu"] : ["cpu"];
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

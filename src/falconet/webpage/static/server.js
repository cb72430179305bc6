// Detects by asking the server that this page comes from.
import { FLOOR } from "./detections.js";

const JPEG_QUALITY = 0.92;

let token = "";

/** The server wants a token, or another one. */
export class TokenNeeded extends Error {}

export function useToken(text) {
  token = text.trim();
}

export const where = "Pictures are sent to this server, which keeps none.";

/** The models of the server. */
export async function models() {
  return (await asked("v1/models")).models;
}

/** The server's models are open already. */
export async function prepare() {}

/** The server chooses where it computes. */
export async function devices() {
  return ["server"];
}

/** A picture that this browser does not open, as JPEG: the server's drawing of it, without boxes, since none scores above 1. */
export async function converted(model, blob) {
  const query = new URLSearchParams({ model: model.name, score: 1, answer: "jpeg" });
  return (await answered(`v1/detect?${query}`, sent(blob))).blob();
}

/** What a model finds in a picture {blob} or a frame {bitmap}: the answer of `POST /v1/detect` for one picture. */
export async function detect(model, picture) {
  const blob = picture.blob ?? (await jpegOf(picture.bitmap));
  const query = new URLSearchParams({ model: model.name, score: FLOOR });
  const started = performance.now();
  const answer = await asked(`v1/detect?${query}`, sent(blob));
  const [result] = answer.results;
  const whole = performance.now() - started;
  const known = Object.values(result.milliseconds).reduce((sum, one) => sum + one, 0);
  return { ...result, device: "server", milliseconds: { ...result.milliseconds, network: Math.max(0, whole - known) } };
}

async function jpegOf(bitmap) {
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  return canvas.convertToBlob({ type: "image/jpeg", quality: JPEG_QUALITY });
}

function sent(blob) {
  return { method: "POST", body: blob, headers: { "Content-Type": blob.type || "application/octet-stream" } };
}

async function asked(address, options) {
  return (await answered(address, options)).json();
}

async function answered(address, options = {}) {
  const headers = token ? { ...options.headers, Authorization: `Bearer ${token}` } : options.headers;
  let response;
  try {
    response = await fetch(address, { ...options, headers });
  } catch {
    throw new Error("The server does not answer. Is it still running?");
  }
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  const text = said.detail || `The server answers with ${response.status} ${response.statusText}.`;
  throw response.status === 401 ? new TokenNeeded(text) : new Error(text);
}

// Files that the page hands over: what was found, and the picture with its boxes.
import { draw } from "./draw.js";

/** Let the browser save a text or a blob under a name. */
export function save(content, name, type) {
  const blob = content instanceof Blob ? content : new Blob([content], { type });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** A picture at its own size with boxes, as JPEG. */
export async function annotated(bitmap, detections, place) {
  const canvas = document.createElement("canvas");
  draw(canvas, bitmap, detections, { place, side: Infinity });
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
}

/** "photo.jpg" -> "photo". */
export function stem(name) {
  return name.replace(/\.[^.]*$/, "") || "picture";
}

// Boxes and what they hold, on a canvas over the picture.
import { colour, inkOn } from "./colours.js";

/** A picture on the screen needs no more; what is saved has the size of the picture. */
export const SCREEN_SIDE = 2048;

/**
 * Draw a picture (ImageBitmap) and detections; at most `side` pixels a side.
 * @param place name of a class -> number of its colour
 * @param marked the detection that stands out
 */
export function draw(canvas, bitmap, detections, { place, side = SCREEN_SIDE, marked = null }) {
  const scale = Math.min(1, side / Math.max(bitmap.width, bitmap.height));
  const width = Math.max(1, Math.round(bitmap.width * scale));
  const height = Math.max(1, Math.round(bitmap.height * scale));
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0, width, height);
  const line = Math.max(2, Math.round(Math.max(width, height) / 320));
  const boxed = detections.filter(({ box }) => box);
  const lowestFirst = boxed.reverse();
  for (const one of lowestFirst) drawBox(context, one, place(one.label), scale, line * (one === marked ? 2 : 1));
  for (const one of lowestFirst) drawLabel(context, one, place(one.label), { scale, line, width });
}

function drawBox(context, { box }, index, scale, line) {
  const [left, top, right, bottom] = box.map((one) => one * scale);
  context.lineWidth = line;
  context.strokeStyle = colour(index);
  context.strokeRect(left, top, right - left, bottom - top);
}

function drawLabel(context, { label, score, box }, index, { scale, line, width }) {
  const size = 6 * line;
  const text = `${label} ${score.toFixed(2)}`;
  context.font = `600 ${size}px system-ui, sans-serif`;
  context.textBaseline = "top";
  const wide = context.measureText(text).width + size / 2;
  const left = Math.max(0, Math.min(box[0] * scale - line / 2, width - wide));
  const above = box[1] * scale - size * 1.3;
  const top = above >= 0 ? above : Math.max(0, box[1] * scale);
  context.fillStyle = colour(index);
  context.fillRect(left, top, wide, size * 1.3);
  context.fillStyle = inkOn(index);
  context.fillText(text, left + size / 4, top + size * 0.16);
}

// Boxes and what they hold, on a canvas over the picture.
import { colour, inkOn } from "./colours.js";

/** A picture on the screen needs no more; what is saved has the size of the picture. */
export const SCREEN_SIDE = 2048;

/** On the screen no side is shown with less than this share of the other: a picture of 3000 x 2 pixels would be a hair. */
const SLIMMEST = 1 / 12;

/** How many times a slim picture is stretched on the screen, in words; empty for all others. */
export function stretched({ width, height }) {
  const times = (SLIMMEST * Math.max(width, height)) / Math.min(width, height);
  if (times <= 1) return "";
  return `shown ${times < 10 ? times.toFixed(1) : times.toFixed(0)} times as ${width > height ? "high" : "wide"} as it is`;
}

/**
 * Draw a picture (ImageBitmap) and detections; at most `side` pixels a side. Without that limit it keeps its size and shape.
 * @param place name of a class -> number of its colour
 * @param marked the detection that stands out
 */
export function draw(canvas, bitmap, detections, { place, side = SCREEN_SIDE, marked = null }) {
  const scale = Math.min(1, side / Math.max(bitmap.width, bitmap.height));
  const least = Number.isFinite(side) ? scale * SLIMMEST * Math.max(bitmap.width, bitmap.height) : 1;
  const width = Math.max(1, Math.round(Math.max(bitmap.width * scale, least)));
  const height = Math.max(1, Math.round(Math.max(bitmap.height * scale, least)));
  const scales = [width / bitmap.width, height / bitmap.height];
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height); // what lies there would be seen through a picture that is not opaque
  context.drawImage(bitmap, 0, 0, width, height);
  const line = Math.max(2, Math.round(Math.max(width, height) / 320));
  const boxed = detections.filter(({ box }) => box);
  const lowestFirst = boxed.reverse();
  for (const one of lowestFirst) drawBox(context, one, place(one.label), scales, line * (one === marked ? 2 : 1));
  for (const one of lowestFirst) drawLabel(context, one, place(one.label), { scales, line, width });
}

function drawBox(context, { box }, index, scales, line) {
  const [left, top, right, bottom] = box.map((one, place) => one * scales[place % 2]);
  context.lineWidth = line;
  context.strokeStyle = colour(index);
  context.strokeRect(left, top, right - left, bottom - top);
}

function drawLabel(context, { label, score, box }, index, { scales: [across, down], line, width }) {
  const size = 6 * line;
  const text = `${label} ${score.toFixed(2)}`;
  context.font = `600 ${size}px system-ui, sans-serif`;
  context.textBaseline = "top";
  const wide = context.measureText(text).width + size / 2;
  const left = Math.max(0, Math.min(box[0] * across - line / 2, width - wide));
  const above = box[1] * down - size * 1.3;
  const top = above >= 0 ? above : Math.max(0, box[1] * down);
  context.fillStyle = colour(index);
  context.fillRect(left, top, wide, size * 1.3);
  context.fillStyle = inkOn(index);
  context.fillText(text, left + size / 4, top + size * 0.16);
}

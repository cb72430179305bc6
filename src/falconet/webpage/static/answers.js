// From what a network puts out to detections: scores as they are told, boxes in pixels of the picture.
import { FLOOR } from "./detections.js";
import { toPicture } from "./pixels.js";

const BEST_CLASSES = 5;

/** The detections of rows [x1, y1, x2, y2, score, class] of the network's input, the best first. */
export function detectionsOf(rows, placement, picture, { classes, calibration = [], max_detections }) {
  const found = [];
  for (let start = 0; start + 6 <= rows.length; start += 6) {
    const label_id = rows[start + 5];
    const score = calibration.length ? told(rows[start + 4], calibration[label_id]) : rows[start + 4];
    if (!(score > FLOOR)) continue;
    const box = toPicture(Array.from(rows.subarray(start, start + 4)), placement, picture);
    found.push({ label: classes[label_id], label_id, score, box });
  }
  return found.sort((a, b) => b.score - a.score).slice(0, max_detections);
}

/** The best classes of a picture as a whole. */
export function classesOf(probabilities, { classes }) {
  const order = Array.from(probabilities, (score, label_id) => ({ label: classes[label_id], label_id, score }));
  return order.sort((a, b) => b.score - a.score).slice(0, BEST_CLASSES);
}

/** A score on the straight lines of a calibration. */
export function told(score, { scores, probabilities }) {
  let next = scores.findIndex((one) => one >= score);
  if (next < 0) return probabilities.at(-1);
  if (next === 0) return probabilities[0];
  const share = (score - scores[next - 1]) / (scores[next] - scores[next - 1]);
  return probabilities[next - 1] + share * (probabilities[next] - probabilities[next - 1]);
}

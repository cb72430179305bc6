// What of an answer counts, and how it is told. Nothing here touches the page.

/**
 * A detection: {label, label_id, score, box: [x1, y1, x2, y2]} in pixels of the picture. One without a box is what a
 * classifier says of the whole picture.
 */

/** Scores below this are not asked for; the slider starts here. */
export const FLOOR = 0.05;

/**
 * The detections that score above the threshold, of classes that are not hidden.
 * @param thresholds of classes by their names, instead of the one for all
 * @param hidden names
 */
export function chosen(detections, { threshold, thresholds = null, hidden = new Set() }) {
  return detections.filter(
    ({ label, score }) => score > (thresholds?.[label] ?? threshold) && !hidden.has(label),
  );
}

/** How many there are of each class: name -> number. */
export function counted(detections) {
  const numbers = new Map();
  for (const { label } of detections) numbers.set(label, (numbers.get(label) ?? 0) + 1);
  return numbers;
}

/** In words: "3 objects: 2 person, 1 dog". */
export function sentence(detections, hidden = new Set()) {
  if (!detections.length) return `Nothing${hidden.size ? " of the classes that are shown" : ""} is found above this threshold.`;
  const parts = [...counted(detections)].sort((a, b) => b[1] - a[1]).map(([label, number]) => `${number} ${label}`);
  const objects = detections.length === 1 ? "1 object" : `${detections.length} objects`;
  return `${objects}: ${parts.join(", ")}`;
}

/**
 * What models found, as CSV (RFC 4180) with a line for each detection.
 * @param answers [{model, threshold, hidden_classes, results: [{file, width, height, detections} or {file, error}]}]
 */
export function asCsv(answers) {
  const lines = [["model", "file", "label", "score", "x1", "y1", "x2", "y2"]];
  for (const { model, results } of answers) {
    for (const { file, detections = [] } of results) {
      for (const { label, score, box } of detections) {
        const sides = box ? box.map((one) => one.toFixed(2)) : ["", "", "", ""];
        lines.push([model, file, label, score.toFixed(4), ...sides]);
      }
    }
  }
  return lines.map((line) => line.map(quoted).join(",") + "\r\n").join("");
}

/** The same as JSON. */
export function asJson(answers) {
  return JSON.stringify({ answers }, null, 2) + "\n";
}

function quoted(value) {
  const text = String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

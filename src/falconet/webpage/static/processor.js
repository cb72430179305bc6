// Whether the CPU or a graphics card runs a network: what was measured, whether both find the same, and how it is told.
import { FLOOR } from "./detections.js";

/** What may differ between two processors: pixels of the network's input, and scores. */
const NEAR = 0.5;
const CLOSE = 0.005;
/** A graphics card has to take less than this share of the CPU's time; below that, the measurement does not tell them apart. */
const CLEARLY = 0.9;
const PLACE = "falconet processors";
const MOST_KEPT = 20;

/**
 * Where two runs of a network differ by more than rounding, in words; null where they do not.
 * @param expected, got rows [x1, y1, x2, y2, score, class], or probabilities
 */
export function difference(expected, got, task) {
  if (task === "classify") {
    const same = expected.length === got.length && expected.every((one, index) => Math.abs(one - got[index]) <= CLOSE);
    return same ? null : "other probabilities";
  }
  const lone = loneRows(expected, got) + loneRows(got, expected);
  return lone ? `${lone} ${lone === 1 ? "box" : "boxes"} that the other does not find` : null;
}

/** Rows that have no row like them among `others`; those that score as little as the floor may be on either side of it. */
function loneRows(rows, others) {
  let lone = 0;
  for (let start = 0; start < rows.length; start += 6) {
    if (!(rows[start + 4] <= FLOOR + CLOSE) && !hasAlike(rows.subarray(start, start + 6), others)) lone += 1;
  }
  return lone;
}

function hasAlike(row, others) {
  for (let start = 0; start < others.length; start += 6) {
    if (others[start + 5] !== row[5] || !(Math.abs(others[start + 4] - row[4]) <= CLOSE)) continue;
    if ([0, 1, 2, 3].every((side) => Math.abs(others[start + side] - row[side]) <= NEAR)) return true;
  }
  return false;
}

/** What is kept of a comparison: median milliseconds. */
export function verdictOf({ cpu, gpu, number, different }) {
  return { cpu: median(cpu), gpu: median(gpu), number, different };
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted.length ? (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2 : null;
}

/**
 * What runs a model: "cpu" or "gpu".
 * @param wanted "auto", "cpu" or "gpu"
 * @param verdict of a comparison; null: there is none yet, and a card that nobody compared is not trusted
 */
export function chosenProcessor(wanted, verdict) {
  if (wanted === "cpu" || !verdict || verdict.different) return "cpu";
  return wanted === "gpu" || verdict.gpu < CLEARLY * verdict.cpu ? "gpu" : "cpu";
}

/** In words, what computes and why. */
export function reason({ wanted, adapter, verdict = null, failure = null, measuring = false }) {
  if (!adapter) return "The CPU computes: this browser offers pages no graphics card (WebGPU).";
  if (wanted === "cpu") return "The CPU computes, as chosen.";
  if (failure) return `The CPU computes: the graphics card cannot be used (${failure}).`;
  if (measuring) return "The CPU computes while the graphics card is loaded and compared with it.";
  if (!verdict) {
    const when = wanted === "gpu" ? "the first picture in which something is found" : "the second picture";
    return `The CPU computes. With ${when} the graphics card is compared with it.`;
  }
  if (verdict.different) return `The CPU computes: the graphics card finds something else (${verdict.different}).`;
  const times = `${verdict.cpu.toFixed(1)} ms on the CPU, ${verdict.gpu.toFixed(1)} ms on the graphics card`;
  const same = `when they were compared: ${times}, and the same was found`;
  if (chosenProcessor(wanted, verdict) === "gpu") return `The graphics card computes, ${wanted === "gpu" ? "as chosen" : "which is faster"}; ${same}.`;
  return `The CPU computes, since the graphics card is not clearly faster; ${same}.`;
}

/** Verdicts by their keys, as the browser keeps them; where it keeps nothing, they last as long as the page. */
export class Verdicts {
  #storage;
  #kept;

  constructor(storage) {
    this.#storage = storage;
    this.#kept = new Map(parsed(storage));
  }

  get(key) {
    return this.#kept.get(key) ?? null;
  }

  set(key, verdict) {
    this.#kept.delete(key);
    this.#kept.set(key, verdict);
    this.#write();
  }

  delete(key) {
    this.#kept.delete(key);
    this.#write();
  }

  #write() {
    while (this.#kept.size > MOST_KEPT) this.#kept.delete(this.#kept.keys().next().value);
    try {
      this.#storage?.setItem(PLACE, JSON.stringify([...this.#kept]));
    } catch {
      // The browser keeps nothing for this page.
    }
  }
}

function parsed(storage) {
  try {
    const rows = JSON.parse(storage?.getItem(PLACE) ?? "[]");
    return rows.filter(([key, verdict]) => typeof key === "string" && isVerdict(verdict));
  } catch {
    return [];
  }
}

function isVerdict(one) {
  return Boolean(one?.different) || (Number.isFinite(one?.cpu) && Number.isFinite(one?.gpu));
}

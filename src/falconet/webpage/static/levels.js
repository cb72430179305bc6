// Above which score detections count: each model has its own slider and its own stored thresholds.
import { FLOOR } from "./detections.js";
import { offer } from "./show.js";

const NONE = "";

/** What is set for models, by their names; a model that nobody touched has its own threshold. */
export class Levels {
  #set = new Map();

  of(model) {
    const usual = { threshold: Math.max(FLOOR, model.score_threshold ?? FLOOR), point: NONE };
    return this.#set.get(model.name) ?? usual;
  }

  /** Move the slider of a model, which is for all of its classes. */
  slide(model, threshold) {
    this.#set.set(model.name, { threshold, point: NONE });
  }

  /** Choose stored thresholds of a model by their name, or none. */
  choose(model, point) {
    this.#set.set(model.name, { ...this.of(model), point });
  }

  /** {threshold, thresholds: of classes by their names, instead of the one for all} */
  limits(model) {
    const { threshold, point } = this.of(model);
    return { threshold, thresholds: model.operating_points?.find(({ name }) => name === point)?.thresholds };
  }

  /** What is saved: the threshold, or the name of stored ones. */
  told(model) {
    const { threshold, point } = this.of(model);
    return point || threshold;
  }
}

/** One slider of the page, with its select of stored thresholds. */
export class LevelRow {
  #model = null;

  /** @param row holds a label, a range, an output and a select */
  constructor(row, levels, changed) {
    this.row = row;
    this.levels = levels;
    [this.label, this.range, this.output, this.points, this.select] = [".slider label", "input", "output", ".points", "select"].map((one) =>
      row.querySelector(one),
    );
    const act = (change) => ({ target }) => {
      change(target.value);
      this.#say();
      changed();
    };
    this.range.addEventListener("input", act((value) => levels.slide(this.#model, Number(value))));
    this.select.addEventListener("change", act((value) => levels.choose(this.#model, value)));
  }

  /** Stand for a model, or for none. */
  show(model, words) {
    this.row.hidden = !model || model.task === "classify";
    this.label.textContent = words;
    if (!model || this.#model === model) return;
    this.#model = model;
    const points = model.operating_points ?? [];
    this.points.hidden = !points.length;
    offer(this.select, [[NONE, "one for all classes"], ...points.map(({ name }) => [name, name])], NONE);
    this.#say();
  }

  #say() {
    const { threshold, point } = this.levels.of(this.#model);
    this.range.value = threshold;
    this.output.textContent = point ? "by class" : threshold.toFixed(2);
    this.select.value = point;
  }
}

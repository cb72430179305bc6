// What the page shows of a state; it reads the state and never changes it.
import { colour } from "./colours.js";
import { counted } from "./detections.js";

const STAGES = {
  decode: "decoding",
  prepare: "resizing",
  queue: "waiting in the queue",
  detect: "detecting",
  network: "way to the server and back",
};

/** An element with text. */
export function made(kind, text = "", attributes = {}) {
  const element = document.createElement(kind);
  element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** The choices of a select: [value, words] each. */
export function offer(select, choices, value) {
  select.replaceChildren(...choices.map(([key, words]) => made("option", words, { value: key })));
  select.value = value;
}

/**
 * Boxes to tick, one for each class, with how many were found by each model, whether they are shown or not.
 * @param names in the order of their colours
 * @param present names of classes that come first
 * @param found detections of each model
 */
export function showClasses(list, { names, present, hidden, found, toggle }) {
  const numbers = found.map(counted);
  const order = [...names.filter((name) => present.has(name)), ...names.filter((name) => !present.has(name))];
  const shown = order.join("\n");
  if (list.dataset.shown !== shown) {
    list.dataset.shown = shown;
    const rows = new Map([...list.children].map((row) => [row.dataset.name, row]));
    const focused = document.activeElement;
    list.replaceChildren(...order.map((name) => rows.get(name) ?? classRow(name, toggle)));
    if (list.contains(focused)) focused.focus({ preventScroll: true }); // a row that moves loses it
  }
  for (const row of list.children) {
    const { name } = row.dataset;
    const each = numbers.map((one) => one.get(name) ?? 0);
    row.querySelector("input").checked = !hidden.has(name);
    row.querySelector(".swatch").style.background = colour(names.indexOf(name));
    row.querySelector(".number").textContent = each.some(Boolean) ? each.join(" / ") : "0";
    row.firstChild.classList.toggle("none", !each.some(Boolean));
  }
}

function classRow(name, toggle) {
  const row = made("li", "", { "data-name": name });
  const label = document.createElement("label");
  const box = made("input", "", { type: "checkbox" });
  box.addEventListener("change", () => toggle(name, box.checked));
  const swatch = made("span", "", { class: "swatch", "aria-hidden": "true" });
  label.append(box, swatch, made("span", name), made("span", "0", { class: "number" }));
  row.append(label);
  return row;
}

/** Who computed, as an answer says it. */
export function computedBy({ device, threads }) {
  if (device === "gpu") return "graphics card (WebGPU)";
  if (device === "server") return "the server";
  return `CPU, ${threads} ${threads === 1 ? "thread" : "threads"}`;
}

/** The milliseconds of each stage, and who computed. */
export function showTimes(list, answers, rate) {
  list.replaceChildren();
  for (const answer of answers) {
    const { model, milliseconds } = answer;
    const whole = Object.values(milliseconds).reduce((sum, one) => sum + one, 0);
    if (answers.length > 1) pair(list, "model", model);
    for (const [stage, value] of Object.entries(milliseconds)) pair(list, STAGES[stage] ?? stage, `${value.toFixed(1)} ms`);
    pair(list, "together", `${whole.toFixed(1)} ms`);
    pair(list, "computed by", computedBy(answer));
  }
  if (rate) pair(list, "frames a second", rate.toFixed(1));
}

function pair(list, name, value) {
  list.append(made("dt", name), made("dd", value));
}

/** A row for each detection; the one that is pointed at is marked in the picture. */
export function showList(body, detections, mark) {
  body.replaceChildren(
    ...detections.map((one) => {
      const row = document.createElement("tr");
      const box = one.box ? one.box.map((side) => side.toFixed(0)).join(", ") : "the whole picture";
      row.append(made("td", one.label), made("td", one.score.toFixed(2)), made("td", box));
      row.addEventListener("mouseenter", () => mark(one));
      row.addEventListener("mouseleave", () => mark(null));
      return row;
    }),
  );
}

/** What is known of a model. */
export function showCard(list, model) {
  const { height, width } = model.input;
  const facts = {
    name: model.name,
    finds: `${model.classes.length} ${model.classes.length === 1 ? "class" : "classes"}`,
    input: `${width} x ${height} pixels`,
    "threshold of its own": model.score_threshold?.toFixed(2),
    engine: [model.engine, model.precision].filter(Boolean).join(", "),
    AP: typeof model.ap === "number" ? `${(100 * model.ap).toFixed(1)} %` : null,
    "compared with torch": model.receipt && compared(model.receipt),
    source: model.source,
    licence: model.licence,
    "SHA-256": model.sha256,
  };
  list.replaceChildren();
  for (const [name, value] of Object.entries(facts)) if (value) pair(list, name, String(value));
}

function compared({ images, problems }) {
  return `${images} pictures: ${problems?.length ? problems.join("; ") : "the same within tolerance"}`;
}

/**
 * The pictures to choose from, as buttons.
 * @param failed whether a picture has no answer and gets none
 */
export function showStrip(list, { pictures, current, failed, choose }) {
  list.hidden = pictures.length < 2;
  while (list.childElementCount > pictures.length) list.lastChild.remove();
  pictures.forEach((picture, index) => {
    if (!list.children[index]) list.append(stripItem(() => choose(index)));
    const button = list.children[index].firstChild;
    if (picture === current) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
    const small = picture.thumbnail;
    const name = failed(picture) ? `no answer: ${picture.name}` : picture.name;
    button.classList.toggle("failed", failed(picture));
    if (button.textContent !== name || (small && button.firstChild !== small)) {
      button.replaceChildren(...(small ? [small] : []), made("span", name));
    }
  });
}

function stripItem(choose) {
  const item = document.createElement("li");
  const button = made("button", "", { type: "button" });
  button.addEventListener("click", choose);
  item.append(button);
  return item;
}

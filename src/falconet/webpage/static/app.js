// The page: pictures in, boxes out. Whether a server detects or this browser, is written in site.json.
import { asCsv, asJson, chosen, FLOOR, sentence } from "./detections.js";
import { draw } from "./draw.js";
import { closeVideo, openCamera, openVideo, watch } from "./live.js";
import { Frame, Picture, receive, sorted, thumbnailOf } from "./pictures.js";
import { annotated, save, stem } from "./save.js";
import { offer, showCard, showClasses, showList, showStrip, showTimes } from "./show.js";

const DEVICES = { cpu: "processor (WASM)", gpu: "graphics card (WebGPU)" };
const SAID_EVERY = 2000;
const NONE = "";

const at = (id) => document.getElementById(id);
const video = at("video");
const views = [at("view-first"), at("view-second")];

let backend = null;
const state = {
  models: [],
  asked: [], // the model, and the one beside it
  device: "cpu",
  pictures: [],
  current: null, // the picture or frame on the screen
  bitmap: null, // its pixels
  live: null, // stops the camera or the video
  rate: 0, // frames a second
  left: 0, // pictures without an answer
  threshold: 0.25,
  point: NONE, // name of stored thresholds
  hidden: new Set(), // names of classes
  seen: new Set(), // names of classes that were found in some picture
  marked: null,
};

// ---- what is found

function key(model) {
  return `${state.device} ${model.name} ${model.sha256}`;
}

function names() {
  return [...new Set(state.asked.flatMap((model) => model.classes))];
}

function answerOf(picture, model) {
  const answer = picture?.answers.get(key(model));
  return answer && !(answer instanceof Error) ? answer : null;
}

/** The detections of a picture that count. */
function found(picture, model) {
  const answer = answerOf(picture, model);
  if (!answer) return [];
  if (answer.classes) return answer.classes.filter(({ label }) => !state.hidden.has(label));
  const stored = model.operating_points?.find(({ name }) => name === state.point);
  return chosen(answer.detections, { ...state, thresholds: stored?.thresholds });
}

/** Ask for what is missing of a picture. */
async function ask(picture, bitmap) {
  for (const model of state.asked) {
    if (picture.answers.has(key(model))) continue;
    const name = key(model);
    try {
      picture.answers.set(name, await backend.detect(model, { blob: picture.blob, bitmap }, state.device));
    } catch (error) {
      if (error instanceof backend.TokenNeeded) throw error;
      picture.answers.set(name, new Error(`${picture.name}: ${error.message}`));
    }
  }
}

let working = false;

/** Answer all pictures, the one on the screen first. */
async function work() {
  if (working || state.live) return;
  working = true;
  try {
    for (let next = missing(); next && !state.live; next = missing()) await workOn(next);
  } catch (error) {
    if (error instanceof backend.TokenNeeded) askToken();
    else trouble(error);
  } finally {
    working = false;
    state.left = state.pictures.filter(isOpen).length;
    tellFailed();
    render();
  }
}

/** Whether a picture lacks an answer. */
function isOpen(picture) {
  return picture instanceof Picture && state.asked.some((model) => !picture.answers.has(key(model)));
}

function failure(picture) {
  return state.asked.map((model) => picture.answers.get(key(model))).find((answer) => answer instanceof Error);
}

function missing() {
  return isOpen(state.current) ? state.current : state.pictures.find(isOpen);
}

function tellFailed() {
  const failed = state.pictures.map(failure).filter(Boolean);
  if (failed.length > 1) {
    trouble(new Error(`${failed.length} of ${state.pictures.length} pictures have no answer. The first: ${failed[0].message}`));
  }
}

async function workOn(picture) {
  state.left = state.pictures.filter(isOpen).length;
  if (isOpen(state.current)) say("Detecting ...");
  let bitmap;
  try {
    bitmap = await picture.open();
  } catch (error) {
    for (const model of state.asked) picture.answers.set(key(model), error);
    render();
    return;
  }
  picture.thumbnail ??= thumbnailOf(bitmap);
  await ask(picture, bitmap);
  bitmap.close();
  render();
}

// ---- pictures, video, camera

async function take(files) {
  if (at("pick").disabled) return; // not ready yet
  const { pictures, videos, others } = sorted(files);
  trouble(others.length ? new Error(`${others.map(({ name }) => name).join(", ")}: neither a picture nor a video.`) : null);
  if (videos.length) {
    await watchLive(() => openVideo(video, videos[0]), videos[0].name);
  } else if (pictures.length) {
    stopLive();
    const added = pictures.map((file) => new Picture(file));
    state.pictures.push(...added);
    await look(added[0]);
    work();
  }
}

function choose(index) {
  stopLive();
  look(state.pictures[index]);
  work();
}

async function look(picture) {
  state.current = picture;
  state.marked = null;
  let bitmap = null;
  try {
    bitmap = await picture.open();
  } catch (error) {
    trouble(error);
  }
  if (state.current !== picture) return bitmap?.close();
  state.bitmap?.close();
  state.bitmap = bitmap;
  render();
}

async function watchLive(open, name) {
  stopLive();
  trouble(null);
  const stop = new AbortController();
  try {
    await open();
  } catch (error) {
    return trouble(error);
  }
  state.live = stop;
  at("pause").hidden = at("stop").hidden = false;
  let before = performance.now();
  try {
    await watch(video, async ({ bitmap, seconds }) => {
      const frame = new Frame(bitmap, `${name} at ${seconds.toFixed(2)} s`);
      await ask(frame, bitmap);
      if (stop.signal.aborted) return bitmap.close();
      const now = performance.now();
      state.rate = 1000 / (now - before);
      before = now;
      state.bitmap?.close();
      [state.current, state.bitmap] = [frame, bitmap];
      render();
    }, stop.signal);
  } catch (error) {
    if (error instanceof backend.TokenNeeded) askToken();
    else trouble(error);
  }
  if (state.live === stop) stopLive();
}

function stopLive() {
  state.live?.abort();
  state.live = null;
  state.rate = 0;
  closeVideo(video);
  at("pause").hidden = at("stop").hidden = true;
  at("pause").textContent = "Pause";
}

async function pause() {
  if (video.paused) await video.play();
  else video.pause();
  at("pause").textContent = video.paused ? "Go on" : "Pause";
}

// ---- the screen

let saidAt = 0;

function say(text) {
  const now = performance.now();
  if (state.live && now - saidAt < SAID_EVERY) return;
  saidAt = now;
  if (at("status").textContent !== text) at("status").textContent = text;
}

function trouble(error) {
  at("trouble").hidden = !error;
  at("trouble").textContent = error?.message ?? "";
}

function place(label) {
  return names().indexOf(label);
}

function render() {
  const { current, bitmap, asked } = state;
  at("empty").hidden = Boolean(current);
  const all = asked.map((model) => found(current, model));
  asked.forEach((model, index) => showView(views[index], model, all[index]));
  views.forEach((view, index) => (view.hidden = !bitmap || index >= asked.length));
  for (const { label } of all.flat()) state.seen.add(label);
  showStrip(at("strip"), { ...state, failed: (picture) => Boolean(failure(picture)), choose });
  showClasses(at("classes"), { ...state, names: names(), found: all[0] ?? [], toggle });
  showList(at("list"), all[0] ?? [], mark);
  const answers = asked.map((model) => [model.name, answerOf(current, model)]).filter(([, answer]) => answer);
  showTimes(at("times"), answers.map(([model, answer]) => ({ ...answer, model })), state.rate);
  for (const id of ["times", "list"]) at(id).closest("section").hidden = !answers.length;
  const wrong = current && failure(current);
  if (wrong) trouble(wrong);
  if (answers.length) say(told(current, all) + (state.left ? ` (${state.left} pictures to go)` : ""));
  at("save-picture").disabled = !answers.length;
  at("save-json").disabled = at("save-csv").disabled = !answers.length || state.left > 0;
}

function told(current, all) {
  const [answer] = state.asked.map((model) => answerOf(current, model)).filter(Boolean);
  if (answer.classes) return `${current.name}: ${all[0].map(({ label, score }) => `${label} ${score.toFixed(2)}`).join(", ")}`;
  return `${current.name}: ${sentence(all[0], state.hidden)}`;
}

function showView(view, model, detections) {
  if (!state.bitmap) return;
  draw(view.querySelector("canvas"), state.bitmap, detections, { place, marked: state.marked });
  const whole = detections.length && !detections[0].box;
  const words = whole ? detections[0].label : sentence(detections, state.hidden);
  view.querySelector("canvas").setAttribute("aria-label", `${state.current.name}, ${model.name}: ${words}`);
  view.querySelector("figcaption").textContent = state.asked.length > 1 ? `${model.name}: ${words}` : state.current.name;
}

function mark(detection) {
  state.marked = detection;
  state.asked.forEach((model, index) => showView(views[index], model, found(state.current, model)));
}

function toggle(name, shown) {
  if (shown) state.hidden.delete(name);
  else state.hidden.add(name);
  render();
}

// ---- controls

function showThreshold() {
  at("threshold").value = state.threshold;
  at("threshold-says").textContent = state.point ? "by class" : state.threshold.toFixed(2);
}

function chooseModels() {
  const [first, second] = [at("model").value, at("second").value];
  const byName = (name) => state.models.find((model) => model.name === name);
  const changed = state.asked[0]?.name !== first;
  state.asked = [byName(first), second && second !== first ? byName(second) : null].filter(Boolean);
  offer(at("second"), [[NONE, "none"], ...state.models.filter(({ name }) => name !== first).map(({ name }) => [name, name])],
    state.asked[1]?.name ?? NONE);
  at("second").disabled = false;
  at("second").parentElement.hidden = state.models.length < 2;
  if (changed) {
    const [model] = state.asked;
    state.threshold = Math.max(FLOOR, model.score_threshold ?? FLOOR);
    state.point = NONE;
    const points = model.operating_points ?? [];
    at("points").hidden = !points.length;
    offer(at("point"), [[NONE, "one for all classes"], ...points.map(({ name }) => [name, name])], NONE);
    at("choose").hidden = model.task === "classify";
    showThreshold();
  }
  showCard(at("card").querySelector("dl"), state.asked[0]);
  render();
  work();
}

function answersToSave() {
  const pictures = state.current instanceof Frame ? [state.current] : state.pictures;
  return state.asked.map((model) => ({
    model: model.name,
    threshold: state.point || state.threshold,
    hidden_classes: [...state.hidden],
    results: pictures.map((picture) => {
      const answer = answerOf(picture, model);
      if (!answer) return { file: picture.name, error: picture.answers.get(key(model))?.message ?? "no answer yet" };
      const { width, height } = answer;
      return { file: picture.name, width, height, detections: found(picture, model) };
    }),
  }));
}

async function savePicture() {
  const bitmap = await state.current.open();
  save(await annotated(bitmap, found(state.current, state.asked[0]), place), `${stem(state.current.name)}-found.jpg`);
  bitmap.close();
}

function listen() {
  at("pick").addEventListener("click", () => at("files").click());
  at("files").addEventListener("change", ({ target }) => {
    take([...target.files]);
    target.value = "";
  });
  at("camera").addEventListener("click", () => watchLive(() => openCamera(video), "camera"));
  at("pause").addEventListener("click", pause);
  at("stop").addEventListener("click", stopLive);
  at("threshold").addEventListener("input", ({ target }) => {
    state.threshold = Number(target.value);
    state.point = at("point").value = NONE;
    showThreshold();
    render();
  });
  at("point").addEventListener("change", ({ target }) => {
    state.point = target.value;
    showThreshold();
    render();
  });
  at("model").addEventListener("change", chooseModels);
  at("second").addEventListener("change", chooseModels);
  at("device").addEventListener("change", ({ target }) => {
    state.device = target.value;
    work();
  });
  at("show-all").addEventListener("click", () => { state.hidden.clear(); render(); });
  at("hide-all").addEventListener("click", () => { state.hidden = new Set(names()); render(); });
  at("save-picture").addEventListener("click", savePicture);
  at("save-json").addEventListener("click", () => save(asJson(answersToSave()), "found.json", "application/json"));
  at("save-csv").addEventListener("click", () => save(asCsv(answersToSave()), "found.csv", "text/csv"));
  at("login").addEventListener("submit", (event) => {
    event.preventDefault();
    backend.useToken(at("token").value);
    at("login").hidden = true;
    begin();
  });
  receive(at("stage"), take);
}

function askToken() {
  say("This server wants a token.");
  trouble(at("token").value ? new Error("The server does not know this token.") : null);
  at("login").hidden = false;
  at("token").focus();
}

// ---- the start

/** Learn which models there are, and let the user begin. */
async function begin() {
  try {
    state.models = await backend.models();
  } catch (error) {
    if (error instanceof backend.TokenNeeded) return askToken();
    say("");
    return trouble(error);
  }
  trouble(null);
  offer(at("model"), state.models.map(({ name }) => [name, name]), state.asked[0]?.name ?? state.models[0].name);
  const devices = await backend.devices();
  at("runs").hidden = devices.length < 2;
  offer(at("device"), devices.map((one) => [one, DEVICES[one]]), state.device);
  chooseModels();
  say("Loading the network ...");
  try {
    await backend.prepare(state.asked[0], state.device);
  } catch (error) {
    say("");
    return trouble(error);
  }
  at("model").disabled = at("pick").disabled = at("camera").disabled = false;
  say("Ready.");
}

async function start() {
  say("Starting ...");
  listen();
  try {
    const site = await (await fetch("site.json")).json();
    if (site.backend === "browser") await (await import("./offline.js")).keepSite();
    backend = await import(site.backend === "browser" ? "./browser.js" : "./server.js");
  } catch (error) {
    say("");
    return trouble(new Error(`The page is not complete: ${error.message}`));
  }
  at("where").textContent = backend.where;
  await begin();
}

start();

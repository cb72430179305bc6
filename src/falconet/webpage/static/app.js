// The page: pictures in, boxes out. Whether a server detects or this browser, is written in site.json.
import { Answering, answerOf, failureOf, keyOf } from "./answering.js";
import { asCsv, asJson, chosen, sentence } from "./detections.js";
import { draw, stretched } from "./draw.js";
import { LevelRow, Levels } from "./levels.js";
import { closeVideo, openCamera, openVideo, watch } from "./live.js";
import { Frame, Picture, receive, sorted } from "./pictures.js";
import { annotated, save, stem } from "./save.js";
import { offer, showCard, showClasses, showList, showStrip, showTimes } from "./show.js";
import { recalled, remember } from "./stored.js";

const DEVICES = { auto: "automatic", cpu: "CPU", gpu: "graphics card (WebGPU)" };
const SAID_EVERY = 2000;
const NONE = "";

const at = (id) => document.getElementById(id);
const video = at("video");
const views = [at("view-first"), at("view-second")];

let backend = null;
let answering = null;
const state = {
  models: [],
  asked: [], // the model, and the one beside it
  device: "cpu", // or "gpu", "auto", "server": what shall compute
  pictures: [],
  current: null, // the picture or frame on the screen
  bitmap: null, // its pixels
  live: null, // stops the camera or the video
  rate: 0, // frames a second
  left: 0, // pictures without an answer
  levels: new Levels(),
  hidden: new Set(), // names of classes
  present: new Set(), // names of classes in the picture; of a camera or a video, in some frame
  marked: null,
};

const rows = [at("level-first"), at("level-second")].map((row) => new LevelRow(row, state.levels, render));

// ---- what is found

function names() {
  return [...new Set(state.asked.flatMap((model) => model.classes))];
}

/** The detections of a picture that count; of classes that are hidden, too, where `hidden` is empty. */
function found(picture, model, hidden = state.hidden) {
  const answer = answerOf(state, picture, model);
  if (!answer) return [];
  if (answer.classes) return answer.classes.filter(({ label }) => !hidden.has(label));
  return chosen(answer.detections, { ...state.levels.limits(model), hidden });
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
    const convert = backend.converted && ((blob) => backend.converted(state.asked[0], blob));
    const added = pictures.map((file) => new Picture(file, { convert }));
    state.pictures.push(...added);
    await look(added[0]);
    answering.work();
  }
}

function choose(index) {
  stopLive();
  look(state.pictures[index]);
  answering.work();
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
  state.present.clear();
  at("pause").hidden = at("stop").hidden = false;
  let before = performance.now();
  try {
    await watch(video, async ({ bitmap, seconds }) => {
      const frame = new Frame(bitmap, `${name} at ${seconds.toFixed(2)} s`);
      await answering.ask(frame, bitmap);
      if (stop.signal.aborted) return bitmap.close();
      const now = performance.now();
      state.rate = 1000 / (now - before);
      before = now;
      state.bitmap?.close();
      [state.current, state.bitmap] = [frame, bitmap];
      render();
    }, stop.signal);
  } catch (error) {
    answering.stopped(error);
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
  showStrip(at("strip"), { ...state, failed: (picture) => Boolean(failureOf(state, picture)), choose });
  const shownOrNot = asked.map((model) => found(current, model, new Set()));
  if (!state.live) state.present.clear(); // the order follows the picture, but not each frame
  for (const { label } of shownOrNot.flat()) state.present.add(label);
  showClasses(at("classes"), { ...state, names: names(), found: shownOrNot, toggle });
  showList(at("list"), all[0] ?? [], mark);
  const answers = asked.map((model) => [model.name, answerOf(state, current, model)]).filter(([, answer]) => answer);
  showTimes(at("times"), answers.map(([model, answer]) => ({ ...answer, model })), state.rate);
  for (const id of ["times", "list"]) at(id).closest("section").hidden = !answers.length;
  showProcessor();
  const wrong = current && failureOf(state, current);
  if (wrong) trouble(wrong);
  if (answers.length) say(told(current, all) + (state.left ? ` (${state.left} pictures to go)` : ""));
  at("save-picture").disabled = !answers.length;
  at("save-json").disabled = at("save-csv").disabled = !answers.length || state.left > 0;
}

/** Where this browser detects: on which processor, and why. */
function showProcessor() {
  const { asked, device } = state;
  at("processor").hidden = !backend?.processor || !asked.length;
  if (at("processor").hidden) return;
  const each = asked.map((model) => backend.processor(model, device));
  const words = new Set(each).size === 1 ? each[0] : each.map((one, index) => `${asked[index].name}: ${one}`).join("\n");
  if (at("reason").textContent !== words) at("reason").textContent = words;
  at("measure").hidden = !state.bitmap || !backend.canMeasureAgain(asked[0], device);
}

function told(current, all) {
  const [answer] = state.asked.map((model) => answerOf(state, current, model)).filter(Boolean);
  if (answer.classes) return `${current.name}: ${all[0].map(({ label, score }) => `${label} ${score.toFixed(2)}`).join(", ")}`;
  return `${current.name}: ${sentence(all[0], state.hidden)}`;
}

function showView(view, model, detections) {
  if (!state.bitmap) return;
  draw(view.querySelector("canvas"), state.bitmap, detections, { place, marked: state.marked });
  const whole = detections.length && !detections[0].box;
  const words = whole ? detections[0].label : sentence(detections, state.hidden);
  view.querySelector("canvas").setAttribute("aria-label", `${state.current.name}, ${model.name}: ${words}`);
  const caption = state.asked.length > 1 ? `${model.name}: ${words}` : state.current.name;
  view.querySelector("figcaption").textContent = caption + (stretched(state.bitmap) && ` (${stretched(state.bitmap)})`);
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

function chooseModels() {
  const [first, second] = [at("model").value, at("second").value];
  const byName = (name) => state.models.find((model) => model.name === name);
  state.asked = [byName(first), second && second !== first ? byName(second) : null].filter(Boolean);
  offer(at("second"), [[NONE, "none"], ...state.models.filter(({ name }) => name !== first).map(({ name }) => [name, name])],
    state.asked[1]?.name ?? NONE);
  at("second").disabled = false;
  at("second").parentElement.hidden = state.models.length < 2;
  const several = state.asked.length > 1;
  rows.forEach((row, index) => row.show(state.asked[index], several ? `${state.asked[index].name}, score above` : "Score above"));
  at("choose").hidden = rows.every(({ row }) => row.hidden);
  showCard(at("card").querySelector("dl"), state.asked[0]);
  render();
  answering.work();
}

function answersToSave() {
  const pictures = state.current instanceof Frame ? [state.current] : state.pictures;
  return state.asked.map((model) => ({
    model: model.name,
    threshold: state.levels.told(model),
    hidden_classes: [...state.hidden],
    results: pictures.map((picture) => {
      const answer = answerOf(state, picture, model);
      if (!answer) return { file: picture.name, error: picture.answers.get(keyOf(state, model))?.message ?? "no answer yet" };
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
  at("model").addEventListener("change", chooseModels);
  at("second").addEventListener("change", chooseModels);
  at("device").addEventListener("change", ({ target }) => {
    state.device = target.value;
    remember("processor", state.device);
    render();
    answering.work();
  });
  at("measure").addEventListener("click", () => backend.measureAgain(state.asked[0], state.bitmap));
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
  const devices = await backend.devices(render);
  state.device = recalled("processor", devices);
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
  answering = new Answering(state, backend, { say, trouble, render, askToken });
  at("where").textContent = backend.where;
  await begin();
}

start();

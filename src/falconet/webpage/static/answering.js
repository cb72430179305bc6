// Pictures wait here until each chosen model has answered: the one on the screen comes first.
import { Picture, thumbnailOf } from "./pictures.js";

/** What an answer depends on, beside the picture. */
export function keyOf(state, model) {
  return `${state.device} ${model.name} ${model.sha256}`;
}

/** What a model found in a picture; null where there is no answer, or none yet. */
export function answerOf(state, picture, model) {
  const answer = picture?.answers.get(keyOf(state, model));
  return answer && !(answer instanceof Error) ? answer : null;
}

/** Why a picture has no answer. */
export function failureOf(state, picture) {
  return state.asked.map((model) => picture.answers.get(keyOf(state, model))).find((answer) => answer instanceof Error);
}

/** Whether a picture lacks an answer. */
function isOpen(state, picture) {
  return picture instanceof Picture && state.asked.some((model) => !picture.answers.has(keyOf(state, model)));
}

/** Asks for what is missing, one picture after the other. */
export class Answering {
  #working = false;

  /**
   * @param state of the page
   * @param backend detects
   * @param page {say, trouble, render, askToken}
   */
  constructor(state, backend, page) {
    Object.assign(this, { state, backend, page });
  }

  /** Ask for what is missing of a picture. */
  async ask(picture, bitmap) {
    const { state, backend } = this;
    for (const model of state.asked) {
      const key = keyOf(state, model);
      if (picture.answers.has(key)) continue;
      try {
        picture.answers.set(key, await backend.detect(model, { blob: picture.blob, bitmap }, state.device));
      } catch (error) {
        if (error instanceof backend.TokenNeeded) throw error;
        picture.answers.set(key, new Error(`${picture.name}: ${error.message}`));
      }
    }
  }

  /** Answer all pictures. */
  async work() {
    const { state, page } = this;
    if (this.#working || state.live) return;
    this.#working = true;
    try {
      for (let next = this.#missing(); next && !state.live; next = this.#missing()) await this.#workOn(next);
    } catch (error) {
      this.stopped(error);
    } finally {
      this.#working = false;
      state.left = state.pictures.filter((one) => isOpen(state, one)).length;
      this.#tellFailed();
      page.render();
    }
  }

  /** Tell what ended the work, or ask for the token that is missing. */
  stopped(error) {
    if (error instanceof this.backend.TokenNeeded) this.page.askToken();
    else this.page.trouble(error);
  }

  #missing() {
    const { state } = this;
    return isOpen(state, state.current) ? state.current : state.pictures.find((one) => isOpen(state, one));
  }

  #tellFailed() {
    const { state, page } = this;
    const failed = state.pictures.map((one) => failureOf(state, one)).filter(Boolean);
    if (failed.length > 1) {
      page.trouble(new Error(`${failed.length} of ${state.pictures.length} pictures have no answer. The first: ${failed[0].message}`));
    }
  }

  async #workOn(picture) {
    const { state, page } = this;
    state.left = state.pictures.filter((one) => isOpen(state, one)).length;
    if (isOpen(state, state.current)) page.say("Detecting ...");
    let bitmap;
    try {
      bitmap = await picture.open();
    } catch (error) {
      for (const model of state.asked) picture.answers.set(keyOf(state, model), error);
      page.render();
      return;
    }
    picture.thumbnail ??= thumbnailOf(bitmap);
    await this.ask(picture, bitmap);
    bitmap.close();
    page.render();
  }
}

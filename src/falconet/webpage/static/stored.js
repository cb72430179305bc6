// What the browser remembers for this page, where it may.

/** Its storage; null where the user allows none. */
export function stored() {
  try {
    return globalThis.localStorage ?? null;
  } catch {
    return null;
  }
}

/** A choice of the user, if it is still one of `choices`; else the first of them. */
export function recalled(name, choices, storage = stored()) {
  const before = storage?.getItem(`falconet ${name}`);
  return choices.includes(before) ? before : choices[0];
}

export function remember(name, value, storage = stored()) {
  try {
    storage?.setItem(`falconet ${name}`, value);
  } catch {
    // It is full: the choice lasts as long as the page.
  }
}

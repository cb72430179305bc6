// The site without a network, and threads on hosts that set no headers: both are what a service worker is for.

const MOST_WAITED = 3000;
const RELOADED = "falconet reloaded";

/** Start the service worker; what is fetched from then on is kept. The page is loaded once more where that brings threads. */
export async function keepSite() {
  const workers = navigator.serviceWorker;
  if (!workers) return;
  const known = await workers.getRegistration();
  // A host may not allow it: then the page works, but not offline.
  const registered = workers.register("offline-worker.js").catch(() => null);
  // A worker that is there, but does not answer for this page, was left out by the user: a reload with Shift.
  if (!workers.controller && !known?.active) await Promise.race([controlled(registered), waited()]);
  if (!workers.controller || self.crossOriginIsolated || sessionStorage.getItem(RELOADED)) return;
  sessionStorage.setItem(RELOADED, "once");
  location.reload();
  await waited(); // the page goes away; where it does not, it works with one thread
}

async function controlled(registered) {
  if (!(await registered) || navigator.serviceWorker.controller) return;
  await new Promise((resolve) => navigator.serviceWorker.addEventListener("controllerchange", resolve, { once: true }));
}

function waited() {
  return new Promise((resolve) => setTimeout(resolve, MOST_WAITED));
}

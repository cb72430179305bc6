// The site without a network, and threads on hosts that set no headers: both are what a service worker is for.

const MOST_WAITED = 4000;
const RELOADED = "falconet reloaded";

/** Start the service worker; what is fetched from then on is kept. The page is loaded once more where that brings threads. */
export async function keepSite() {
  if (!navigator.serviceWorker) return;
  try {
    await navigator.serviceWorker.register("offline-worker.js");
  } catch {
    return; // a host that does not allow it: the page works, but not offline
  }
  await controlled();
  const gains = navigator.serviceWorker.controller && !self.crossOriginIsolated && !sessionStorage.getItem(RELOADED);
  if (!gains) return;
  sessionStorage.setItem(RELOADED, "once");
  location.reload();
  await new Promise(() => {});
}

function controlled() {
  if (navigator.serviceWorker.controller) return Promise.resolve();
  return new Promise((resolve) => {
    navigator.serviceWorker.addEventListener("controllerchange", resolve, { once: true });
    setTimeout(resolve, MOST_WAITED);
  });
}

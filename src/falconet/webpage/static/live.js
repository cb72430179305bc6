// Frames of a camera or a video file, one after the other, as fast as they are answered.

/** Pixels of the longer side; larger frames are made smaller before they are looked at. */
const LONGEST = 1280;

/** Let a video element show the camera; a sentence is thrown where that is impossible. */
export async function openCamera(video) {
  if (!navigator.mediaDevices) throw new Error("The camera works on pages that come over https or from this machine alone.");
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: LONGEST } } });
  } catch (error) {
    const refused = error.name === "NotAllowedError";
    throw new Error(refused ? "The browser was not allowed to use the camera." : `No camera can be used: ${error.message}`);
  }
  await video.play();
}

/** Let a video element play a file. */
export async function openVideo(video, file) {
  video.srcObject = null;
  video.src = URL.createObjectURL(file);
  try {
    await video.play();
  } catch {
    closeVideo(video);
    throw new Error(`${file.name}: this browser cannot play it. MP4 with H.264 and WebM are understood by most.`);
  }
}

/** Switch the camera off, forget the file. */
export function closeVideo(video) {
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  video.pause();
  video.srcObject = null;
  if (video.src) URL.revokeObjectURL(video.src);
  video.removeAttribute("src");
}

/** Hand each frame {bitmap, seconds} to `look` until the video ends or the signal says stop. */
export async function watch(video, look, signal) {
  while (!signal.aborted && !video.ended) {
    await new Promise(requestAnimationFrame);
    if (video.paused || video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA || signal.aborted) continue;
    await look({ bitmap: await frameOf(video), seconds: video.currentTime });
  }
}

function frameOf(video) {
  const scale = Math.min(1, LONGEST / Math.max(video.videoWidth, video.videoHeight));
  if (scale === 1) return createImageBitmap(video);
  const [resizeWidth, resizeHeight] = [video.videoWidth, video.videoHeight].map((side) => Math.round(side * scale));
  return createImageBitmap(video, { resizeWidth, resizeHeight, resizeQuality: "medium" });
}

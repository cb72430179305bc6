// Pictures as people have them: dropped, pasted or picked files.

const THUMBNAIL = [152, 112];

/** A picture of a file: its pixels are read when it is looked at, and not kept. */
export class Picture {
  constructor(file, name = file.name) {
    this.name = name;
    this.blob = file;
    this.answers = new Map();
    this.thumbnail = null;
  }

  /** Its pixels, upright, as an ImageBitmap that belongs to the caller. */
  async open() {
    try {
      return await createImageBitmap(this.blob, { imageOrientation: "from-image", colorSpaceConversion: "none" });
    } catch {
      throw new Error(`${this.name}: this browser cannot open it as a picture.`);
    }
  }
}

/** A frame of a video or a camera, which is kept no longer than it is on the screen. */
export class Frame {
  constructor(bitmap, name) {
    this.name = name;
    this.bitmap = bitmap;
    this.answers = new Map();
  }

  open() {
    return createImageBitmap(this.bitmap);
  }
}

/** A small canvas of a picture. */
export function thumbnailOf(bitmap) {
  const canvas = document.createElement("canvas");
  const scale = Math.max(THUMBNAIL[0] / bitmap.width, THUMBNAIL[1] / bitmap.height);
  [canvas.width, canvas.height] = THUMBNAIL;
  const [width, height] = [bitmap.width * scale, bitmap.height * scale];
  canvas.getContext("2d").drawImage(bitmap, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
  return canvas;
}

/** Pictures and videos among files, and the names of what is neither. */
export function sorted(files) {
  const kinds = { pictures: [], videos: [], others: [] };
  for (const file of files) {
    const kind = file.type.startsWith("image/") ? "pictures" : file.type.startsWith("video/") ? "videos" : "others";
    kinds[kind].push(file);
  }
  return kinds;
}

/** Hand over the files that are dropped anywhere on the page, or pasted. */
export function receive(stage, take) {
  const over = (event) => {
    event.preventDefault();
    stage.classList.toggle("over", event.type === "dragover");
  };
  for (const kind of ["dragover", "dragleave", "drop"]) document.addEventListener(kind, over);
  document.addEventListener("drop", ({ dataTransfer }) => take([...dataTransfer.files]));
  document.addEventListener("paste", ({ clipboardData }) => {
    if (clipboardData.files.length) take([...clipboardData.files]);
  });
}

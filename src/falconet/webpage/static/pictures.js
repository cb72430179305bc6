// Pictures as people have them: dropped, pasted or picked files.

const THUMBNAIL = [152, 112];

/** Endings of pictures for which some systems tell browsers no type. */
const PICTURE = /\.(avif|bmp|gif|heic|heif|jfif|jp2|jpe?g|png|tiff?|webp)$/i;
/** Formats that most browsers do not open. */
const FOREIGN = { tif: "TIFF", tiff: "TIFF", heic: "HEIC", heif: "HEIC", jp2: "JPEG 2000" };

/** A picture of a file: its pixels are read when it is looked at, and not kept. */
export class Picture {
  /** @param convert gives a blob that browsers open for one that this one does not; null: nobody does */
  constructor(file, { name = file.name, convert = null } = {}) {
    this.name = name;
    this.blob = file;
    this.convert = convert;
    this.shown = file; // what is opened in the place of the file
    this.answers = new Map();
    this.thumbnail = null;
  }

  /** Its pixels, upright, as an ImageBitmap that belongs to the caller. */
  async open() {
    try {
      return await bitmapOf(this.shown);
    } catch {
      if (!this.convert) throw new Error(`${this.name}: ${cannotOpen(this.name)}`);
    }
    try {
      this.shown = await this.convert(this.blob);
      return await bitmapOf(this.shown);
    } catch (error) {
      throw new Error(`${this.name}: ${error.message}`, { cause: error });
    }
  }
}

function bitmapOf(blob) {
  return createImageBitmap(blob, { imageOrientation: "from-image", colorSpaceConversion: "none" });
}

/** Why a file is not opened, and what helps. */
export function cannotOpen(name) {
  const format = FOREIGN[name.split(".").at(-1).toLowerCase()];
  if (!format) return "this browser cannot open it as a picture.";
  const served = format === "HEIC" ? "" : ", or use the page of 'falconet serve', which opens it";
  return `this browser opens no ${format}. Save it as JPEG or PNG${served}.`;
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
    kinds[kindOf(file)].push(file);
  }
  return kinds;
}

function kindOf({ name, type }) {
  if (type.startsWith("video/")) return "videos";
  return type.startsWith("image/") || (!type && PICTURE.test(name)) ? "pictures" : "others";
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

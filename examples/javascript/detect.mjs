// Detect without Python: npm install, then node detect.mjs model.onnx picture.jpg [classes.txt]
//
// The model was written by 'falconet export RUN --nms' with "resize": "stretch" (the NanoDets); classes.txt has a name
// a line. In a browser the same lines work with a canvas in the place of sharp.
import { readFileSync } from "node:fs";
import * as ort from "onnxruntime-web";
import sharp from "sharp";

const [model, picture, classes] = process.argv.slice(2);
if (!picture) {
  console.error("usage: node detect.mjs model.onnx picture.jpg [classes.txt]");
  process.exit(2);
}
const names = classes ? readFileSync(classes, "utf8").trim().split("\n") : [];
const session = await ort.InferenceSession.create(model);
const [, height, width] = session.inputMetadata[0].shape;

// Pixels: rows, columns, red, green, blue; upright.
const upright = sharp(picture).rotate().removeAlpha().toColourspace("srgb").raw();
const { data, info } = await upright.toBuffer({ resolveWithObject: true });

// As Falconet fits a picture to the input: each side is halved as often as it stays large enough, then interpolated.
// Whoever leaves out the halving finds other boxes in large pictures.
let rgb = { data, width: info.width, height: info.height };
const half = (side, least) => (side >= 2 * least ? side >> 1 : side);
while (rgb.width >= 2 * width || rgb.height >= 2 * height) {
  rgb = bilinear(rgb, half(rgb.width, width), half(rgb.height, height));
}
rgb = bilinear(rgb, width, height).data;
const bgr = Uint8Array.from(rgb, (_, place) => rgb[place - (place % 3) + 2 - (place % 3)]);

const { detections } = await session.run({ pixels: new ort.Tensor("uint8", bgr, [1, height, width, 3]) });
const across = info.width / width;
const down = info.height / height;
for (let row = 0; row < detections.dims[0]; row++) {
  const [x1, y1, x2, y2, score, label] = detections.data.subarray(6 * row, 6 * row + 6);
  const box = [x1 * across, y1 * down, x2 * across, y2 * down].map(Math.round);
  console.log(`${names[label] ?? label} ${score.toFixed(2)} at ${box.join(",")}`);
}

// A picture of three channels at another size; each pixel lies between two neighbours a side.
function bilinear(from, width, height) {
  const columns = neighbours(from.width, width);
  const rows = neighbours(from.height, height);
  const data = new Uint8Array(3 * width * height);
  let place = 0;
  for (const [above, below, down] of rows) {
    for (const [left, right, across] of columns) {
      for (let channel = 0; channel < 3; channel++) {
        const at = (row, column) => from.data[3 * (row * from.width + column) + channel];
        const upper = at(above, left) * (1 - across) + at(above, right) * across;
        const lower = at(below, left) * (1 - across) + at(below, right) * across;
        data[place++] = Math.round(upper * (1 - down) + lower * down);
      }
    }
  }
  return { data, width, height };
}

// For each of `to` pixels of a side: the two of `from` that it lies between, and the share of the second.
function neighbours(from, to) {
  return Array.from({ length: to }, (_, index) => {
    const middle = Math.max(0, ((index + 0.5) * from) / to - 0.5);
    const first = Math.min(Math.floor(middle), from - 1);
    return [first, Math.min(first + 1, from - 1), middle - first];
  });
}

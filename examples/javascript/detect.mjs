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

// Pixels: rows, columns, blue, green, red; upright, stretched to the input.
const upright = sharp(picture).rotate().removeAlpha().toColourspace("srgb").raw();
const { data, info } = await upright.toBuffer({ resolveWithObject: true });
const shape = { width: info.width, height: info.height, channels: info.channels };
const rgb = await sharp(data, { raw: shape }).resize(width, height, { fit: "fill", kernel: "linear" }).raw().toBuffer();
const bgr = Uint8Array.from(rgb, (_, place) => rgb[place - (place % 3) + 2 - (place % 3)]);

const { detections } = await session.run({ pixels: new ort.Tensor("uint8", bgr, [1, height, width, 3]) });
const across = info.width / width;
const down = info.height / height;
for (let row = 0; row < detections.dims[0]; row++) {
  const [x1, y1, x2, y2, score, label] = detections.data.subarray(6 * row, 6 * row + 6);
  const box = [x1 * across, y1 * down, x2 * across, y2 * down].map(Math.round);
  console.log(`${names[label] ?? label} ${score.toFixed(2)} at ${box.join(",")}`);
}

// Fits a picture as the page does: node fit.mjs in.rgba out.bgr {"picture": .., "input": ..}; prints the placement.
import { readFileSync, writeFileSync } from "node:fs";

const { fit } = await import(new URL("../../src/falconet/webpage/static/pixels.js", import.meta.url));
const [from, to, words] = process.argv.slice(2);
const { picture, input } = JSON.parse(words);
const { pixels, ...placement } = fit({ ...picture, data: new Uint8ClampedArray(readFileSync(from)) }, input);
writeFileSync(to, pixels);
console.log(JSON.stringify(placement));

// A picture at the size of the network's input, as Falconet's runtime fits it (falconet.core.resize), and back.

/**
 * @param picture {data: RGBA bytes, width, height}
 * @param input {height, width, resize: "stretch" | "letterbox", pad_value}
 * @returns {pixels: blue, green, red bytes [height, width, 3], scale: [x, y], offset: [x, y]}
 */
export function fit(picture, { height, width, resize, pad_value }) {
  let [innerWidth, innerHeight] = [width, height];
  if (resize === "letterbox") {
    const ratio = Math.min(height / picture.height, width / picture.width);
    innerHeight = Math.min(height, Math.max(1, evenRound(picture.height * ratio)));
    innerWidth = Math.min(width, Math.max(1, evenRound(picture.width * ratio)));
  }
  let fitted = picture;
  // Bilinear interpolation looks at two pixels a side: what shrinks by more is halved first, as often as it may be.
  while (fitted.width >= 2 * innerWidth || fitted.height >= 2 * innerHeight) {
    fitted = bilinear(fitted, half(fitted.width, innerWidth), half(fitted.height, innerHeight));
  }
  if (fitted.width !== innerWidth || fitted.height !== innerHeight) fitted = bilinear(fitted, innerWidth, innerHeight);
  const offset = [(width - innerWidth) >> 1, (height - innerHeight) >> 1];
  return {
    pixels: placed(fitted, offset, { height, width, pad_value }),
    scale: [innerWidth / picture.width, innerHeight / picture.height],
    offset,
  };
}

/** A box of the network's input in pixels of the picture, clipped to it. */
export function toPicture(box, { scale, offset }, { width, height }) {
  const sides = [width, height, width, height];
  return box.map((one, index) => {
    const axis = index % 2;
    return Math.min(sides[index], Math.max(0, (one - offset[axis]) / scale[axis]));
  });
}

function half(side, least) {
  return side >= 2 * least ? side >> 1 : side;
}

/** To the nearest whole number, halves to the even one, as Python rounds. */
function evenRound(value) {
  const floor = Math.floor(value);
  if (value - floor !== 0.5) return Math.round(value);
  return floor % 2 ? floor + 1 : floor;
}

/** Shares are whole numbers of this, and sums are rounded, as OpenCV does it: every pixel becomes what it becomes there. */
const ONE = 2048;

function bilinear(from, width, height) {
  const data = new Uint8ClampedArray(4 * width * height);
  if (from.width === 2 * width && from.height === 2 * height) return { data: averaged(from, data, width, height), width, height };
  const columns = neighbours(from.width, width);
  const rows = neighbours(from.height, height);
  let place = 0;
  for (let row = 0; row < height; row++) {
    const above = rows.first[row] * from.width * 4;
    const below = rows.second[row] * from.width * 4;
    const down = rows.share[row];
    for (let column = 0; column < width; column++, place += 4) {
      const left = 4 * columns.first[column];
      const right = 4 * columns.second[column];
      const across = columns.share[column];
      for (let channel = 0; channel < 3; channel++) {
        const upper = from.data[above + left + channel] * (ONE - across) + from.data[above + right + channel] * across;
        const lower = from.data[below + left + channel] * (ONE - across) + from.data[below + right + channel] * across;
        const sum = (((upper >> 4) * (ONE - down)) >> 16) + (((lower >> 4) * down) >> 16);
        data[place + channel] = (sum + 2) >> 2;
      }
    }
  }
  return { data, width, height };
}

/** Both sides halved: the mean of four pixels. */
function averaged(from, data, width, height) {
  const wide = 4 * from.width;
  let place = 0;
  for (let row = 0; row < height; row++) {
    let start = 2 * row * wide;
    for (let column = 0; column < width; column++, place += 4, start += 8) {
      for (let channel = 0; channel < 3; channel++) {
        const at = start + channel;
        data[place + channel] = (from.data[at] + from.data[at + 4] + from.data[at + wide] + from.data[at + wide + 4] + 2) >> 2;
      }
    }
  }
  return data;
}

/** For each of `to` pixels of a side: the two of `from` that it lies between, and the share of the second. */
function neighbours(from, to) {
  const first = new Int32Array(to);
  const second = new Int32Array(to);
  const share = new Int32Array(to);
  for (let index = 0; index < to; index++) {
    const middle = Math.fround((index + 0.5) * (from / to) - 0.5);
    const before = Math.floor(middle);
    first[index] = Math.max(before, 0);
    second[index] = Math.min(before + 1, from - 1);
    share[index] = evenRound(Math.fround(middle - before) * ONE);
  }
  return { first, second, share };
}

function placed(fitted, [left, top], { height, width, pad_value }) {
  const pixels = new Uint8Array(3 * width * height);
  if (fitted.width !== width || fitted.height !== height) pixels.fill(pad_value);
  let from = 0;
  for (let row = 0; row < fitted.height; row++) {
    let to = 3 * ((row + top) * width + left);
    for (let column = 0; column < fitted.width; column++, from += 4, to += 3) {
      pixels[to] = fitted.data[from + 2];
      pixels[to + 1] = fitted.data[from + 1];
      pixels[to + 2] = fitted.data[from];
    }
  }
  return pixels;
}

// A colour for each class: hues a golden angle apart, so that neighbours differ however many there are.

const GOLDEN_ANGLE = 137.508;
const LIGHTNESS = [55, 45, 65];

export function colour(index) {
  return `hsl(${hueOf(index).toFixed(1)} 85% ${LIGHTNESS[index % LIGHTNESS.length]}%)`;
}

/** Black or white, whichever can be read on the colour of a class. */
export function inkOn(index) {
  const hue = hueOf(index);
  const light = LIGHTNESS[index % LIGHTNESS.length] / 100;
  const reach = 0.85 * Math.min(light, 1 - light);
  const part = (offset) => {
    const step = (offset + hue / 30) % 12;
    return light - reach * Math.max(-1, Math.min(step - 3, 9 - step, 1));
  };
  const [red, green, blue] = [part(0), part(8), part(4)].map((one) =>
    one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4,
  );
  const luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  return luminance > 0.179 ? "#000" : "#fff";
}

function hueOf(index) {
  return (210 + index * GOLDEN_ANGLE) % 360;
}

/**
 * A photo becomes the pixels that the model takes, as `EvalTransform` of keras_convnext makes them:
 * antialiased resampling with Pillow's rounding, one axis after the other, and a crop of the centre.
 *
 * An image is {width, height, data}: data has red, green and blue of each pixel, a Uint8Array.
 */

const LARGEST_SIDE = 16384; // pixels: wider canvases stay empty in some browsers
const MOST_PIXELS = 178956970; // of a resized image
const STRIP = 256; // rows that are read at once: no canvas becomes larger than phones allow
const BITS = 22; // of the fixed-point weights

const FILTERS = {
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - x) },
  bicubic: {
    support: 2,
    weight: (x) => {
      if (x >= 2) return 0;
      return x < 1 ? (1.5 * x - 2.5) * x * x + 1 : ((2.5 - 0.5 * x) * x - 4) * x + 2;
    },
  },
};

/** Returns the image in a file. The browser turns it as its EXIF says; colour profiles are ignored. */
export async function decoded(file) {
  let bitmap;
  try {
    const asStored = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
    bitmap = await createImageBitmap(file, asStored);
  } catch {
    throw new Error("This file is no photo that your browser can read.");
  }
  const { width, height } = bitmap;
  if (width > LARGEST_SIDE) {
    throw new Error(`This photo is ${width} pixels wide; at most ${LARGEST_SIDE} are read here.`);
  }
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = Math.min(STRIP, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.globalCompositeOperation = "copy";
  const data = new Uint8Array(3 * width * height);
  for (let top = 0; top < height; top += STRIP) {
    const rows = Math.min(STRIP, height - top);
    context.drawImage(bitmap, 0, -top);
    const strip = context.getImageData(0, 0, width, rows).data;
    for (let from = 0, to = 3 * width * top; from < strip.length; from += 4, to += 3) {
      data[to] = strip[from];
      data[to + 1] = strip[from + 1];
      data[to + 2] = strip[from + 2];
    }
  }
  bitmap.close();
  return { width, height, data };
}

/**
 * Returns the pixels of an image as the model takes them, Uint8Array.
 *
 * @param image an image
 * @param transform the fields of an `EvalTransform`
 * @param input "channels" (1 or 3) and "layout" ("NHWC" or "NCHW") of the model
 */
export function pixelsOf(image, transform, input) {
  const { size } = transform;
  const [width, height] = resizedSides(image, transform);
  const resized = resize(image, width, height, FILTERS[transform.interpolation]);
  const pixels = cropped(resized, cropStart(width, size), cropStart(height, size), size);
  if (input.channels === 1) return greyOf(pixels);
  return input.layout === "NCHW" ? inPlanes(pixels) : pixels;
}

/** Returns the transform in words. */
export function inWords(transform) {
  const { size, interpolation } = transform;
  const how =
    transform.resize === "squash"
      ? `resized to ${size} × ${size}`
      : `short side ${shortSide(transform)}, centre crop of ${size}`;
  return `${how}, ${interpolation}`;
}

function shortSide({ size, crop_pct, resize_size }) {
  return resize_size ?? Math.trunc(size / (crop_pct ?? 1));
}

function resizedSides({ width, height }, transform) {
  if (transform.resize === "squash") return [transform.size, transform.size];
  const short = Math.min(width, height);
  return [width, height].map((side) => Math.floor((shortSide(transform) * side) / short));
}

/** Returns where the crop begins: halves are rounded to even, borders downwards. */
function cropStart(length, size) {
  const half = (length - size) / 2;
  const below = Math.floor(half);
  if (half < 0) return Math.ceil(half);
  return half === below || below % 2 === 0 ? below : below + 1;
}

function resize(image, width, height, filter) {
  const lostRows = image.height - height;
  const lostColumns = image.width - width;
  const rowsFirst = lostRows > 0 && lostRows > 2 * lostColumns;
  const between = rowsFirst ? image.width * height : width * image.height;
  if (Math.max(between, width * height) > MOST_PIXELS) {
    throw new Error("This photo is too long and narrow for the model.");
  }
  const steps = [
    (found) => withWidth(found, width, filter),
    (found) => withHeight(found, height, filter),
  ];
  if (rowsFirst) steps.reverse();
  return steps.reduce((found, step) => step(found), image);
}

function withWidth({ width, height, data }, wanted, filter) {
  return { width: wanted, height, data: resampled(data, height, width, 3, wanted, filter) };
}

function withHeight({ width, height, data }, wanted, filter) {
  return { width, height: wanted, data: resampled(data, 1, height, 3 * width, wanted, filter) };
}

/** Returns numbers (outer, length, inner) with another length, rounded to 8 bits. */
function resampled(data, outer, length, inner, wanted, filter) {
  if (wanted === length) return data;
  const made = new Uint8Array(outer * wanted * inner);
  const taps = tapsOf(length, wanted, filter);
  for (let part = 0, to = 0; part < outer; part++) {
    for (const { first, weights } of taps) {
      const start = (part * length + first) * inner;
      for (let column = 0; column < inner; column++, to++) {
        let sum = 1 << (BITS - 1);
        for (let tap = 0, from = start + column; tap < weights.length; tap++, from += inner) {
          sum = (sum + Math.imul(weights[tap], data[from])) | 0;
        }
        const value = sum >> BITS;
        made[to] = value < 0 ? 0 : value > 255 ? 255 : value;
      }
    }
  }
  return made;
}

/** Returns for each new pixel the first old one that it is made of, and the weights from there on. */
function tapsOf(length, wanted, { support, weight }) {
  const scale = length / wanted;
  const spread = Math.max(1, scale); // the antialiasing
  return Array.from({ length: wanted }, (_, place) => {
    const centre = (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support * spread + 0.5));
    const last = Math.min(length, Math.trunc(centre + support * spread + 0.5));
    const raw = Array.from({ length: last - first }, (_, tap) =>
      weight(Math.abs((first + tap - centre + 0.5) / spread)),
    );
    const total = raw.reduce((sum, value) => sum + value, 0);
    const fixed = raw.map((value) => fixedPoint(value / total));
    return { first, weights: Int32Array.from(fixed) };
  });
}

function fixedPoint(value) {
  return Math.trunc(value * 2 ** BITS + (value < 0 ? -0.5 : 0.5));
}

/** Returns the square at (left, top); what lies outside of the image is black. */
function cropped({ width, height, data }, left, top, size) {
  const made = new Uint8Array(3 * size * size);
  const firstColumn = Math.max(0, left);
  const lastColumn = Math.min(width, left + size);
  for (let row = Math.max(0, top); row < Math.min(height, top + size); row++) {
    const from = 3 * (row * width + firstColumn);
    const line = data.subarray(from, from + 3 * (lastColumn - firstColumn));
    made.set(line, 3 * ((row - top) * size + firstColumn - left));
  }
  return made;
}

/** Returns the brightness of pixels, as Pillow's mode "L". */
function greyOf(pixels) {
  return Uint8Array.from({ length: pixels.length / 3 }, (_, place) => {
    const [red, green, blue] = pixels.subarray(3 * place, 3 * place + 3);
    return (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16;
  });
}

/** Returns all red numbers, then all green and all blue ones. */
function inPlanes(pixels) {
  const count = pixels.length / 3;
  return pixels.map((_, place) => pixels[3 * (place % count) + Math.floor(place / count)]);
}

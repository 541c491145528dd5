// Tiles: where they come from, and what is in them. A tile is [height, width, value, error, source and reason];
// value and error are grey PNGs or JPEGs, source and reason a PNG (red: source; green and blue: reason) or one number.

const OUTSIDE = 254;
const UNFILLED = 255;

function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
  return bytes;
}

async function pixelsOf(base64, width, height) {
  const type = base64.startsWith("/9j/") ? "image/jpeg" : "image/png";
  const blob = new Blob([bytesOf(base64)], { type });
  const options = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const bitmap = await createImageBitmap(blob, options);
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, width, height).data;
}

function everyFourth(data) {
  const red = new Uint8Array(data.length / 4);
  for (let i = 0; i < red.length; i += 1) red[i] = data[4 * i];
  return red;
}

async function decoded([height, width, value, error, gaps]) {
  const size = height * width;
  const tile = { height, width, value: null, error: null, source: new Uint8Array(size), reason: new Uint16Array(size) };
  if (value !== null) tile.value = everyFourth(await pixelsOf(value, width, height));
  if (error !== null) tile.error = everyFourth(await pixelsOf(error, width, height));
  if (typeof gaps === "number") {
    tile.source.fill(gaps);
    return tile;
  }
  const data = await pixelsOf(gaps, width, height);
  for (let i = 0; i < size; i += 1) {
    tile.source[i] = data[4 * i];
    tile.reason[i] = 256 * data[4 * i + 1] + data[4 * i + 2];
  }
  return tile;
}

// The tiles of a page: inside the file, or asked of the server that the page came from.
class TileStore {
  constructor(inside, whenDecoded) {
    this.inside = inside;
    this.whenDecoded = whenDecoded;
    this.decoded = new Map();
    this.waiting = new Set();
    this.failed = new Set();
  }

  has(key) {
    return this.inside === null ? !this.failed.has(key) : key in this.inside;
  }

  get busy() {
    return this.waiting.size > 0;
  }

  // The decoded tile if it is at hand; otherwise null, and `whenDecoded` is called once it is.
  peek(key) {
    const found = this.decoded.get(key);
    if (found !== undefined) {
      this.decoded.delete(key); // the last one used is the last one to go
      this.decoded.set(key, found);
      return found;
    }
    if (this.has(key) && !this.waiting.has(key)) this.load(key);
    return null;
  }

  async load(key) {
    this.waiting.add(key);
    try {
      this.decoded.set(key, await decoded(this.inside === null ? await this.fetched(key) : this.inside[key]));
      while (this.decoded.size > 600) this.decoded.delete(this.decoded.keys().next().value);
    } catch (error) {
      this.failed.add(key);
      if (this.inside !== null) delete this.inside[key];
    } finally {
      this.waiting.delete(key);
      this.whenDecoded();
    }
  }

  async fetched(key) {
    const answer = await fetch(`tiles/${key}`);
    if (!answer.ok) throw new Error(`${key}: ${answer.status}`);
    return answer.json();
  }
}
